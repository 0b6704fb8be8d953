package interop

import (
	"errors"
	"testing"

	"github.com/IBM/sarama"
)

func TestDeletedRecordsAreGone(t *testing.T) {
	admin, topic := newAdmin(t), createTopic(t, 1)
	produce(t, topic, numbered(20), newConfig())
	check(t, admin.DeleteRecords(topic, map[int32]int64{0: 7}))
	start, err := newClient(t, newConfig()).GetOffset(topic, 0, sarama.OffsetOldest)
	check(t, err)
	equal(t, start, 7)
	expectOffsets(t, readAll(t, topic, 13), 7)
	if err := admin.DeleteRecords(topic, map[int32]int64{0: 21}); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		t.Fatalf("got %v, want %v", err, sarama.ErrOffsetOutOfRange)
	}
}

func TestLogDirsTellTheSizeOfPartitions(t *testing.T) {
	admin, topic := newAdmin(t), createTopic(t, 1)
	produce(t, topic, []*sarama.ProducerMessage{message(string(make([]byte, 10_000)))}, newConfig())
	_, controller, err := admin.DescribeCluster()
	check(t, err)
	described, err := admin.DescribeLogDirs([]int32{controller})
	check(t, err)
	var size int64
	for _, dir := range described[controller] {
		equal(t, dir.ErrorCode, sarama.ErrNoError)
		for _, in := range dir.Topics {
			if in.Topic == topic {
				size += in.Partitions[0].Size
			}
		}
	}
	equal(t, size > 10_000 && size < 11_000, true)
}

func TestLeadersNeedNoElection(t *testing.T) {
	topic := createTopic(t, 1)
	elected, err := newAdmin(t).ElectLeaders(sarama.PreferredElection, map[string][]int32{topic: {0}})
	check(t, err)
	equal(t, elected[topic][0].ErrorCode, sarama.ErrElectionNotNeeded)
}

func TestNoPartitionIsBeingReassigned(t *testing.T) {
	topic := createTopic(t, 1)
	moving, err := newAdmin(t).ListPartitionReassignments(topic, []int32{0})
	check(t, err)
	equal(t, len(moving[topic]), 0)
}
