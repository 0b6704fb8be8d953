package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The command line tools that look behind topics: logs, leaders, producers, the quorum. */
@Timeout(120)
class OperatorToolsTest extends ToolTest {
    private static final String DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand";
    private static final String ELECTION = "org.apache.kafka.tools.LeaderElectionCommand";
    private static final String LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand";
    private static final String OFFSETS = "org.apache.kafka.tools.GetOffsetShell";
    private static final String QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand";
    private static final String REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
    private static final String TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand";

    @Test
    void deletedRecordsAreGone() throws Exception {
        String topic = broker.createTopic(1);
        broker.produce(topic, numbered(20), Map.of());
        assertEquals(
                List.of("Executing records delete operation", "Records delete operation completed:",
                        "partition: " + topic + "-0\tlow_watermark: 7"),
                deleteBefore(topic, 7));
        assertEquals(List.of(topic + ":0:7"), tool(OFFSETS, "--topic", topic, "--time", "earliest"));
        assertTrue(deleteBefore(topic, 21).contains("partition: " + topic + "-0\terror: "
                + "org.apache.kafka.common.errors.OffsetOutOfRangeException: "
                + "The requested offset is not within the range of offsets maintained by the server."));
    }

    private List<String> deleteBefore(String topic, long offset) throws Exception {
        Path wanted = Files.writeString(
                folder.resolve("wanted.json"),
                "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":" + offset + "}]}");
        return run(DELETE_RECORDS, List.of(), "--offset-json-file", wanted.toString()).lines();
    }

    @Test
    void logDirsTellTheSizeOfPartitions() throws Exception {
        String topic = broker.createTopic(1);
        broker.produce(topic, List.of(new byte[10_000]), Map.of());
        List<String> described = tool(LOG_DIRS, "--describe", "--topic-list", topic);
        int id = Broker.get(broker.admin.describeCluster().controller()).id();
        assertEquals("Querying brokers for log directories information", described.get(0));
        assertEquals("Received log directory information from brokers " + id, described.get(1));
        assertMatches(
                "\\{\"brokers\":\\[\\{\"broker\":" + id + ",\"logDirs\":\\[\\{\"partitions\":\\[\\{\"partition\":\"" + topic
                        + "-0\",\"size\":10\\d{3},\"offsetLag\":0,\"isFuture\":false}],\"error\":null,"
                        + "\"logDir\":\"/.*\"}]}],\"version\":1}",
                described.get(2));
    }

    @Test
    void leadersNeedNoElectionAndNothingIsReassigned() throws Exception {
        String topic = broker.createTopic(1);
        assertEquals(
                List.of("Valid replica already elected for partitions " + topic + "-0"),
                tool(ELECTION, "--election-type", "preferred", "--topic", topic, "--partition", "0"));
        assertEquals(List.of("No partition reassignments found."), tool(REASSIGN, "--list"));
    }

    @Test
    void anIdempotentProducerIsDescribed() throws Exception {
        String topic = broker.createTopic(1);
        broker.produce(topic, numbered(3), Map.of("linger.ms", "500"));
        List<String> described = tool(TRANSACTIONS, "describe-producers", "--topic", topic, "--partition", "0");
        assertMatches(
                "ProducerId\\s+ProducerEpoch\\s+LatestCoordinatorEpoch\\s+LastSequence\\s+LastTimestamp\\s+"
                        + "CurrentTransactionStartOffset\\s*",
                described.get(0));
        assertMatches("\\d+\\s+0\\s+-1\\s+2\\s+\\d+\\s+None\\s*", described.get(1));
    }

    @Test
    void theQuorumHasALeader() throws Exception {
        List<String> status = tool(QUORUM, "describe", "--status");
        String cluster = Broker.get(broker.admin.describeCluster().clusterId());
        assertMatches("ClusterId: +" + cluster, status.get(0));
        assertMatches("LeaderId: +\\d+", status.get(1));
        assertMatches("CurrentVoters: +\\[\\{\"id\": \\d+.*}]", status.get(6));
        List<String> replication = tool(QUORUM, "describe", "--replication");
        assertMatches("NodeId\\s+DirectoryId\\s+LogEndOffset\\s+Lag\\s+.*Status\\s*", replication.get(0));
        assertMatches("\\d+\\s+\\S{22}\\s+\\d+\\s+0\\s+\\d+\\s+\\d+\\s+Leader\\s*", replication.get(1));
    }
}
