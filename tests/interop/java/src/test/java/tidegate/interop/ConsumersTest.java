package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Where a consumer starts, how it waits, and how offsets are looked up. */
class ConsumersTest extends BrokerTest {
    private static List<Long> offsets(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(ConsumerRecord::offset).toList();
    }

    private static List<Long> range(long from, long to) {
        return LongStream.range(from, to).boxed().toList();
    }

    /** Partition 0 of a fresh topic that holds so many records. */
    private TopicPartition filledPartition(int records) throws Exception {
        String topic = broker.createTopic(1);
        broker.produce(topic, numbered(records), Map.of("linger.ms", "50"));
        return new TopicPartition(topic, 0);
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 37, 99, 100, 150, 199})
    void readingStartsAtAnyOffsetEvenInsideABatch(int start) throws Exception {
        TopicPartition partition = filledPartition(100);
        broker.produce(partition.topic(), numbered(100), Map.of("linger.ms", "50", "compression.type", "zstd"));
        assertEquals(range(start, 200), offsets(Broker.take(broker.consumerAt(partition, start), 200 - start)));
    }

    @Test
    void seekGoesBackAndForth() throws Exception {
        TopicPartition partition = filledPartition(300);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of("max.poll.records", "20"));
        consumer.assign(List.of(partition));
        for (long offset : List.of(250L, 3L, 120L)) {
            consumer.seek(partition, offset);
            assertEquals(range(offset, offset + 20), offsets(Broker.take(consumer, 20)));
            assertEquals(offset + 20, consumer.position(partition));
        }
    }

    @Test
    void aConsumerAtTheEndSeesOnlyWhatComesAfter() throws Exception {
        TopicPartition partition = filledPartition(10);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of());
        consumer.assign(List.of(partition));
        consumer.seekToEnd(List.of(partition));
        assertTrue(consumer.poll(Duration.ofSeconds(1)).isEmpty());
        broker.produce(partition.topic(), numbered(1), Map.of());
        assertEquals(List.of(10L), offsets(Broker.take(consumer, 1)));
    }

    @Test
    void anOffsetOutOfRangeIsReportedWhenNoResetIsWanted() throws Exception {
        KafkaConsumer<byte[], byte[]> consumer = broker.consumerAt(filledPartition(3), 5000);
        assertThrows(OffsetOutOfRangeException.class, () -> Broker.take(consumer, 1));
    }

    @ParameterizedTest
    @CsvSource({"earliest, 0", "latest, 3"})
    void anOffsetOutOfRangeIsReset(String reset, long position) throws Exception {
        TopicPartition partition = filledPartition(3);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of("auto.offset.reset", reset));
        consumer.assign(List.of(partition));
        consumer.seek(partition, 5000);
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            consumer.poll(Duration.ofMillis(100)).forEach(read::add);
        }
        assertEquals(range(position, 3), offsets(read));
        assertEquals(3, consumer.position(partition));
    }

    @Test
    void aRecordLargerThanTheFetchLimitsIsReadNevertheless() throws Exception {
        String topic = broker.createTopic(1);
        for (int i = 0; i < 5; i++) {
            broker.produce(topic, List.of(new byte[60_000]), Map.of());
        }
        KafkaConsumer<byte[], byte[]> consumer =
                broker.consumer(Map.of("fetch.max.bytes", "1000", "max.partition.fetch.bytes", "1000"));
        consumer.assign(List.of(new TopicPartition(topic, 0)));
        consumer.seekToBeginning(consumer.assignment());
        assertEquals(range(0, 5), offsets(Broker.take(consumer, 5)));
    }

    @Test
    void aWaitingConsumerGetsANewRecordPromptly() throws Exception {
        TopicPartition partition = filledPartition(1);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of("fetch.max.wait.ms", "8000"));
        consumer.assign(List.of(partition));
        consumer.seek(partition, 1);
        assertTrue(consumer.poll(Duration.ofSeconds(2)).isEmpty());
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of("linger.ms", "0"));
        Broker.get(producer.send(new ProducerRecord<>(partition.topic(), 0, null, bytes("new"))));
        long acknowledged = System.nanoTime();
        assertEquals(List.of(1L), offsets(Broker.take(consumer, 1)));
        assertTrue(System.nanoTime() - acknowledged < Duration.ofSeconds(1).toNanos());
    }

    @Test
    void anIdleConsumerWaitsInTheBrokerAndDoesNotSpin() throws Exception {
        TopicPartition partition = filledPartition(1);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of("fetch.max.wait.ms", "1000"));
        consumer.assign(List.of(partition));
        consumer.seek(partition, 1);
        consumer.poll(Duration.ofMillis(500));
        double before = fetchesOf(consumer);
        long end = System.nanoTime() + Duration.ofSeconds(4).toNanos();
        while (System.nanoTime() < end) {
            assertTrue(consumer.poll(Duration.ofMillis(200)).isEmpty());
        }
        double fetches = fetchesOf(consumer) - before;
        assertTrue(fetches >= 2 && fetches <= 7, fetches + " fetches in 4 s with a wait of 1 s");
    }

    private static double fetchesOf(KafkaConsumer<byte[], byte[]> consumer) {
        return consumer.metrics().entrySet().stream()
                .filter(m -> m.getKey().name().equals("fetch-total") && m.getKey().tags().size() == 1)
                .mapToDouble(m -> (Double) m.getValue().metricValue())
                .sum();
    }

    @Test
    void aFetchSessionOverManyPartitionsDeliversOnlyWhatIsNew() throws Exception {
        String topic = broker.createTopic(20);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of());
        consumer.assign(Broker.partitions(topic, 20));
        consumer.seekToBeginning(consumer.assignment());
        assertTrue(consumer.poll(Duration.ofSeconds(1)).isEmpty());
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of());
        for (int partition : List.of(3, 17, 3, 0)) {
            Broker.get(producer.send(new ProducerRecord<>(topic, partition, null, bytes("x"))));
            assertEquals(partition, Broker.take(consumer, 1).get(0).partition());
        }
        consumer.assign(Broker.partitions(topic, 10));
        consumer.seekToBeginning(consumer.assignment());
        assertEquals(3, Broker.take(consumer, 3).size());
    }

    @Test
    void pausedPartitionsRestAndGoOnAfterResume() throws Exception {
        String topic = broker.createTopic(2);
        TopicPartition one = new TopicPartition(topic, 1);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of());
        consumer.assign(Broker.partitions(topic, 2));
        consumer.seekToBeginning(consumer.assignment());
        consumer.pause(List.of(one));
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of());
        for (int partition : List.of(0, 1)) {
            Broker.get(producer.send(new ProducerRecord<>(topic, partition, null, bytes("x"))));
        }
        assertEquals(0, Broker.take(consumer, 1).get(0).partition());
        assertTrue(consumer.poll(Duration.ofSeconds(1)).isEmpty());
        consumer.resume(List.of(one));
        assertEquals(1, Broker.take(consumer, 1).get(0).partition());
    }

    /** Offsets 0 to 4 at these times after the first; the third is ahead of those that follow. */
    private TopicPartition timestampedPartition(long first) throws Exception {
        String topic = broker.createTopic(1);
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of("linger.ms", "0"));
        for (long after : List.of(0L, 1000L, 30_000L, 3000L, 4000L)) {
            Broker.get(producer.send(new ProducerRecord<>(topic, 0, first + after, null, bytes("x"))));
        }
        return new TopicPartition(topic, 0);
    }

    @Test
    void offsetsForTimesFindsTheFirstRecordNotOlder() throws Exception {
        long first = System.currentTimeMillis() - 1_000_000;
        TopicPartition partition = timestampedPartition(first);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of());
        Map<Long, Long> offsetByTime = Map.of(
                -500_000L, 0L, 0L, 0L, 1L, 1L, 1000L, 1L, 1001L, 2L, 4000L, 2L, 30_000L, 2L);
        for (Map.Entry<Long, Long> entry : offsetByTime.entrySet()) {
            OffsetAndTimestamp found = offsetFor(consumer, partition, first + entry.getKey());
            assertEquals(entry.getValue(), found.offset(), "at " + entry.getKey());
        }
        assertEquals(first + 1000, offsetFor(consumer, partition, first + 1).timestamp());
        assertEquals(null, offsetFor(consumer, partition, first + 30_001));
    }

    private static OffsetAndTimestamp offsetFor(
            KafkaConsumer<byte[], byte[]> consumer, TopicPartition partition, long timestamp) {
        return consumer.offsetsForTimes(Map.of(partition, timestamp)).get(partition);
    }

    @Test
    void listOffsetsKnowsEarliestLatestAndMaxTimestamp() throws Exception {
        long first = System.currentTimeMillis() - 1_000_000;
        TopicPartition partition = timestampedPartition(first);
        assertEquals(0, listed(partition, OffsetSpec.earliest()).offset());
        assertEquals(5, listed(partition, OffsetSpec.latest()).offset());
        ListOffsetsResultInfo max = listed(partition, OffsetSpec.maxTimestamp());
        assertEquals(2, max.offset());
        assertEquals(first + 30_000, max.timestamp());
        ListOffsetsResultInfo at = listed(partition, OffsetSpec.forTimestamp(first + 1));
        assertEquals(1, at.offset());
        assertEquals(first + 1000, at.timestamp());
    }

    private ListOffsetsResultInfo listed(TopicPartition partition, OffsetSpec spec) throws Exception {
        return Broker.get(broker.admin.listOffsets(Map.of(partition, spec)).partitionResult(partition));
    }

    @Test
    void listOffsetsOfAnEmptyPartitionFindsNoRecord() throws Exception {
        TopicPartition partition = new TopicPartition(broker.createTopic(1), 0);
        assertEquals(0, listed(partition, OffsetSpec.earliest()).offset());
        assertEquals(0, listed(partition, OffsetSpec.latest()).offset());
        assertEquals(-1, listed(partition, OffsetSpec.maxTimestamp()).offset());
        assertEquals(-1, listed(partition, OffsetSpec.forTimestamp(1)).offset());
    }

    @Test
    void beginningAndEndOffsetsAreTheEndsOfTheLog() throws Exception {
        TopicPartition partition = filledPartition(12);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of());
        assertEquals(Map.of(partition, 0L), consumer.beginningOffsets(List.of(partition)));
        assertEquals(Map.of(partition, 12L), consumer.endOffsets(List.of(partition)));
        consumer.assign(List.of(partition));
        consumer.seek(partition, 5);
        Broker.take(consumer, 7);
        assertEquals(0, consumer.currentLag(partition).orElseThrow());
    }

    @Test
    void anUnknownTopicIsNotCreatedUnlessAllowed() throws Exception {
        String topic = broker.unusedName("nobody");
        KafkaConsumer<byte[], byte[]> strict = broker.consumer(Map.of("allow.auto.create.topics", "false"));
        assertEquals(List.of(), strict.partitionsFor(topic));
        assertFalse(broker.lists(topic));
        KafkaConsumer<byte[], byte[]> lenient = broker.consumer(Map.of("allow.auto.create.topics", "true"));
        lenient.partitionsFor(topic);
        Broker.waitUntil("the topic is listed", () -> broker.lists(topic));
    }
}
