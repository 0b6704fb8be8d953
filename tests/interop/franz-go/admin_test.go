package interop

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestTheClusterTellsBrokersControllerAndId(t *testing.T) {
	metadata, err := newAdmin(t).BrokerMetadata(within(t, replyTimeout))
	check(t, err)
	if metadata.Cluster == "" || len(metadata.Brokers) == 0 {
		t.Fatalf("got %+v", metadata)
	}
	if !slices.Contains(metadata.Brokers.NodeIDs(), metadata.Controller) {
		t.Fatalf("the controller %d is none of %v", metadata.Controller, metadata.Brokers.NodeIDs())
	}
}

func TestEveryBrokerTellsItsApis(t *testing.T) {
	versions, err := newAdmin(t).ApiVersions(within(t, replyTimeout))
	check(t, err)
	for node, apis := range versions {
		check(t, apis.Err)
		for _, key := range []int16{0, 1, 2, 3, 18, 19, 20, 22, 32, 44} {
			if _, _, there := apis.KeyVersions(key); !there {
				t.Errorf("broker %d does not tell API %d", node, key)
			}
		}
	}
}

func TestATopicIsCreatedListedAndDeleted(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), unusedName()
	limit := "20000"
	created, err := admin.CreateTopic(ctx, 3, 1, map[string]*string{"max.message.bytes": &limit}, topic)
	check(t, err)
	equal(t, created.NumPartitions, 3)
	equal(t, created.ReplicationFactor, 1)
	config := created.Configs["max.message.bytes"]
	equal(t, config.MaybeValue(), limit)

	listed, err := admin.ListTopics(ctx, topic)
	check(t, err)
	equal(t, listed[topic].ID, created.ID)
	equal(t, len(listed[topic].Partitions), 3)
	for _, partition := range listed[topic].Partitions {
		check(t, partition.Err)
		equal(t, slices.Contains(partition.ISR, partition.Leader), true)
	}

	_, err = admin.DeleteTopic(ctx, topic)
	check(t, err)
	waitUntil(t, "the topic is gone", func() bool {
		all, err := admin.ListTopics(ctx)
		return err == nil && !all.Has(topic)
	})
}

func TestRefusedTopicsSayWhy(t *testing.T) {
	admin, ctx := newAdmin(t), within(t, replyTimeout)
	there, nothing := createTopic(t, 1), "1"
	for name, refused := range map[string]struct {
		partitions int32
		replicas   int16
		configs    map[string]*string
		topic      string
		want       *kerr.Error
	}{
		"exists":      {1, 1, nil, there, kerr.TopicAlreadyExists},
		"name":        {1, 1, nil, "not a name", kerr.InvalidTopicException},
		"partitions":  {0, 1, nil, unusedName(), kerr.InvalidPartitions},
		"replication": {1, 3, nil, unusedName(), kerr.InvalidReplicationFactor},
		"config":      {1, 1, map[string]*string{"no.such.config": &nothing}, unusedName(), kerr.InvalidConfig},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := admin.CreateTopic(ctx, refused.partitions, refused.replicas, refused.configs, refused.topic)
			if !errors.Is(err, refused.want) || answer.ErrMessage == "" {
				t.Fatalf("got %v with message %q, want %v", err, answer.ErrMessage, refused.want)
			}
		})
	}
	_, err := admin.DeleteTopic(ctx, unusedName())
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("got %v, want %v", err, kerr.UnknownTopicOrPartition)
	}
}

func TestATopicGetsMorePartitions(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 2)
	produce(t, topic, numbered(5))
	added, err := admin.CreatePartitions(ctx, 2, topic)
	check(t, err)
	check(t, added.Error())
	waitUntil(t, "all four partitions answer", func() bool {
		ends, err := admin.ListEndOffsets(ctx, topic)
		return err == nil && ends.Error() == nil && len(ends[topic]) == 4
	})
	expectOffsets(t, produce(t, topic, []*kgo.Record{{Partition: 3}}), 0)

	fewer, err := admin.UpdatePartitions(ctx, 3, topic)
	check(t, err)
	if !errors.Is(fewer.Error(), kerr.InvalidPartitions) {
		t.Fatalf("got %v, want %v", fewer.Error(), kerr.InvalidPartitions)
	}
}

func configOf(t *testing.T, admin *kadm.Client, topic, key string) (string, string) {
	t.Helper()
	described, err := admin.DescribeTopicConfigs(within(t, replyTimeout), topic)
	check(t, err)
	resource, err := described.On(topic, nil)
	check(t, err)
	check(t, resource.Err)
	for _, config := range resource.Configs {
		if config.Key == key {
			return config.MaybeValue(), config.Source.String()
		}
	}
	t.Fatalf("%s is not described", key)
	return "", ""
}

