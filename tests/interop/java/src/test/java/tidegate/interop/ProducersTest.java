package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Acknowledgements, idempotence, partitions, and many producers at once. */
class ProducersTest extends BrokerTest {
    private static final Map<String, String> PLAIN = Map.of("enable.idempotence", "false");

    private List<String> valuesOf(String topic, int count) {
        return broker.readAll(topic, count).stream().map(r -> text(r.value())).toList();
    }

    private static List<String> numberedTexts(int count) {
        return IntStream.range(0, count).mapToObj(Integer::toString).toList();
    }

    @ParameterizedTest
    @ValueSource(strings = {"1", "all"})
    void acknowledgedRecordsHaveTheirOffsets(String acks) throws Exception {
        String topic = broker.createTopic(1);
        Map<String, String> config = new HashMap<>(PLAIN);
        config.put("acks", acks);
        assertEquals(
                LongStream.range(0, 1000).boxed().toList(), broker.produce(topic, numbered(1000), config));
        assertEquals(numberedTexts(1000), valuesOf(topic, 1000));
    }

    @Test
    void acksZeroGetsNoReplyAndKeepsTheConnection() throws Exception {
        String topic = broker.createTopic(1);
        KafkaProducer<byte[], byte[]> producer =
                broker.producer(Map.of("enable.idempotence", "false", "acks", "0"));
        for (byte[] value : numbered(1000)) {
            RecordMetadata sent = Broker.get(producer.send(new ProducerRecord<>(topic, 0, null, value)));
            assertFalse(sent.hasOffset());
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        List<ConsumerRecord<byte[], byte[]>> read = Broker.take(broker.consumerAt(partition, 0), 1000);
        assertEquals(numberedTexts(1000), read.stream().map(r -> text(r.value())).toList());
    }

    @Test
    void anIdempotentProducerWritesEachRecordOnceAndInOrder() throws Exception {
        String topic = broker.createTopic(1);
        Map<String, String> config = Map.of("enable.idempotence", "true", "batch.size", "4096", "linger.ms", "1");
        assertEquals(
                LongStream.range(0, 20_000).boxed().toList(), broker.produce(topic, numbered(20_000), config));
        assertEquals(numberedTexts(20_000), valuesOf(topic, 20_000));
    }

    @Test
    void eachOfManyPartitionsHasItsOwnLog() throws Exception {
        String topic = broker.createTopic(40);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            for (int p = 0; p < 40; p++) {
                records.add(new ProducerRecord<>(topic, p, null, bytes(p + ":" + i)));
            }
        }
        Broker.send(broker.producer(Map.of()), records);
        Map<Integer, List<String>> expected = new HashMap<>();
        records.forEach(r -> expected.computeIfAbsent(r.partition(), p -> new ArrayList<>()).add(text(r.value())));
        assertEquals(expected, byPartition(topic, 40, 2000));
    }

    /** The values of all partitions from their beginning; offsets must be without a gap. */
    private Map<Integer, List<String>> byPartition(String topic, int partitions, int count) {
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(Map.of());
        consumer.assign(Broker.partitions(topic, partitions));
        consumer.seekToBeginning(consumer.assignment());
        Map<Integer, List<String>> seen = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : Broker.take(consumer, count)) {
            List<String> values = seen.computeIfAbsent(record.partition(), p -> new ArrayList<>());
            assertEquals(values.size(), record.offset());
            values.add(text(record.value()));
        }
        return seen;
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void producersInParallelLoseAndReorderNothing(boolean idempotent) throws Exception {
        String topic = broker.createTopic(4);
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<List<RecordMetadata>>> runs = new ArrayList<>();
        for (int name = 0; name < 4; name++) {
            KafkaProducer<byte[], byte[]> producer = broker.producer(
                    Map.of("enable.idempotence", Boolean.toString(idempotent), "compression.type", "lz4"));
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int i = 0; i < 4000; i++) {
                records.add(new ProducerRecord<>(topic, i % 4, null, bytes(name + ":" + i)));
            }
            runs.add(threads.submit(() -> Broker.send(producer, records)));
        }
        for (Future<List<RecordMetadata>> run : runs) {
            Broker.get(run);
        }
        threads.shutdown();

        Map<Integer, List<String>> seen = byPartition(topic, 4, 16_000);
        for (int name = 0; name < 4; name++) {
            String prefix = name + ":";
            for (int p = 0; p < 4; p++) {
                List<String> expected = IntStream.iterate(p, i -> i < 4000, i -> i + 4)
                        .mapToObj(i -> prefix + i)
                        .toList();
                assertEquals(expected, seen.get(p).stream().filter(v -> v.startsWith(prefix)).toList());
            }
        }
    }

    @Test
    void aTopicThatNobodyCreatedComesWithTheFirstRecord() throws Exception {
        String topic = broker.unusedName("auto");
        assertEquals(List.of(0L, 1L), broker.produce(topic, numbered(2), Map.of()));
        assertEquals(List.of("0", "1"), valuesOf(topic, 2));
    }
}
