package interop

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestClientsGoOnOverARestart(t *testing.T) {
	restart := restart(t)
	topic := createTopic(t, 1)
	producer := newClient(t)
	consumer := reader(t, topic, kgo.NewOffset().AtStart())
	send(t, producer, topic, numbered(1000))
	take(t, consumer, 1000)
	restart()
	expectOffsets(t, send(t, producer, topic, numbered(1000)), 1000)
	expectOffsets(t, take(t, consumer, 1000), 1000)
}

func TestRecordsAndTopicIdsSurviveARestart(t *testing.T) {
	restart := restart(t)
	topic := createTopic(t, 3)
	id := func() [16]byte {
		listed, err := newAdmin(t).ListTopics(within(t, replyTimeout), topic)
		check(t, err)
		return listed[topic].ID
	}
	before := id()
	records := numbered(300)
	for i, record := range records {
		record.Partition = int32(i % 3)
	}
	produce(t, topic, records)
	restart()
	equal(t, id(), before)
	client := newClient(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var next [3]int64
	for _, record := range take(t, client, 300) {
		equal(t, record.Offset, next[record.Partition])
		next[record.Partition]++
	}
}
