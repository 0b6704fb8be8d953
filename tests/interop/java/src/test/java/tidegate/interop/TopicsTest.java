package tidegate.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Topics and the cluster, through the admin client. */
class TopicsTest extends BrokerTest {
    private CreateTopicsResult create(NewTopic topic) {
        return broker.admin.createTopics(List.of(topic));
    }

    private static NewTopic topic(String name, int partitions, int replicationFactor) {
        return new NewTopic(name, partitions, (short) replicationFactor);
    }

    private TopicDescription describe(String topic) throws Exception {
        return Broker.get(broker.admin.describeTopics(List.of(topic)).topicNameValues().get(topic));
    }

    private <T extends Throwable> void assertRefused(Class<T> error, NewTopic topic) {
        assertThrows(error, () -> Broker.get(create(topic).all()));
    }

    @Test
    void createTellsWhatTheTopicGot() throws Exception {
        String name = broker.unusedName("t");
        CreateTopicsResult created = create(topic(name, 3, 1).configs(Map.of("max.message.bytes", "20000")));
        assertEquals(3, Broker.get(created.numPartitions(name)));
        assertEquals(1, Broker.get(created.replicationFactor(name)));
        assertEquals("20000", Broker.get(created.config(name)).get("max.message.bytes").value());
        Uuid id = Broker.get(created.topicId(name));
        assertNotEquals(Uuid.ZERO_UUID, id);
        assertEquals(id, describe(name).topicId());
    }

    @Test
    void partitionsAndReplicationFactorMayBeLeftToTheBroker() throws Exception {
        String name = broker.unusedName("t");
        CreateTopicsResult created = create(new NewTopic(name, Optional.empty(), Optional.empty()));
        assertTrue(Broker.get(created.numPartitions(name)) >= 1);
        assertEquals(1, Broker.get(created.replicationFactor(name)));
    }

    @Test
    void describeByNameAndByIdAgree() throws Exception {
        String name = broker.createTopic(4);
        TopicDescription byName = describe(name);
        TopicDescription byId = Broker.get(broker.admin
                .describeTopics(TopicCollection.ofTopicIds(List.of(byName.topicId())))
                .topicIdValues()
                .get(byName.topicId()));
        assertEquals(name, byId.name());
        assertEquals(byName.topicId(), byId.topicId());
        assertEquals(4, byId.partitions().size());
        assertFalse(byName.isInternal());
        List<TopicPartitionInfo> partitions = byName.partitions();
        assertEquals(List.of(0, 1, 2, 3), partitions.stream().map(TopicPartitionInfo::partition).toList());
        Collection<Node> nodes = Broker.get(broker.admin.describeCluster().nodes());
        for (TopicPartitionInfo partition : partitions) {
            assertTrue(nodes.contains(partition.leader()));
            assertEquals(List.of(partition.leader()), partition.replicas());
            assertEquals(List.of(partition.leader()), partition.isr());
        }
    }

    @Test
    void whatIsUnknownIsSaidToBeUnknown() {
        String name = broker.unusedName("nobody");
        Uuid id = Uuid.randomUuid();
        assertThrows(UnknownTopicOrPartitionException.class, () -> describe(name));
        assertThrows(
                UnknownTopicIdException.class,
                () -> Broker.get(broker.admin
                        .describeTopics(TopicCollection.ofTopicIds(List.of(id)))
                        .topicIdValues()
                        .get(id)));
        assertThrows(
                UnknownTopicOrPartitionException.class,
                () -> Broker.get(broker.admin.deleteTopics(List.of(name)).all()));
        assertThrows(
                UnknownTopicIdException.class,
                () -> Broker.get(broker.admin
                        .deleteTopics(TopicCollection.ofTopicIds(List.of(id)))
                        .all()));
    }

    @Test
    void aRecreatedTopicStartsAnewWithAnotherId() throws Exception {
        String name = broker.createTopic(3);
        Uuid oldId = describe(name).topicId();
        broker.produce(name, numbered(10), Map.of());
        Broker.get(broker.admin.deleteTopics(List.of(name)).all());
        Broker.waitUntil("the topic is gone", () -> !broker.lists(name));
        broker.createTopic(name, 1);
        assertNotEquals(oldId, describe(name).topicId());
        assertEquals(1, describe(name).partitions().size());
        assertEquals(List.of(0L), broker.produce(name, List.of(bytes("new")), Map.of()));
        assertEquals("new", text(broker.readAll(name, 1).get(0).value()));
    }

