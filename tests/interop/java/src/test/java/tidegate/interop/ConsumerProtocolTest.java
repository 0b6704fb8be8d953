package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Groups whose partitions the broker shares out (KIP-848), also together with classic consumers. */
@Timeout(180)
class ConsumerProtocolTest extends BrokerTest {
    private static final int PARTITIONS = 6;

    private final Set<String> read = new HashSet<>();

    private KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, String> overrides) {
        Map<String, String> configs = new HashMap<>(Map.of(
                "group.id", group, "group.protocol", "consumer", "auto.offset.reset", "earliest",
                "enable.auto.commit", "false"));
        configs.putAll(overrides);
        return broker.consumer(configs);
    }

    private KafkaConsumer<byte[], byte[]> subscribed(String group, String topic, Map<String, String> overrides) {
        KafkaConsumer<byte[], byte[]> consumer = consumer(group, overrides);
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private KafkaConsumer<byte[], byte[]> classic(String group, String topic, String assignor) {
        return subscribed(group, topic, Map.of(
                "group.protocol", "classic", "partition.assignment.strategy", assignor,
                "session.timeout.ms", "10000", "heartbeat.interval.ms", "1000"));
    }

    private void produce(String topic, int from, int to) throws Exception {
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of());
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = from; i < to; i++) {
            records.add(new ProducerRecord<>(topic, i % PARTITIONS, null, bytes(Integer.toString(i))));
        }
        Broker.send(producer, records);
    }

    /** Polls until each has its share and all partitions are somebody's, and commits what was read. */
    private void share(String topic, List<Integer> shares, List<KafkaConsumer<byte[], byte[]>> consumers) {
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (true) {
            consumers.forEach(this::poll);
            List<Integer> sizes = consumers.stream().map(c -> c.assignment().size()).sorted().toList();
            Set<TopicPartition> all = new HashSet<>();
            consumers.forEach(c -> all.addAll(c.assignment()));
            if (sizes.equals(shares) && all.equals(Set.copyOf(Broker.partitions(topic, PARTITIONS)))) {
                return;
            }
            assertTrue(System.nanoTime() < deadline, "not within 60 s: " + shares + ", but " + sizes);
        }
    }

    private void poll(Consumer<byte[], byte[]> consumer) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
            read.add(text(record.value()));
        }
        try {
            consumer.commitSync();
        } catch (CommitFailedException | RebalanceInProgressException e) {
            // A classic consumer that has to join again: what it read is read once more.
        }
    }

    /** All records are read, and no more than that is committed. */
    private void finish(String group, int count, List<KafkaConsumer<byte[], byte[]>> consumers) throws Exception {
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (read.size() < count) {
            consumers.forEach(this::poll);
            assertTrue(System.nanoTime() < deadline, "only " + read.size() + " read");
        }
        Map<TopicPartition, OffsetAndMetadata> committed =
                Broker.get(broker.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        assertEquals(count, committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum());
    }

    private ConsumerGroupDescription described(String group) throws Exception {
        return Broker.get(broker.admin.describeConsumerGroups(List.of(group)).all()).get(group);
    }

    @ParameterizedTest
    @ValueSource(strings = {"uniform", "range"})
    void membersThatComeAndGoReadEverything(String assignor) throws Exception {
        String topic = broker.createTopic(PARTITIONS);
        String group = broker.unusedName("g");
        Map<String, String> remote = Map.of("group.remote.assignor", assignor);
        produce(topic, 0, 600);
        List<KafkaConsumer<byte[], byte[]>> consumers = new ArrayList<>();
        consumers.add(subscribed(group, topic, remote));
        share(topic, List.of(6), consumers);
        consumers.add(subscribed(group, topic, remote));
        consumers.add(subscribed(group, topic, remote));
        share(topic, List.of(2, 2, 2), consumers);
        ConsumerGroupDescription described = described(group);
        assertEquals(GroupType.CONSUMER, described.type());
        assertEquals(GroupState.STABLE, described.groupState());
        assertEquals(3, described.members().size());
        assertEquals(assignor, described.partitionAssignor());
        produce(topic, 600, 1200);
        consumers.remove(0).close();
        share(topic, List.of(3, 3), consumers);
        finish(group, 1200, consumers);
        for (KafkaConsumer<byte[], byte[]> consumer : consumers) {
            consumer.close();
        }
        Broker.waitUntil("the group is empty", () -> described(group).groupState() == GroupState.EMPTY);
        Broker.get(broker.admin.deleteConsumerGroups(List.of(group)).all());
    }

    @Test
    void aRegularExpressionFindsTopicsThatComeLater() throws Exception {
        String prefix = broker.unusedName("r");
        KafkaConsumer<byte[], byte[]> consumer = consumer(broker.unusedName("g"), Map.of());
        consumer.subscribe(new SubscriptionPattern(prefix + "-[ab]"));
        broker.createTopic(prefix + "-a", PARTITIONS);
        share(prefix + "-a", List.of(6), List.of(consumer));
        broker.createTopic(prefix + "-c", 1);
        broker.createTopic(prefix + "-b", 1);
        Broker.waitUntil("both are read", () -> {
            consumer.poll(Duration.ofMillis(100));
            return consumer.assignment().size() == PARTITIONS + 1;
        });
    }

    @Test
    void aStaticMemberComesBackToWhatItHad() throws Exception {
        String topic = broker.createTopic(PARTITIONS);
        String group = broker.unusedName("g");
        Map<String, String> named = Map.of("group.instance.id", "i");
        KafkaConsumer<byte[], byte[]> other = subscribed(group, topic, Map.of());
        KafkaConsumer<byte[], byte[]> first = subscribed(group, topic, named);
        share(topic, List.of(3, 3), List.of(other, first));
        Set<TopicPartition> own = first.assignment();
        first.close();
        KafkaConsumer<byte[], byte[]> second = subscribed(group, topic, named);
        share(topic, List.of(3, 3), List.of(other, second));
        assertEquals(own, second.assignment());
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "org.apache.kafka.clients.consumer.RangeAssignor",
        "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
    })
    void aGroupGoesOverToTheConsumerProtocolAndBackWhileItReads(String assignor) throws Exception {
        String topic = broker.createTopic(PARTITIONS);
        String group = broker.unusedName("g");
        produce(topic, 0, 300);
        KafkaConsumer<byte[], byte[]> old = classic(group, topic, assignor);
        share(topic, List.of(6), List.of(old));
        assertEquals(GroupType.CLASSIC, described(group).type());

        KafkaConsumer<byte[], byte[]> upgraded = subscribed(group, topic, Map.of());
        share(topic, List.of(3, 3), List.of(old, upgraded));
        assertEquals(GroupType.CONSUMER, described(group).type());
        produce(topic, 300, 600);
        KafkaConsumer<byte[], byte[]> another = classic(group, topic, assignor);
        share(topic, List.of(2, 2, 2), List.of(old, upgraded, another));
        old.close();
        share(topic, List.of(3, 3), List.of(upgraded, another));
        upgraded.close();
        share(topic, List.of(6), List.of(another));
        assertEquals(GroupType.CLASSIC, described(group).type());
        finish(group, 600, List.of(another));
    }
}
