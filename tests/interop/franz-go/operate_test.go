package interop

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func only(topic string, partitions ...int32) kadm.TopicsSet {
	var set kadm.TopicsSet
	set.Add(topic, partitions...)
	return set
}

func TestDeletedRecordsAreGone(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 1)
	produce(t, topic, numbered(20))
	deleteBefore := func(offset int64) kadm.DeleteRecordsResponse {
		var offsets kadm.Offsets
		offsets.AddOffset(topic, 0, offset, -1)
		answer, err := admin.DeleteRecords(ctx, offsets)
		check(t, err)
		deleted, _ := answer.Lookup(topic, 0)
		return deleted
	}
	deleted := deleteBefore(7)
	check(t, deleted.Err)
	equal(t, deleted.LowWatermark, 7)
	expectOffsets(t, take(t, reader(t, topic, kgo.NewOffset().AtStart()), 13), 7)
	equal(t, errors.Is(deleteBefore(21).Err, kerr.OffsetOutOfRange), true)
	equal(t, deleteBefore(-1).LowWatermark, 20)
	starts, err := admin.ListStartOffsets(ctx, topic)
	check(t, err)
	start, _ := starts.Lookup(topic, 0)
	equal(t, start.Offset, 20)
}

func TestLogDirsTellTheSizeOfPartitions(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 2)
	produce(t, topic, []*kgo.Record{kgo.SliceRecord(make([]byte, 10_000))},
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	brokers, err := admin.DescribeAllLogDirs(ctx, only(topic, 0, 1))
	check(t, err)
	sizes := map[int32]int64{}
	brokers.Each(func(dir kadm.DescribedLogDir) {
		check(t, dir.Err)
		dir.Topics.Each(func(partition kadm.DescribedLogDirPartition) { sizes[partition.Partition] = partition.Size })
	})
	equal(t, len(sizes), 2)
	equal(t, sizes[0] > 10_000 && sizes[0] < 11_000, true)
	equal(t, sizes[1], 0)
}

func TestAnIdempotentProducerIsDescribed(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 1)
	records := produce(t, topic, numbered(3))
	topics, err := admin.DescribeProducers(ctx, only(topic, 0))
	check(t, err)
	partition := topics[topic].Partitions[0]
	check(t, partition.Err)
	equal(t, len(partition.ActiveProducers), 1)
	producer := partition.ActiveProducers.Sorted()[0]
	equal(t, producer.ProducerID, records[0].ProducerID)
	equal(t, producer.LastSequence, 2)
	equal(t, producer.CurrentTxnStartOffset, -1)
}

func TestLeadersNeedNoElection(t *testing.T) {
	admin, ctx, topic := newAdmin(t), within(t, replyTimeout), createTopic(t, 1)
	elected, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, only(topic, 0))
	check(t, err)
	equal(t, errors.Is(elected[topic][0].Err, kerr.ElectionNotNeeded), true)
	nobody := unusedName()
	elected, err = admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, only(nobody, 0))
	check(t, err)
	equal(t, errors.Is(elected[nobody][0].Err, kerr.UnknownTopicOrPartition), true)
}

func TestNoPartitionIsBeingReassigned(t *testing.T) {
	moving, err := newAdmin(t).ListPartitionReassignments(within(t, replyTimeout), nil)
	check(t, err)
	equal(t, len(moving), 0)
}
