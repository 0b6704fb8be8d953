// Package interop tests the broker at $BOOTSTRAP with Sarama.
package interop

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

const replyTimeout = 20 * time.Second

// newConfig has the suite's defaults: partitions are chosen by hand, nothing is hidden from the test.
func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Consumer.Return.Errors = true
	// To close a consumer takes as long as its fetch waits.
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Retry.Backoff = 200 * time.Millisecond
	config.Metadata.AllowAutoTopicCreation = false
	return config
}

func idempotent() *sarama.Config {
	config := newConfig()
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	return config
}

func newClient(t *testing.T, config *sarama.Config) sarama.Client {
	t.Helper()
	client, err := sarama.NewClient([]string{os.Getenv("BOOTSTRAP")}, config)
	check(t, err)
	// What the test made of the client may have closed it already.
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newAdmin(t *testing.T) sarama.ClusterAdmin {
	t.Helper()
	admin, err := sarama.NewClusterAdminFromClient(newClient(t, newConfig()))
	check(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	return admin
}

func newProducer(t *testing.T, config *sarama.Config) sarama.SyncProducer {
	t.Helper()
	producer, err := sarama.NewSyncProducerFromClient(newClient(t, config))
	check(t, err)
	t.Cleanup(func() { _ = producer.Close() })
	return producer
}

func unusedName() string { return "sarama-" + rand.Text()[:12] }

// createTopic waits for the leaders: a fresh topic may be listed before they serve it.
func createTopic(t *testing.T, partitions int32) string {
	t.Helper()
	return createTopicWith(t, partitions, nil)
}

func createTopicWith(t *testing.T, partitions int32, entries map[string]*string) string {
	t.Helper()
	topic := unusedName()
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}
	check(t, newAdmin(t).CreateTopic(topic, detail, false))
	waitForLeaders(t, topic, partitions)
	return topic
}

func waitForLeaders(t *testing.T, topic string, partitions int32) {
	t.Helper()
	client := newClient(t, newConfig())
	waitUntil(t, "the leaders of "+topic+" answer", func() bool {
		for partition := range partitions {
			if _, err := client.GetOffset(topic, partition, sarama.OffsetNewest); err != nil {
				return false
			}
		}
		return true
	})
}

// message has no key, and goes to partition 0.
func message(value string) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{Value: sarama.StringEncoder(value)}
}

// numbered has the values "0", "1" ...
func numbered(count int) []*sarama.ProducerMessage {
	messages := make([]*sarama.ProducerMessage, count)
	for i := range messages {
		messages[i] = message(fmt.Sprint(i))
	}
	return messages
}

// produce writes messages with a producer of its own; they come back with what was acknowledged.
func produce(t *testing.T, topic string, messages []*sarama.ProducerMessage, config *sarama.Config) []*sarama.ProducerMessage {
	t.Helper()
	return send(t, newProducer(t, config), topic, messages)
}

func send(t *testing.T, producer sarama.SyncProducer, topic string, messages []*sarama.ProducerMessage) []*sarama.ProducerMessage {
	t.Helper()
	for _, message := range messages {
		message.Topic = topic
	}
	check(t, producer.SendMessages(messages))
	return messages
}

// reader consumes one partition from an offset, or from OffsetOldest or OffsetNewest.
func reader(t *testing.T, topic string, partition int32, offset int64, config *sarama.Config) sarama.PartitionConsumer {
	t.Helper()
	consumer, err := sarama.NewConsumerFromClient(newClient(t, config))
	check(t, err)
	t.Cleanup(func() { _ = consumer.Close() })
	reader, err := consumer.ConsumePartition(topic, partition, offset)
	check(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	return reader
}

func take(t *testing.T, reader sarama.PartitionConsumer, count int) []*sarama.ConsumerMessage {
	t.Helper()
	var messages []*sarama.ConsumerMessage
	deadline := time.After(2 * replyTimeout)
	for len(messages) < count {
		select {
		case message := <-reader.Messages():
			messages = append(messages, message)
		case err := <-reader.Errors():
			t.Fatal(err)
		case <-deadline:
			t.Fatalf("%d of %d messages in time", len(messages), count)
		}
	}
	return messages
}

func expectNothing(t *testing.T, reader sarama.PartitionConsumer, duration time.Duration) {
	t.Helper()
	select {
	case message := <-reader.Messages():
		t.Fatalf("a message where none was expected, at offset %d", message.Offset)
	case err := <-reader.Errors():
		t.Fatal(err)
	case <-time.After(duration):
	}
}

func readAll(t *testing.T, topic string, count int) []*sarama.ConsumerMessage {
	t.Helper()
	return take(t, reader(t, topic, 0, sarama.OffsetOldest, newConfig()), count)
}

func expectOffsets(t *testing.T, messages []*sarama.ConsumerMessage, first int64) {
	t.Helper()
	for i, message := range messages {
		if message.Offset != first+int64(i) {
			t.Fatalf("message %d has offset %d, not %d", i, message.Offset, first+int64(i))
		}
	}
}

func expectSameValues(t *testing.T, read []*sarama.ConsumerMessage, produced []*sarama.ProducerMessage) {
	t.Helper()
	equal(t, len(read), len(produced))
	for i := range read {
		value, err := produced[i].Value.Encode()
		check(t, err)
		if string(read[i].Value) != string(value) {
			t.Fatalf("message %d is not what was produced", i)
		}
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// restart restarts the broker cleanly, where the runner owns it.
func restart(t *testing.T) func() {
	command := os.Getenv("RESTART_COMMAND")
	if command == "" {
		t.Skip("the broker is not ours to restart")
	}
	return func() {
		t.Helper()
		output, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("restart: %v\n%s", err, output)
		}
	}
}
