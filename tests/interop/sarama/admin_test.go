package interop

import (
	"errors"
	"slices"
	"testing"

	"github.com/IBM/sarama"
)

func TestTheClusterTellsBrokersAndController(t *testing.T) {
	brokers, controller, err := newAdmin(t).DescribeCluster()
	check(t, err)
	known := slices.ContainsFunc(brokers, func(b *sarama.Broker) bool { return b.ID() == controller })
	equal(t, known, true)
	client := newClient(t, newConfig())
	equal(t, len(client.Brokers()), len(brokers))
}

func TestATopicIsCreatedListedDescribedAndDeleted(t *testing.T) {
	admin, topic, limit := newAdmin(t), unusedName(), "20000"
	detail := &sarama.TopicDetail{
		NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: map[string]*string{"max.message.bytes": &limit},
	}
	check(t, admin.CreateTopic(topic, detail, true))
	listed, err := admin.ListTopics()
	check(t, err)
	if _, there := listed[topic]; there {
		t.Fatal("validate only has created the topic")
	}

	check(t, admin.CreateTopic(topic, detail, false))
	waitForLeaders(t, topic, 3)
	listed, err = admin.ListTopics()
	check(t, err)
	equal(t, listed[topic].NumPartitions, 3)
	equal(t, listed[topic].ReplicationFactor, 1)
	equal(t, *listed[topic].ConfigEntries["max.message.bytes"], limit)

	described, err := admin.DescribeTopics([]string{topic})
	check(t, err)
	equal(t, described[0].Err, sarama.ErrNoError)
	equal(t, described[0].Uuid == sarama.Uuid{}, false)
	for _, partition := range described[0].Partitions {
		equal(t, slices.Contains(partition.Isr, partition.Leader), true)
	}

	check(t, admin.DeleteTopic(topic))
	waitUntil(t, "the topic is gone", func() bool {
		described, err := admin.DescribeTopics([]string{topic})
		return err == nil && described[0].Err == sarama.ErrUnknownTopicOrPartition
	})
}

func TestRefusedTopicsSayWhy(t *testing.T) {
	admin, nothing := newAdmin(t), "1"
	for name, refused := range map[string]struct {
		topic  string
		detail sarama.TopicDetail
		want   sarama.KError
	}{
		"exists":      {createTopic(t, 1), sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, sarama.ErrTopicAlreadyExists},
		"name":        {"not a name", sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, sarama.ErrInvalidTopic},
		"partitions":  {unusedName(), sarama.TopicDetail{NumPartitions: -5, ReplicationFactor: 1}, sarama.ErrInvalidPartitions},
		"replication": {unusedName(), sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 3}, sarama.ErrInvalidReplicationFactor},
		"config": {unusedName(), sarama.TopicDetail{
			NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"no.such.config": &nothing},
		}, sarama.ErrInvalidConfig},
	} {
		t.Run(name, func(t *testing.T) {
			err := admin.CreateTopic(refused.topic, &refused.detail, false)
			if !errors.Is(err, refused.want) {
				t.Fatalf("got %v, want %v", err, refused.want)
			}
		})
	}
	if err := admin.DeleteTopic(unusedName()); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Fatalf("got %v, want %v", err, sarama.ErrUnknownTopicOrPartition)
	}
}

func TestATopicGetsMorePartitions(t *testing.T) {
	admin, topic := newAdmin(t), createTopic(t, 2)
	check(t, admin.CreatePartitions(topic, 4, nil, false))
	waitForLeaders(t, topic, 4)
	last := message("x")
	last.Partition = 3
	equal(t, produce(t, topic, []*sarama.ProducerMessage{last}, newConfig())[0].Offset, 0)
	if err := admin.CreatePartitions(topic, 3, nil, false); !errors.Is(err, sarama.ErrInvalidPartitions) {
		t.Fatalf("got %v, want %v", err, sarama.ErrInvalidPartitions)
	}
}

func configOf(t *testing.T, admin sarama.ClusterAdmin, resource sarama.ConfigResource) sarama.ConfigEntry {
	t.Helper()
	entries, err := admin.DescribeConfig(resource)
	check(t, err)
	equal(t, len(entries), 1)
	return entries[0]
}

func TestTopicConfigsAreAlteredOneByOneOrAsAWhole(t *testing.T) {
	admin, topic := newAdmin(t), createTopic(t, 1)
	limit := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"max.message.bytes"}}
	expect := func(value string, source sarama.ConfigSource) {
		t.Helper()
		waitUntil(t, "max.message.bytes is "+value, func() bool {
			entry := configOf(t, admin, limit)
			return entry.Value == value && entry.Source == source && entry.Default == (source == sarama.SourceDefault)
		})
	}
	expect("1048588", sarama.SourceDefault)

	value := "5000"
	check(t, admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false))
	expect("5000", sarama.SourceTopic)

	logAppendTime := "LogAppendTime"
	check(t, admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"message.timestamp.type": &logAppendTime}, false))
	expect("1048588", sarama.SourceDefault)

	many := "many"
	err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &many},
	}, false)
	if !errors.Is(err, sarama.ErrInvalidConfig) {
		t.Fatalf("got %v, want %v", err, sarama.ErrInvalidConfig)
	}
}

func TestConfigsAreDescribedWithSynonymsAndDocumentation(t *testing.T) {
	described, err := newAdmin(t).DescribeConfigs(
		[]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: createTopic(t, 1)}},
		sarama.DescribeConfigsOptions{IncludeSynonyms: true, IncludeDocumentation: true},
	)
	check(t, err)
	equal(t, described[0].ErrorCode, sarama.ErrNoError)
	at := slices.IndexFunc(described[0].Configs, func(c sarama.ConfigEntry) bool { return c.Name == "max.message.bytes" })
	limit := described[0].Configs[at]
	equal(t, limit.Type, sarama.IntConfigType)
	equal(t, limit.Documentation != nil && *limit.Documentation != "", true)
	equal(t, limit.Synonyms[0].ConfigName, "message.max.bytes")
}
