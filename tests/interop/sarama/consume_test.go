package interop

import (
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func TestReadingStartsAtAnyOffsetEvenInsideABatch(t *testing.T) {
	topic, config := createTopic(t, 1), newConfig()
	config.Producer.Compression = sarama.CompressionGZIP
	produce(t, topic, numbered(100), config)
	produce(t, topic, numbered(100), newConfig())
	for _, start := range []int64{0, 1, 99, 100, 150, 199} {
		expectOffsets(t, take(t, reader(t, topic, 0, start, newConfig()), int(200-start)), start)
	}
}

func TestAReaderAtTheEndGetsOnlyWhatComesAfter(t *testing.T) {
	topic := createTopic(t, 1)
	produce(t, topic, numbered(10), newConfig())
	reader := reader(t, topic, 0, sarama.OffsetNewest, newConfig())
	expectNothing(t, reader, time.Second)
	produce(t, topic, numbered(1), newConfig())
	expectOffsets(t, take(t, reader, 1), 10)
	equal(t, reader.HighWaterMarkOffset(), 11)
}

func TestOffsetsAreFoundByEndAndTime(t *testing.T) {
	topic, client := createTopic(t, 1), newClient(t, newConfig())
	first := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for _, after := range []time.Duration{0, time.Second, 30 * time.Second, 3 * time.Second} {
		late := message("x")
		late.Timestamp = first.Add(after)
		produce(t, topic, []*sarama.ProducerMessage{late}, newConfig())
	}
	for query, want := range map[int64]int64{
		sarama.OffsetOldest:                            0,
		sarama.OffsetNewest:                            4,
		first.UnixMilli():                              0,
		first.Add(time.Millisecond).UnixMilli():        1,
		first.Add(1001 * time.Millisecond).UnixMilli(): 2,
		first.Add(time.Minute).UnixMilli():             -1,
	} {
		offset, err := client.GetOffset(topic, 0, query)
		check(t, err)
		if offset != want {
			t.Errorf("the offset for %d is %d, not %d", query, offset, want)
		}
	}
	listed, err := newAdmin(t).ListOffsets(map[string]map[int32]int64{topic: {0: sarama.OffsetNewest}}, nil)
	check(t, err)
	equal[error](t, listed[topic][0].Err, sarama.ErrNoError)
	equal(t, listed[topic][0].Offset, 4)
}

func TestAnOffsetOutOfRangeIsReported(t *testing.T) {
	topic := createTopic(t, 1)
	produce(t, topic, numbered(3), newConfig())
	consumer, err := sarama.NewConsumerFromClient(newClient(t, newConfig()))
	check(t, err)
	_, err = consumer.ConsumePartition(topic, 0, 5000)
	if !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		t.Fatalf("got %v, want %v", err, sarama.ErrOffsetOutOfRange)
	}
	check(t, consumer.Close())
}

func TestAWaitingReaderGetsANewMessageBeforeItsWaitEnds(t *testing.T) {
	topic, config := createTopic(t, 1), newConfig()
	config.Consumer.MaxWaitTime = 25 * time.Second
	reader := reader(t, topic, 0, sarama.OffsetOldest, config)
	expectNothing(t, reader, time.Second)
	produce(t, topic, numbered(1), newConfig())
	select {
	case message := <-reader.Messages():
		equal(t, message.Offset, 0)
	case <-time.After(10 * time.Second):
		t.Fatal("not within 10 s")
	}
	// Closing waits for the fetch that is under way by now; one more message ends it.
	reader.AsyncClose()
	produce(t, topic, numbered(1), newConfig())
}

func TestMessagesLargerThanTheFetchSizeAreRead(t *testing.T) {
	topic, config := createTopic(t, 1), newConfig()
	for range 5 {
		produce(t, topic, []*sarama.ProducerMessage{message(string(make([]byte, 60_000)))}, newConfig())
	}
	config.Consumer.Fetch.Default = 1000
	expectOffsets(t, take(t, reader(t, topic, 0, sarama.OffsetOldest, config), 5), 0)
}

func TestManyPartitionsAreReadThroughOneConsumer(t *testing.T) {
	const partitions = 30
	topic := createTopic(t, partitions)
	var messages []*sarama.ProducerMessage
	for i := range int32(partitions * 10) {
		messages = append(messages, &sarama.ProducerMessage{Partition: i % partitions, Value: sarama.StringEncoder("x")})
	}
	consumer, err := sarama.NewConsumerFromClient(newClient(t, newConfig()))
	check(t, err)
	var readers []sarama.PartitionConsumer
	for partition := range int32(partitions) {
		reader, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		check(t, err)
		readers = append(readers, reader)
	}
	produce(t, topic, messages, newConfig())
	for _, reader := range readers {
		expectOffsets(t, take(t, reader, 10), 0)
		check(t, reader.Close())
	}
	check(t, consumer.Close())
}

func TestAPausedPartitionRestsAndGoesOn(t *testing.T) {
	topic := createTopic(t, 1)
	reader := reader(t, topic, 0, sarama.OffsetOldest, newConfig())
	produce(t, topic, numbered(1), newConfig())
	take(t, reader, 1)
	reader.Pause()
	// The fetch that was under way when it paused still delivers; this one waits it out.
	time.Sleep(time.Second)
	produce(t, topic, numbered(1), newConfig())
	expectNothing(t, reader, time.Second)
	reader.Resume()
	expectOffsets(t, take(t, reader, 1), 1)
}
