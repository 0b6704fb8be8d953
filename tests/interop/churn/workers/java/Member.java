import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group in Java: NAME BOOTSTRAP TOPIC GROUP STRATEGY. See ../../README.md for what it prints. */
public class Member {
    private static final Map<String, String> ASSIGNORS = Map.of(
        "range", "org.apache.kafka.clients.consumer.RangeAssignor",
        "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");

    /** What is read and not committed yet. A commit during a rebalance is refused, and partitions may be kept over it. */
    private static final Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();

    static synchronized void say(String words) {
        System.out.println(ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()) + " " + words);
        System.out.flush();
    }

    static void say(String event, Collection<TopicPartition> partitions) {
        say(event + partitions.stream().map(p -> " " + p.partition()).collect(Collectors.joining()));
    }

    static Properties properties(String name, String bootstrap, String group, String strategy) {
        Properties properties = new Properties();
        properties.put("client.id", name);
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", group);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("max.poll.records", "200");
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        if (strategy.equals("consumer")) {
            properties.put("group.protocol", "consumer");
        } else {
            properties.put("partition.assignment.strategy", ASSIGNORS.get(strategy));
            properties.put("session.timeout.ms", "6000");
            properties.put("heartbeat.interval.ms", "1000");
        }
        return properties;
    }

    public static void main(String[] args) throws InterruptedException {
        var consumer = new KafkaConsumer<String, String>(properties(args[0], args[1], args[3], args[4]));
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                main.join();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }));
        consumer.subscribe(List.of(args[2]), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                say("assigned", partitions);
            }

            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                next.keySet().removeAll(partitions);
                say("revoked", partitions);
            }
        });
        try (consumer) {
            while (true) {
                step(consumer);
            }
        } catch (WakeupException e) {
            // Asked to stop: what is read is committed, and closing leaves the group.
        }
    }

    static void step(KafkaConsumer<String, String> consumer) {
        for (var record : consumer.poll(Duration.ofMillis(100))) {
            say("read " + record.partition() + " " + record.offset() + " " + record.value());
            next.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        if (next.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(new HashMap<>(next));
            next.forEach((partition, at) -> say("committed " + partition.partition() + " " + at.offset()));
            next.clear();
        } catch (WakeupException e) {
            throw e;
        } catch (KafkaException e) {
            say("refused " + e.getClass().getSimpleName());
        }
    }
}
