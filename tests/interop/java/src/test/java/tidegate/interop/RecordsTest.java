package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What is produced is what is consumed, bit by bit. */
class RecordsTest extends BrokerTest {
    private static List<byte[]> halfCompressible(int count) {
        Random random = new Random(7);
        List<byte[]> values = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] value = new byte[40 + i % 200];
            random.nextBytes(value);
            Arrays.fill(value, 40, value.length, (byte) 'a');
            values.add(value);
        }
        return values;
    }

    private static void assertValues(List<byte[]> expected, List<ConsumerRecord<byte[], byte[]>> records) {
        for (int i = 0; i < expected.size(); i++) {
            assertArrayEquals(expected.get(i), records.get(i).value(), "record " + i);
            assertEquals(i, records.get(i).offset());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"none", "gzip", "snappy", "lz4", "zstd"})
    void everyCodecRoundTripsByteExact(String codec) throws Exception {
        String topic = broker.createTopic(1);
        List<byte[]> values = halfCompressible(500);
        List<Long> offsets = broker.produce(topic, values, Map.of("compression.type", codec, "linger.ms", "50"));
        assertEquals(LongStream.range(0, 500).boxed().toList(), offsets);
        assertValues(values, broker.readAll(topic, 500));
    }

    @Test
    void nullAndEmptyAreToldApartInKeyAndValue() throws Exception {
        String topic = broker.createTopic(1);
        List<String> parts = Arrays.asList(null, "", "text");
        List<List<String>> pairs =
                parts.stream().flatMap(k -> parts.stream().map(v -> Arrays.asList(k, v))).toList();
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (List<String> pair : pairs) {
            records.add(new ProducerRecord<>(topic, 0, bytesOrNull(pair.get(0)), bytesOrNull(pair.get(1))));
        }
        Broker.send(broker.producer(Map.of()), records);
        List<List<String>> read = broker.readAll(topic, pairs.size()).stream()
                .map(r -> Arrays.asList(text(r.key()), text(r.value())))
                .toList();
        assertEquals(pairs, read);
    }

    private static byte[] bytesOrNull(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    @Test
    void headersKeepOrderRepeatsNullsAndBytes() throws Exception {
        String topic = broker.createTopic(1);
        List<Header> headers = List.of(
                new RecordHeader("a", bytes("1")),
                new RecordHeader("null", (byte[]) null),
                new RecordHeader("empty", new byte[0]),
                new RecordHeader("a", bytes("again")),
                new RecordHeader("", bytes("empty key")),
                new RecordHeader("ключ-😀", new byte[] {0, -1, 127, -128}));
        Broker.send(
                broker.producer(Map.of()),
                List.of(
                        new ProducerRecord<byte[], byte[]>(topic, 0, null, bytes("with"), headers),
                        new ProducerRecord<>(topic, 0, null, bytes("without"))));
        List<ConsumerRecord<byte[], byte[]>> read = broker.readAll(topic, 2);
        assertEquals(headers, Arrays.asList(read.get(0).headers().toArray()));
        assertEquals(0, read.get(1).headers().toArray().length);
    }

    @Test
    void recordsOfOneMegabyteRoundTrip() throws Exception {
        String topic = broker.createTopic(1);
        List<byte[]> values = Stream.generate(() -> randomBytes(1_000_000)).limit(3).toList();
        broker.produce(topic, values, Map.of("max.request.size", "1040000"));
        assertValues(values, broker.readAll(topic, 3));
    }

    private static byte[] randomBytes(int length) {
        byte[] bytes = new byte[length];
        new Random(length).nextBytes(bytes);
        return bytes;
    }

    @Test
    void aRecordOverTheBrokersLimitIsRefusedAndTheNextOneTaken() throws Exception {
        String topic = broker.createTopic(1);
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of("max.request.size", "4000000"));
        ProducerRecord<byte[], byte[]> tooLarge = new ProducerRecord<>(topic, 0, null, randomBytes(2_000_000));
        assertThrows(RecordTooLargeException.class, () -> Broker.get(producer.send(tooLarge)));
        ProducerRecord<byte[], byte[]> small = new ProducerRecord<>(topic, 0, null, bytes("small"));
        assertEquals(0, Broker.get(producer.send(small)).offset());
    }

    @Test
    void aBatchOverTheBrokersLimitIsSplitByTheProducer() throws Exception {
        String topic = broker.createTopic(1);
        List<byte[]> values = Stream.generate(() -> randomBytes(300_000)).limit(10).toList();
        Map<String, String> largeBatches =
                Map.of("max.request.size", "4000000", "batch.size", "3500000", "linger.ms", "500");
        assertEquals(
                LongStream.range(0, 10).boxed().toList(),
                broker.produce(topic, values, largeBatches).stream().sorted().toList());
        broker.readAll(topic, 10);
    }

    @Test
    void createTimeIsKeptToTheMillisecond() throws Exception {
        String topic = broker.createTopic(1);
        long now = System.currentTimeMillis();
        List<Long> timestamps = List.of(now, now - 86_400_000, now - 1, now - 12_345_678, 1L);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (long timestamp : timestamps) {
            records.add(new ProducerRecord<>(topic, 0, timestamp, null, bytes("x")));
        }
        Broker.send(broker.producer(Map.of("linger.ms", "50")), records);
        List<ConsumerRecord<byte[], byte[]>> read = broker.readAll(topic, 5);
        assertEquals(timestamps, read.stream().map(ConsumerRecord::timestamp).toList());
        assertEquals(TimestampType.CREATE_TIME, read.get(0).timestampType());
    }

    @Test
    void aTimestampFarInTheFutureIsRefused() throws Exception {
        String topic = broker.createTopic(1);
        long tomorrow = System.currentTimeMillis() + 86_400_000;
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of());
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, tomorrow, null, bytes("x"));
        assertThrows(InvalidTimestampException.class, () -> Broker.get(producer.send(record)));
    }
}
