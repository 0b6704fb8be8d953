package interop

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestReadingStartsAtAnyOffsetEvenInsideABatch(t *testing.T) {
	topic := createTopic(t, 1)
	produce(t, topic, numbered(100), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	produce(t, topic, numbered(100), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for _, start := range []int64{0, 1, 99, 100, 150, 199} {
		records := take(t, reader(t, topic, kgo.NewOffset().At(start)), int(200-start))
		expectOffsets(t, records, start)
	}
	relative := take(t, reader(t, topic, kgo.NewOffset().AtEnd().Relative(-30)), 30)
	expectOffsets(t, relative, 170)
}

func TestSettingOffsetsGoesBackAndForth(t *testing.T) {
	topic := createTopic(t, 1)
	produce(t, topic, numbered(300))
	client := reader(t, topic, kgo.NewOffset().AtStart())
	take(t, client, 1)
	for _, offset := range []int64{250, 3, 120} {
		client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: offset}}})
		expectOffsets(t, take(t, client, 20), offset)
	}
}

func TestAReaderAtTheEndGetsOnlyWhatComesAfter(t *testing.T) {
	topic := createTopic(t, 1)
	produce(t, topic, numbered(10))
	client := reader(t, topic, kgo.NewOffset().AtEnd())
	expectNothing(t, client, time.Second)
	produce(t, topic, numbered(1))
	expectOffsets(t, take(t, client, 1), 10)
}

func TestReadingStartsAtATime(t *testing.T) {
	topic := createTopic(t, 1)
	first := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var records []*kgo.Record
	for i := range 10 {
		records = append(records, &kgo.Record{Timestamp: first.Add(time.Duration(i) * time.Minute)})
	}
	produce(t, topic, records)
	after := kgo.NewOffset().AfterMilli(first.Add(3*time.Minute + time.Millisecond).UnixMilli())
	expectOffsets(t, take(t, reader(t, topic, after), 6), 4)
}

func TestAnOffsetOutOfRangeIsResetOrReported(t *testing.T) {
	topic := createTopic(t, 1)
	produce(t, topic, numbered(3))
	reset := reader(t, topic, kgo.NewOffset().At(5000), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	expectOffsets(t, take(t, reset, 3), 0)

	strict := reader(t, topic, kgo.NewOffset().At(5000), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	err := strict.PollFetches(within(t, replyTimeout)).Err()
	if !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Fatalf("got %v, want %v", err, kerr.OffsetOutOfRange)
	}
}

func TestAWaitingReaderGetsANewRecordBeforeItsWaitEnds(t *testing.T) {
	topic := createTopic(t, 1)
	client := reader(t, topic, kgo.NewOffset().AtStart(), kgo.FetchMaxWait(30*time.Second))
	expectNothing(t, client, time.Second)
	produce(t, topic, numbered(1))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	equal(t, len(client.PollFetches(ctx).Records()), 1)
}

type fetchCounter struct{ sent atomic.Int32 }

func (c *fetchCounter) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == 1 {
		c.sent.Add(1)
	}
}

func TestAnIdleReaderWaitsInTheBrokerAndDoesNotSpin(t *testing.T) {
	topic := createTopic(t, 1)
	fetches := &fetchCounter{}
	client := reader(t, topic, kgo.NewOffset().AtStart(), kgo.FetchMaxWait(time.Second), kgo.WithHooks(fetches))
	expectNothing(t, client, 3*time.Second)
	if sent := fetches.sent.Load(); sent < 2 || sent > 8 {
		t.Fatalf("%d fetches within 3 s, with waits of 1 s", sent)
	}
}

func TestRecordsLargerThanTheFetchLimitsAreRead(t *testing.T) {
	topic := createTopic(t, 1)
	for range 5 {
		produce(t, topic, []*kgo.Record{kgo.SliceRecord(make([]byte, 60_000))},
			kgo.ProducerBatchCompression(kgo.NoCompression()))
	}
	client := reader(t, topic, kgo.NewOffset().AtStart(), kgo.FetchMaxBytes(1000), kgo.FetchMaxPartitionBytes(1000))
	expectOffsets(t, take(t, client, 5), 0)
}

func TestWithoutFetchSessionsReadingIsTheSame(t *testing.T) {
	topic := createTopic(t, 1)
	produce(t, topic, numbered(50))
	client := reader(t, topic, kgo.NewOffset().AtStart(), kgo.DisableFetchSessions())
	expectOffsets(t, take(t, client, 50), 0)
	produce(t, topic, numbered(50))
	expectOffsets(t, take(t, client, 50), 50)
}

func TestAPausedPartitionRestsAndGoesOn(t *testing.T) {
	topic := createTopic(t, 2)
	client := newClient(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	both := func() []*kgo.Record { return []*kgo.Record{{Partition: 0}, {Partition: 1}} }
	produce(t, topic, both())
	take(t, client, 2)
	client.PauseFetchPartitions(map[string][]int32{topic: {1}})
	produce(t, topic, both())
	equal(t, take(t, client, 1)[0].Partition, 0)
	expectNothing(t, client, time.Second)
	client.ResumeFetchPartitions(map[string][]int32{topic: {1}})
	equal(t, take(t, client, 1)[0].Partition, 1)
}

func TestPartitionsAreAddedToAndTakenFromAReader(t *testing.T) {
	topic := createTopic(t, 3)
	produce(t, topic, []*kgo.Record{{Partition: 0}, {Partition: 1}, {Partition: 2}})
	client := reader(t, topic, kgo.NewOffset().AtStart())
	equal(t, take(t, client, 1)[0].Partition, 0)
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {2: kgo.NewOffset().AtStart()}})
	equal(t, take(t, client, 1)[0].Partition, 2)
	client.RemoveConsumePartitions(map[string][]int32{topic: {0}})
	produce(t, topic, []*kgo.Record{{Partition: 0}, {Partition: 2}})
	equal(t, take(t, client, 1)[0].Partition, 2)
	expectNothing(t, client, time.Second)
}