func TestTopicConfigsAreAlteredOneByOneOrAsAWhole(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 1)
	expect := func(key, value, source string) {
		t.Helper()
		waitUntil(t, key+" is "+value+" as "+source, func() bool {
			gotValue, gotSource := configOf(t, admin, topic, key)
			return gotValue == value && gotSource == source
		})
	}
	expect("max.message.bytes", "1048588", "DEFAULT_CONFIG")
	set := func(key, value string) kadm.AlterConfig { return kadm.AlterConfig{Name: key, Value: &value} }

	altered, err := admin.AlterTopicConfigs(ctx,
		[]kadm.AlterConfig{set("max.message.bytes", "5000"), set("message.timestamp.type", "LogAppendTime")}, topic)
	check(t, err)
	check(t, altered[0].Err)
	expect("max.message.bytes", "5000", "DYNAMIC_TOPIC_CONFIG")
	expect("message.timestamp.type", "LogAppendTime", "DYNAMIC_TOPIC_CONFIG")

	reset := kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "max.message.bytes"}
	altered, err = admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{reset}, topic)
	check(t, err)
	check(t, altered[0].Err)
	expect("max.message.bytes", "1048588", "DEFAULT_CONFIG")

	altered, err = admin.AlterTopicConfigsState(ctx, []kadm.AlterConfig{set("max.message.bytes", "7000")}, topic)
	check(t, err)
	check(t, altered[0].Err)
	expect("max.message.bytes", "7000", "DYNAMIC_TOPIC_CONFIG")
	expect("message.timestamp.type", "CreateTime", "DEFAULT_CONFIG")

	altered, err = admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{set("max.message.bytes", "many")}, topic)
	check(t, err)
	if !errors.Is(altered[0].Err, kerr.InvalidConfig) || altered[0].ErrMessage == "" {
		t.Fatalf("got %v with message %q", altered[0].Err, altered[0].ErrMessage)
	}
}

func TestBrokerConfigsAreDescribed(t *testing.T) {
	admin, ctx := newAdmin(t), within(t, replyTimeout)
	metadata, err := admin.BrokerMetadata(ctx)
	check(t, err)
	described, err := admin.DescribeBrokerConfigs(ctx, metadata.Brokers.NodeIDs()...)
	check(t, err)
	for _, broker := range described {
		check(t, broker.Err)
		named := func(name string) bool {
			return slices.ContainsFunc(broker.Configs, func(c kadm.Config) bool { return c.Key == name })
		}
		equal(t, named("message.max.bytes") && named("num.partitions"), true)
	}
}

func TestOffsetsAreListedByEndAndTime(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 1)
	first := time.Now().Add(-time.Hour).UnixMilli()
	var records []*kgo.Record
	for _, after := range []int64{0, 1000, 30_000, 3000, 4000} {
		records = append(records, &kgo.Record{Timestamp: time.UnixMilli(first + after)})
	}
	for _, record := range records {
		produce(t, topic, []*kgo.Record{record})
	}
	expect := func(offset, timestamp int64) func(kadm.ListedOffsets, error) {
		return func(listed kadm.ListedOffsets, err error) {
			t.Helper()
			check(t, err)
			found, _ := listed.Lookup(topic, 0)
			check(t, found.Err)
			equal(t, found.Offset, offset)
			equal(t, found.Timestamp, timestamp)
		}
	}
	expect(0, -1)(admin.ListStartOffsets(ctx, topic))
	expect(5, -1)(admin.ListEndOffsets(ctx, topic))
	expect(2, first+30_000)(admin.ListMaxTimestampOffsets(ctx, topic))
	expect(1, first+1000)(admin.ListOffsetsAfterMilli(ctx, first+1, topic))
	// Beyond the last record kadm asks again, for the end.
	expect(5, -1)(admin.ListOffsetsAfterMilli(ctx, first+30_001, topic))
}

func TestALeaderEpochEndsWithTheLog(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 1)
	produce(t, topic, numbered(7))
	epoch := take(t, reader(t, topic, kgo.NewOffset().AtStart()), 1)[0].LeaderEpoch
	ends, err := admin.OffsetForLeaderEpoch(ctx, kadm.OffsetForLeaderEpochRequest{topic: {0: epoch}})
	check(t, err)
	check(t, ends[topic][0].Err)
	equal(t, ends[topic][0].EndOffset, 7)
	equal(t, ends[topic][0].LeaderEpoch, epoch)
}