    @Test
    void aTopicIsDeletedByItsId() throws Exception {
        String name = broker.createTopic(1);
        TopicCollection ids = TopicCollection.ofTopicIds(List.of(describe(name).topicId()));
        Broker.get(broker.admin.deleteTopics(ids).all());
        Broker.waitUntil("the topic is gone", () -> !broker.lists(name));
    }

    @Test
    void validateOnlyCreatesNothing() throws Exception {
        String name = broker.unusedName("t");
        CreateTopicsOptions validateOnly = new CreateTopicsOptions().validateOnly(true);
        CreateTopicsResult result = broker.admin.createTopics(List.of(topic(name, 2, 1)), validateOnly);
        assertEquals(2, Broker.get(result.numPartitions(name)));
        assertFalse(broker.lists(name));
    }

    @Test
    void creatingATopicTwiceIsRefused() throws Exception {
        assertRefused(TopicExistsException.class, topic(broker.createTopic(1), 1, 1));
    }

    @ParameterizedTest
    @ValueSource(strings = {".", "..", "with space", "sla/sh", "żółw"})
    void anInvalidNameIsRefused(String name) {
        assertRefused(InvalidTopicException.class, topic(name, 1, 1));
    }

    @Test
    void aNameThatCollidesInMetricsIsRefused() throws Exception {
        String name = broker.unusedName("a.b");
        broker.createTopic(name, 1);
        assertRefused(InvalidTopicException.class, topic(name.replace('.', '_'), 1, 1));
    }

    @Test
    void impossibleCountsAreRefused() {
        assertRefused(InvalidPartitionsException.class, topic(broker.unusedName("t"), 0, 1));
        assertRefused(InvalidPartitionsException.class, topic(broker.unusedName("t"), -7, 1));
        assertRefused(InvalidReplicationFactorException.class, topic(broker.unusedName("t"), 1, 3));
        assertRefused(InvalidReplicationFactorException.class, topic(broker.unusedName("t"), 1, 0));
    }

    @Test
    void impossibleConfigsAreRefused() {
        for (Map<String, String> config : List.of(Map.of("no.such.config", "1"), Map.of("retention.ms", "soon"))) {
            assertRefused(
                    InvalidConfigurationException.class, topic(broker.unusedName("t"), 1, 1).configs(config));
        }
    }

    @Test
    void replicasAreAssignedToThisBrokerOnly() throws Exception {
        int broker1 = Broker.get(broker.admin.describeCluster().nodes()).iterator().next().id();
        String name = broker.unusedName("t");
        Broker.get(create(new NewTopic(name, Map.of(0, List.of(broker1), 1, List.of(broker1)))).all());
        assertEquals(2, describe(name).partitions().size());
        NewTopic elsewhere = new NewTopic(broker.unusedName("t"), Map.of(0, List.of(broker1 + 1000)));
        assertRefused(InvalidReplicaAssignmentException.class, elsewhere);
    }

    @Test
    void oneBadTopicInARequestDoesNotHarmTheOthers() throws Exception {
        String good = broker.unusedName("t");
        Map<String, KafkaFuture<Void>> results = broker.admin
                .createTopics(List.of(topic("not a name", 1, 1), topic(good, 1, 1)))
                .values();
        assertThrows(InvalidTopicException.class, () -> Broker.get(results.get("not a name")));
        Broker.get(results.get(good));
    }

    @Test
    void describeClusterTellsNodesControllerAndId() throws Exception {
        DescribeClusterOptions options = new DescribeClusterOptions().includeAuthorizedOperations(true);
        DescribeClusterResult cluster = broker.admin.describeCluster(options);
        Collection<Node> nodes = Broker.get(cluster.nodes());
        assertTrue(nodes.contains(Broker.get(cluster.controller())));
        assertFalse(Broker.get(cluster.clusterId()).isEmpty());
        assertFalse(Broker.get(cluster.authorizedOperations()).isEmpty());
        for (Node node : nodes) {
            assertFalse(node.host().isEmpty());
            assertTrue(node.port() > 0);
        }
    }
}
