package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Kafka's own command line tools, each run as a process of its own, as their users run them. */
@Timeout(120)
class ConsoleToolsTest extends BrokerTest {
    private static final String TOPICS = "org.apache.kafka.tools.TopicCommand";
    private static final String PRODUCER = "org.apache.kafka.tools.ConsoleProducer";
    private static final String CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    private static final String OFFSETS = "org.apache.kafka.tools.GetOffsetShell";

    @TempDir
    Path folder;

    private record Outcome(int status, List<String> lines) {
        /** What a tool printed that succeeded. */
        List<String> success() {
            assertEquals(0, status, () -> String.join("\n", lines));
            return lines;
        }
    }

    private Outcome run(String tool, List<String> input, String... arguments) throws Exception {
        Path stdin = Files.write(folder.resolve("stdin"), input);
        Path output = folder.resolve("output");
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                "-cp", System.getProperty("java.class.path"),
                tool, "--bootstrap-server", broker.bootstrap));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command)
                .redirectInput(stdin.toFile())
                .redirectOutput(output.toFile())
                .redirectErrorStream(true)
                .start();
        try {
            assertTrue(process.waitFor(40, TimeUnit.SECONDS), () -> "still running: " + command);
        } finally {
            process.destroyForcibly();
        }
        return new Outcome(process.exitValue(), Files.readAllLines(output));
    }

    private List<String> tool(String tool, String... arguments) throws Exception {
        return run(tool, List.of(), arguments).success();
    }

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
        assertNotEquals(0, again.status);
        assertTrue(again.lines.stream().anyMatch(l -> l.contains("already exists")), () -> again.lines.toString());
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
}
