package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.io.TempDir;

/** Kafka's own command line tools, each run as a process of its own, as their users run them. */
abstract class ToolTest extends BrokerTest {
    static final String CLUSTER = "org.apache.kafka.tools.ClusterTool";

    @TempDir
    Path folder;

    record Outcome(int status, List<String> lines) {
        /** What a tool printed that succeeded. */
        List<String> success() {
            assertEquals(0, status, () -> String.join("\n", lines));
            return lines;
        }
    }

    Outcome run(String tool, List<String> input, String... arguments) throws Exception {
        Path stdin = Files.write(folder.resolve("stdin"), input);
        Path output = folder.resolve("output");
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                "-cp", System.getProperty("java.class.path"),
                tool));
        List<String> address = List.of("--bootstrap-server", broker.bootstrap);
        command.addAll(List.of(arguments));
        // One tool wants the address after its command, all others before it.
        int at = tool.equals(CLUSTER) ? command.size() : command.indexOf(tool) + 1;
        command.addAll(at, address);
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

    List<String> tool(String tool, String... arguments) throws Exception {
        return run(tool, List.of(), arguments).success();
    }

    static void assertMatches(String pattern, String line) {
        assertTrue(line.matches(pattern), () -> line + " is not " + pattern);
    }
}
