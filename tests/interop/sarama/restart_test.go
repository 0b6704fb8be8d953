package interop

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func TestClientsGoOnOverARestart(t *testing.T) {
	restart := restart(t)
	topic := createTopic(t, 1)
	config := newConfig()
	config.Producer.Retry.Max = 50
	config.Producer.Retry.Backoff = 200 * time.Millisecond
	producer := newProducer(t, config)
	// A consumer reports each failed attempt; here it is only to go on.
	patient := newConfig()
	patient.Consumer.Return.Errors = false
	reader := reader(t, topic, 0, sarama.OffsetOldest, patient)
	send(t, producer, topic, numbered(1000))
	take(t, reader, 1000)
	restart()
	after := send(t, producer, topic, numbered(1000))
	equal(t, after[0].Offset, 1000)
	expectOffsets(t, take(t, reader, 1000), 1000)
}

func TestMessagesSurviveARestart(t *testing.T) {
	restart := restart(t)
	topic := createTopic(t, 1)
	messages := produce(t, topic, numbered(500), idempotent())
	restart()
	waitForLeaders(t, topic, 1)
	expectSameValues(t, readAll(t, topic, 500), messages)
	equal(t, produce(t, topic, numbered(1), idempotent())[0].Offset, 500)
}
