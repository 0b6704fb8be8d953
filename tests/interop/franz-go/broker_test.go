// Package interop tests the broker at $BOOTSTRAP with franz-go.
package interop

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const replyTimeout = 20 * time.Second

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// newClient makes a client with the suite's defaults; it ends with the test.
func newClient(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(os.Getenv("BOOTSTRAP")),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// Metadata is cached for as long; most tests ask for what they just changed.
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.FetchMaxWait(500 * time.Millisecond),
	}, opts...)...)
	check(t, err)
	t.Cleanup(client.Close)
	return client
}

func newAdmin(t *testing.T, opts ...kgo.Opt) *kadm.Client {
	t.Helper()
	return kadm.NewClient(newClient(t, opts...))
}

func unusedName() string { return "franz-" + rand.Text()[:12] }

// createTopic waits for the leaders: a fresh topic may be listed before they serve it.
func createTopic(t *testing.T, partitions int32) string {
	t.Helper()
	return createTopicWith(t, partitions, nil)
}

func createTopicWith(t *testing.T, partitions int32, configs map[string]*string) string {
	t.Helper()
	topic, admin, ctx := unusedName(), newAdmin(t), within(t, replyTimeout)
	_, err := admin.CreateTopic(ctx, partitions, 1, configs, topic)
	check(t, err)
	waitUntil(t, "the leaders of "+topic+" answer", func() bool {
		listed, err := admin.ListEndOffsets(ctx, topic)
		return err == nil && listed.Error() == nil && len(listed[topic]) == int(partitions)
	})
	return topic
}

// produce writes records to a topic with a client of its own; they come back with what was acknowledged.
func produce(t *testing.T, topic string, records []*kgo.Record, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	return send(t, newClient(t, opts...), topic, records)
}

func send(t *testing.T, client *kgo.Client, topic string, records []*kgo.Record) []*kgo.Record {
	t.Helper()
	for _, record := range records {
		record.Topic = topic
	}
	check(t, client.ProduceSync(within(t, 2*replyTimeout), records...).FirstErr())
	return records
}

// numbered has the values "0", "1" ...
func numbered(count int) []*kgo.Record {
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = kgo.StringRecord(fmt.Sprint(i))
	}
	return records
}

func partition0(topic string, offset kgo.Offset) kgo.Opt {
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: offset}})
}

func reader(t *testing.T, topic string, offset kgo.Offset, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	return newClient(t, append(opts, partition0(topic, offset))...)
}

// take polls exactly so many records.
func take(t *testing.T, client *kgo.Client, count int) []*kgo.Record {
	t.Helper()
	var records []*kgo.Record
	ctx := within(t, 2*replyTimeout)
	for len(records) < count {
		fetches := client.PollRecords(ctx, count-len(records))
		check(t, fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

// expectNothing polls for a while and fails if a record comes.
func expectNothing(t *testing.T, client *kgo.Client, duration time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	for ctx.Err() == nil {
		if records := client.PollFetches(ctx).Records(); len(records) > 0 {
			t.Fatalf("%d records where none was expected, the first at offset %d", len(records), records[0].Offset)
		}
	}
}

func expectOffsets(t *testing.T, records []*kgo.Record, first int64) {
	t.Helper()
	for i, record := range records {
		if record.Offset != first+int64(i) {
			t.Fatalf("record %d has offset %d, not %d", i, record.Offset, first+int64(i))
		}
	}
}

func expectSameValues(t *testing.T, read, produced []*kgo.Record) {
	t.Helper()
	equal(t, len(read), len(produced))
	for i := range read {
		if string(read[i].Value) != string(produced[i].Value) {
			t.Fatalf("record %d is not what was produced", i)
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
		output, err := exec.CommandContext(within(t, 50*time.Second), "sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("restart: %v\n%s", err, output)
		}
	}
}
