package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The broker at $BOOTSTRAP: makes clients with the suite's defaults, and creates, produces and reads for the tests. */
final class Broker implements AutoCloseable {
    private static final Duration REPLY_TIMEOUT = Duration.ofSeconds(20);

    final String bootstrap = System.getenv("BOOTSTRAP");
    final Admin admin = Admin.create(properties(Map.of()));
    private final List<AutoCloseable> clients = new ArrayList<>(List.of(admin));

    private Properties properties(Map<String, ?> overrides) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("default.api.timeout.ms", "20000");
        properties.put("request.timeout.ms", "15000");
        properties.putAll(overrides);
        return properties;
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, ?> overrides) {
        Properties properties = properties(Map.of("delivery.timeout.ms", "60000", "max.block.ms", "20000"));
        properties.remove("default.api.timeout.ms");
        properties.putAll(overrides);
        return closeLater(new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer()));
    }

    /** A consumer without a group, for assign(). */
    KafkaConsumer<byte[], byte[]> consumer(Map<String, ?> overrides) {
        Properties properties = properties(Map.of("auto.offset.reset", "none"));
        properties.putAll(overrides);
        return closeLater(new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer()));
    }

    /** A consumer that is about to read a partition from an offset. */
    KafkaConsumer<byte[], byte[]> consumerAt(TopicPartition partition, long offset) {
        KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of());
        consumer.assign(List.of(partition));
        consumer.seek(partition, offset);
        return consumer;
    }

    private <T extends AutoCloseable> T closeLater(T client) {
        clients.add(client);
        return client;
    }

    String unusedName(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 13);
    }

    String createTopic(int partitions) throws Exception {
        String topic = unusedName("t");
        createTopic(topic, partitions);
        return topic;
    }

    /** Creates a topic; a fresh one may be known before its leaders serve it, so this waits for them. */
    void createTopic(String topic, int partitions) throws Exception {
        get(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all());
        Map<TopicPartition, OffsetSpec> query =
                partitions(topic, partitions).stream().collect(Collectors.toMap(p -> p, p -> OffsetSpec.latest()));
        waitUntil("the leaders of " + topic + " answer", () -> {
            try {
                return get(admin.listOffsets(query).all()).size() == partitions;
            } catch (RetriableException e) {
                return false;
            }
        });
    }

    static List<TopicPartition> partitions(String topic, int count) {
        return IntStream.range(0, count).mapToObj(p -> new TopicPartition(topic, p)).toList();
    }

    /** Waits for an answer; what the broker refused comes out as the exception that it stands for. */
    static <T> T get(Future<T> answer) throws Exception {
        try {
            return answer.get(REPLY_TIMEOUT.toSeconds(), TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
    }

    /** Produces all, then waits for all acknowledgements; returns them in the order of the records. */
    static List<RecordMetadata> send(
            KafkaProducer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (ProducerRecord<byte[], byte[]> record : records) {
            answers.add(producer.send(record));
        }
        producer.flush();
        List<RecordMetadata> acknowledged = new ArrayList<>();
        for (Future<RecordMetadata> answer : answers) {
            acknowledged.add(get(answer));
        }
        return acknowledged;
    }

    /** Produces values to partition 0; returns their offsets. */
    List<Long> produce(String topic, List<byte[]> values, Map<String, ?> overrides) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records =
                values.stream().map(v -> new ProducerRecord<byte[], byte[]>(topic, 0, null, v)).toList();
        return send(producer(overrides), records).stream().map(RecordMetadata::offset).toList();
    }

    /** The next records of a consumer: exactly so many, and within the time. */
    static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> taken = new ArrayList<>();
        long deadline = System.nanoTime() + REPLY_TIMEOUT.toNanos();
        while (taken.size() < count && System.nanoTime() < deadline) {
            consumer.poll(Duration.ofMillis(200)).forEach(taken::add);
        }
        assertEquals(count, taken.size(), "records within " + REPLY_TIMEOUT);
        return taken;
    }

    /**
     * All records of partition 0, of which there must be so many. The end of the log is asked for afterwards: a record
     * that was acknowledged with acks=1 may become visible a moment later.
     */
    List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int count) {
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaConsumer<byte[], byte[]> consumer = consumerAt(partition, 0);
        List<ConsumerRecord<byte[], byte[]>> records = take(consumer, count);
        assertEquals(Map.of(partition, (long) count), consumer.endOffsets(List.of(partition)));
        return records;
    }

    static void waitUntil(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + Duration.ofSeconds(10).toNanos();
        while (!condition.call()) {
            assertTrue(System.nanoTime() < deadline, "not within 10 s: " + what);
            Thread.sleep(50);
        }
    }

    boolean lists(String topic) throws Exception {
        return get(admin.listTopics().names()).contains(topic);
    }

    @Override
    public void close() throws Exception {
        for (AutoCloseable client : clients) {
            client.close();
        }
    }
}
