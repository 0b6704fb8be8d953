package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.apache.kafka.common.Node;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The command line tools of operators: what they print is what they print of Apache Kafka. */
@Timeout(120)
class AdminToolsTest extends ToolTest {
    private static final String CONFIGS = "kafka.admin.ConfigCommand";
    private static final String API_VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand";
    private static final String FEATURES = "org.apache.kafka.tools.FeatureCommand";
    private static final String PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance";
    private static final String VERIFIABLE_PRODUCER = "org.apache.kafka.tools.VerifiableProducer";

    private Node node() throws Exception {
        return Broker.get(broker.admin.describeCluster().controller());
    }

    @Test
    void topicConfigsAreDescribedAndAltered() throws Exception {
        String topic = broker.createTopic(1);
        assertEquals(List.of("Dynamic configs for topic " + topic + " are:"), ofTopic(topic));
        assertEquals(
                List.of("Completed updating config for topic " + topic + "."),
                tool(CONFIGS, "--alter", "--topic", topic, "--add-config", "max.message.bytes=5000"));
        String altered = "  max.message.bytes=5000 sensitive=false "
                + "synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=5000, DEFAULT_CONFIG:message.max.bytes=1048588}";
        Broker.waitUntil("the config is altered", () -> ofTopic(topic).contains(altered));
        assertTrue(tool(CONFIGS, "--describe", "--all", "--topic", topic).contains(altered));
        tool(CONFIGS, "--alter", "--topic", topic, "--delete-config", "max.message.bytes");
        Broker.waitUntil("the config is reset", () -> ofTopic(topic).size() == 1);
    }

    private List<String> ofTopic(String topic) throws Exception {
        return tool(CONFIGS, "--describe", "--topic", topic);
    }

    @Test
    void allConfigsOfATopicAreThoseOfKafka() throws Exception {
        List<String> all = tool(CONFIGS, "--describe", "--all", "--topic", broker.createTopic(1));
        for (String line : List.of(
                "  cleanup.policy=delete sensitive=false synonyms={DEFAULT_CONFIG:log.cleanup.policy=delete}",
                "  compression.type=producer sensitive=false synonyms={DEFAULT_CONFIG:compression.type=producer}",
                "  max.message.bytes=1048588 sensitive=false synonyms={DEFAULT_CONFIG:message.max.bytes=1048588}",
                "  message.timestamp.type=CreateTime sensitive=false "
                        + "synonyms={DEFAULT_CONFIG:log.message.timestamp.type=CreateTime}")) {
            assertTrue(all.contains(line), () -> line + " is not among\n" + String.join("\n", all));
        }
    }

    @Test
    void aConfigThatDoesNotFitIsRefusedWithTheReason() throws Exception {
        String topic = broker.createTopic(1);
        for (Map.Entry<String, String> refused : Map.of(
                        "max.message.bytes=many",
                        "Invalid value many for configuration max.message.bytes: Not a number of type INT",
                        "no.such=1",
                        "Unknown topic config name: no.such")
                .entrySet()) {
            Outcome outcome =
                    run(CONFIGS, List.of(), "--alter", "--topic", topic, "--add-config", refused.getKey());
            assertEquals(1, outcome.status());
            assertEquals(
                    "java.util.concurrent.ExecutionException: "
                            + "org.apache.kafka.common.errors.InvalidConfigurationException: " + refused.getValue(),
                    outcome.lines().get(1));
        }
    }

    @Test
    void brokerConfigsAreDescribedAndAltered() throws Exception {
        String id = Integer.toString(node().id());
        assertEquals(
                "Dynamic configs for broker " + id + " are:",
                tool(CONFIGS, "--describe", "--broker", id).get(0));
        List<String> all = tool(CONFIGS, "--describe", "--all", "--broker", id);
        assertEquals("All configs for broker " + id + " are:", all.get(0));
        assertTrue(all.stream().anyMatch(l -> l.startsWith("  num.partitions=")), () -> String.join("\n", all));
        try {
            assertEquals(
                    List.of("Completed updating default config for brokers in the cluster."),
                    tool(CONFIGS, "--alter", "--broker-defaults", "--add-config", "message.max.bytes=1048600"));
            String altered = "  message.max.bytes=1048600 sensitive=false "
                    + "synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=1048600}";
            Broker.waitUntil(
                    "the default is altered",
                    () -> tool(CONFIGS, "--describe", "--broker-defaults").contains(altered));
        } finally {
            tool(CONFIGS, "--alter", "--broker-defaults", "--delete-config", "message.max.bytes");
        }
    }

    @Test
    void theApiVersionsAreThoseThatTheClientCanUse() throws Exception {
        List<String> printed = tool(API_VERSIONS);
        Node node = node();
        assertEquals(
                node.host() + ":" + node.port() + " (id: " + node.id() + " rack: null isFenced: false) -> (",
                printed.get(0));
        for (String api : List.of("Produce(0)", "Fetch(1)", "ListOffsets(2)", "Metadata(3)", "CreateTopics(19)")) {
            assertTrue(
                    printed.stream().anyMatch(l -> l.matches("\t" + Pattern.quote(api)
                            + ": \\d+ to \\d+ \\[usable: \\d+],")),
                    () -> api + " is not among\n" + String.join("\n", printed));
        }
    }

    @Test
    void theClusterIsDescribed() throws Exception {
        String id = Broker.get(broker.admin.describeCluster().clusterId());
        assertEquals(List.of("Cluster ID: " + id), tool(CLUSTER, "cluster-id"));
        List<String> endpoints = tool(CLUSTER, "list-endpoints");
        assertMatches("ID +HOST +PORT +RACK +STATE +ENDPOINT_TYPE *", endpoints.get(0));
        Node node = node();
        assertMatches(
                node.id() + " +" + node.host() + " +" + node.port() + " +null +unfenced +broker *", endpoints.get(1));
    }

    @Test
    void producersThatMeasureAndVerifyEndWell() throws Exception {
        String topic = broker.createTopic(1);
        List<String> measured = tool(PERFORMANCE, "--topic", topic, "--num-records", "500",
                "--record-size", "100", "--throughput", "-1");
        assertMatches(
                "500 records sent, .* records/sec .* avg latency, .* max latency.*",
                measured.get(measured.size() - 1));
        List<String> verified = tool(VERIFIABLE_PRODUCER, "--topic", topic, "--max-messages", "3");
        for (int i = 0; i < 3; i++) {
            String sent = ".*\"producer_send_success\".*\"value\":\"" + i + "\",\"offset\":" + (500 + i) + ",.*";
            assertTrue(verified.stream().anyMatch(l -> l.matches(sent)), () -> String.join("\n", verified));
        }
        assertMatches(".*\"tool_data\",\"sent\":3,\"acked\":3,.*", verified.get(verified.size() - 1));
    }

    @Test
    void featuresAreDescribed() throws Exception {
        List<String> features = tool(FEATURES, "describe");
        for (String line : features) {
            assertMatches(
                    "Feature: \\S+\\s+SupportedMinVersion: \\S+\\s+SupportedMaxVersion: \\S+\\s+"
                            + "FinalizedVersionLevel: \\S+\\s+Epoch: \\S+\\s*",
                    line);
        }
    }
}
