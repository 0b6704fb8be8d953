package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The command line tools of everyday: topics, producing, consuming, offsets. */
@Timeout(120)
class ConsoleToolsTest extends ToolTest {
    private static final String TOPICS = "org.apache.kafka.tools.TopicCommand";
    private static final String PRODUCER = "org.apache.kafka.tools.ConsoleProducer";
    private static final String CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    private static final String OFFSETS = "org.apache.kafka.tools.GetOffsetShell";

    @Test
    void topicsAreCreatedListedAndDeleted() throws Exception {
        String topic = broker.unusedName("console");
        tool(TOPICS, "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "1");
        assertTrue(tool(TOPICS, "--list").contains(topic));
        tool(TOPICS, "--delete", "--topic", topic);
        assertFalse(tool(TOPICS, "--list").contains(topic));
    }

    @Test
    void aTopicIsDescribedWithItsPartitions() throws Exception {
        List<String> described = tool(TOPICS, "--describe", "--topic", broker.createTopic(3));
        assertTrue(described.get(0).contains("PartitionCount: 3"), () -> described.toString());
        assertEquals(3, described.stream().filter(l -> l.contains("Leader: ")).count());
    }

    @Test
    void aRefusedTopicEndsTheToolWithTheReason() throws Exception {
        String topic = broker.createTopic(1);
        Outcome again = run(TOPICS, List.of(), "--create", "--topic", topic);
        assertNotEquals(0, again.status());
        assertTrue(again.lines().stream().anyMatch(l -> l.contains("already exists")), () -> again.lines().toString());
        tool(TOPICS, "--create", "--if-not-exists", "--topic", topic);
    }

    @Test
    void linesProducedAreTheLinesConsumed() throws Exception {
        String topic = broker.createTopic(1);
        List<String> lines = IntStream.range(0, 500).mapToObj(i -> "line " + i + " żółć 😀").toList();
        run(PRODUCER, lines, "--topic", topic, "--compression-codec", "snappy").success();
        assertEquals(lines, consumed(topic, "earliest", 500));
        assertEquals(lines.subList(321, 500), consumed(topic, "321", 179));
    }

    private List<String> consumed(String topic, String offset, int count, String... more) throws Exception {
        List<String> arguments = new ArrayList<>(List.of(
                "--topic", topic, "--partition", "0", "--offset", offset,
                "--max-messages", Integer.toString(count), "--timeout-ms", "20000"));
        arguments.addAll(List.of(more));
        List<String> printed = new ArrayList<>(tool(CONSUMER, arguments.toArray(String[]::new)));
        assertEquals("Processed a total of " + count + " messages", printed.remove(printed.size() - 1));
        return printed;
    }

    @Test
    void keysAndHeadersGoThroughTheTools() throws Exception {
        String topic = broker.createTopic(1);
        run(PRODUCER, List.of("h1:v1,h2:v2\tkey\tvalue"), "--topic", topic,
                        "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")
                .success();
        List<String> printed = consumed(topic, "earliest", 1,
                "--formatter-property", "print.key=true",
                "--formatter-property", "print.headers=true",
                "--formatter-property", "print.offset=true");
        assertEquals(List.of("Offset:0\th1:v1,h2:v2\tkey\tvalue"), printed);
    }

    @Test
    void offsetsOfAllPartitionsAreShown() throws Exception {
        String topic = broker.createTopic(2);
        broker.produce(topic, numbered(42), Map.of());
        assertEquals(List.of(topic + ":0:42", topic + ":1:0"), tool(OFFSETS, "--topic", topic));
        assertEquals(
                List.of(topic + ":0:0", topic + ":1:0"), tool(OFFSETS, "--topic", topic, "--time", "earliest"));
    }

    @Test
    void offsetsAreShownByTimeAndForSomePartitions() throws Exception {
        String topic = broker.createTopic(3);
        broker.produce(topic, numbered(1), Map.of());
        assertEquals(List.of(topic + ":0:0"), tool(OFFSETS, "--topic", topic, "--time", "max-timestamp"));
        broker.produce(topic, numbered(4), Map.of());
        assertEquals(
                List.of(topic + ":0:5", topic + ":1:0"), tool(OFFSETS, "--topic-partitions", topic + ":0-2"));
    }

    @Test
    void aTopicIsDescribedAsKafkaDoes() throws Exception {
        String topic = broker.unusedName("console");
        assertEquals(
                List.of("Created topic " + topic + "."),
                tool(TOPICS, "--create", "--topic", topic, "--partitions", "2", "--config", "max.message.bytes=5000"));
        List<String> described = tool(TOPICS, "--describe", "--topic", topic);
        assertMatches(
                "Topic: " + topic + "\tTopicId: [\\w-]{22}\tPartitionCount: 2\tReplicationFactor: 1\t"
                        + "Configs: .*max.message.bytes=5000.*",
                described.get(0));
        for (int partition = 0; partition < 2; partition++) {
            assertMatches(
                    "\tTopic: " + topic + "\tPartition: " + partition + "\tLeader: (\\d+)\tReplicas: \\1\tIsr: \\1\t"
                            + "Elr: (N/A)?\tLastKnownElr: (N/A)?",
                    described.get(1 + partition));
        }
        assertEquals(3, described.size());
    }

    @Test
    void aTopicGetsMorePartitions() throws Exception {
        String topic = broker.createTopic(1);
        assertEquals(List.of(), tool(TOPICS, "--alter", "--topic", topic, "--partitions", "3"));
        Broker.waitUntil("there are three", () -> tool(TOPICS, "--describe", "--topic", topic).size() == 4);
        Outcome fewer = run(TOPICS, List.of(), "--alter", "--topic", topic, "--partitions", "2");
        assertEquals(1, fewer.status());
        assertTrue(
                fewer.lines().get(0).endsWith("The topic " + topic
                        + " currently has 3 partition(s); 2 would not be an increase."),
                () -> fewer.lines().get(0));
    }

    @Test
    void anUnknownTopicIsReported() throws Exception {
        String topic = broker.unusedName("nobody");
        for (String verb : List.of("--describe", "--delete")) {
            Outcome unknown = run(TOPICS, List.of(), verb, "--topic", topic);
            assertEquals(1, unknown.status());
            assertEquals(
                    "Error while executing topic command : Topic '" + topic + "' does not exist as expected",
                    unknown.lines().get(0));
        }
    }
}
