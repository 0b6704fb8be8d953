package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;

/** A clean restart, under clients that stay: only where the runner owns the broker. */
@EnabledIfEnvironmentVariable(named = "RESTART_COMMAND", matches = ".+")
class RestartTest extends BrokerTest {
    private static void restart() throws Exception {
        Process command = new ProcessBuilder("sh", "-c", System.getenv("RESTART_COMMAND")).inheritIO().start();
        assertTrue(command.waitFor(50, TimeUnit.SECONDS), "the restart takes too long");
        assertEquals(0, command.exitValue(), "exit status of the restart");
    }

    private static List<Long> send(KafkaProducer<byte[], byte[]> producer, String topic, int from, int to)
            throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = from; i < to; i++) {
            records.add(new ProducerRecord<>(topic, 0, null, bytes(Integer.toString(i))));
        }
        return Broker.send(producer, records).stream().map(RecordMetadata::offset).toList();
    }

    @Test
    @Timeout(120)
    void clientsGoOnOverARestartWithoutLossOrRepeat() throws Exception {
        String topic = broker.createTopic(1);
        KafkaProducer<byte[], byte[]> producer = broker.producer(Map.of("enable.idempotence", "true"));
        KafkaConsumer<byte[], byte[]> consumer = broker.consumerAt(new TopicPartition(topic, 0), 0);
        send(producer, topic, 0, 1000);
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>(Broker.take(consumer, 1000));
        restart();
        assertEquals(IntStream.range(1000, 2000).asLongStream().boxed().toList(), send(producer, topic, 1000, 2000));
        read.addAll(Broker.take(consumer, 1000));
        List<String> expected = IntStream.range(0, 2000).mapToObj(Integer::toString).toList();
        assertEquals(expected, read.stream().map(r -> text(r.value())).toList());
        assertEquals(2000, broker.readAll(topic, 2000).size());
    }
}
