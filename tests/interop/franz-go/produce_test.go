package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestAcknowledgedRecordsHaveTheirOffsets(t *testing.T) {
	for name, acks := range map[string]kgo.Acks{"leader": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		t.Run(name, func(t *testing.T) {
			topic := createTopic(t, 1)
			records := produce(t, topic, numbered(1000), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
			expectOffsets(t, records, 0)
			expectSameValues(t, take(t, reader(t, topic, kgo.NewOffset().AtStart()), 1000), records)
		})
	}
}

func TestAcks0WritesWithoutAnAnswer(t *testing.T) {
	topic := createTopic(t, 1)
	client := newClient(t, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	produced := numbered(1000)
	send(t, client, topic, produced[:500])
	send(t, client, topic, produced[500:])
	expectSameValues(t, take(t, reader(t, topic, kgo.NewOffset().AtStart()), 1000), produced)
}

func TestAnIdempotentProducerWritesOnceAndInOrder(t *testing.T) {
	topic := createTopic(t, 1)
	// Small batches, so that many are in flight at once.
	records := produce(t, topic, numbered(20_000), kgo.ProducerBatchMaxBytes(4096), kgo.ProducerLinger(0))
	expectOffsets(t, records, 0)
	if records[0].ProducerID < 0 || records[0].ProducerEpoch < 0 {
		t.Fatalf("no producer id: %d, epoch %d", records[0].ProducerID, records[0].ProducerEpoch)
	}
	expectSameValues(t, take(t, reader(t, topic, kgo.NewOffset().AtStart()), 20_000), records)
}

func TestEveryCodecRoundTrips(t *testing.T) {
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			topic := createTopic(t, 1)
			var records []*kgo.Record
			for i := range 500 {
				records = append(records, kgo.StringRecord(fmt.Sprintf("%d %s%s", i, rand.Text(), strings.Repeat("a", i))))
			}
			produce(t, topic, records, kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(50*time.Millisecond))
			read := take(t, reader(t, topic, kgo.NewOffset().AtStart()), 500)
			expectSameValues(t, read, records)
			expectOffsets(t, read, 0)
			equal(t, codecOf(read[499]), name)
		})
	}
}

func codecOf(record *kgo.Record) string {
	return [...]string{"none", "gzip", "snappy", "lz4", "zstd"}[record.Attrs.CompressionType()]
}

func TestKeysNullsHeadersAndTimestampsAreKept(t *testing.T) {
	topic := createTopic(t, 1)
	now := time.Now().Truncate(time.Millisecond)
	produced := []*kgo.Record{
		{Key: []byte("key"), Value: []byte("value"), Timestamp: now.Add(-time.Hour)},
		{Key: nil, Value: nil, Timestamp: now},
		{Key: []byte{}, Value: []byte{}, Timestamp: now.Add(-time.Millisecond)},
		{Value: []byte("headers"), Timestamp: now, Headers: []kgo.RecordHeader{
			{Key: "a", Value: []byte("1")}, {Key: "null"}, {Key: "empty", Value: []byte{}},
			{Key: "a", Value: []byte("again")}, {Key: "ключ-😀", Value: []byte{0, 255}},
		}},
	}
	produce(t, topic, produced)
	for i, read := range take(t, reader(t, topic, kgo.NewOffset().AtStart()), len(produced)) {
		want := produced[i]
		if !same(read.Key, want.Key) || !same(read.Value, want.Value) || !read.Timestamp.Equal(want.Timestamp) {
			t.Fatalf("record %d: got %q=%q at %v, want %q=%q at %v",
				i, read.Key, read.Value, read.Timestamp, want.Key, want.Value, want.Timestamp)
		}
		equal(t, len(read.Headers), len(want.Headers))
		for h, header := range read.Headers {
			equal(t, header.Key, want.Headers[h].Key)
			equal(t, same(header.Value, want.Headers[h].Value), true)
		}
	}
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func TestRecordsOfAMegabyteRoundTrip(t *testing.T) {
	topic := createTopic(t, 1)
	var records []*kgo.Record
	for range 5 {
		value := make([]byte, 1_000_000)
		rand.Read(value)
		records = append(records, kgo.SliceRecord(value))
	}
	produce(t, topic, records, kgo.ProducerBatchMaxBytes(1_040_000))
	expectSameValues(t, take(t, reader(t, topic, kgo.NewOffset().AtStart()), 5), records)
}

func TestARecordOverTheTopicsLimitIsRefusedAndTheNextOneTaken(t *testing.T) {
	limit := "10000"
	topic := createTopicWith(t, 1, map[string]*string{"max.message.bytes": &limit})
	client := newClient(t, kgo.ProducerBatchCompression(kgo.NoCompression()))
	large := &kgo.Record{Topic: topic, Value: make([]byte, 20_000)}
	err := client.ProduceSync(within(t, replyTimeout), large).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Fatalf("got %v, want %v", err, kerr.MessageTooLarge)
	}
	expectOffsets(t, send(t, client, topic, []*kgo.Record{kgo.StringRecord("small")}), 0)
}

func TestAnUnknownTopicIsRefusedUnlessItMayBeCreated(t *testing.T) {
	topic := unusedName()
	refused := newClient(t, kgo.UnknownTopicRetries(1)).
		ProduceSync(within(t, replyTimeout), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
	if !errors.Is(refused, kerr.UnknownTopicOrPartition) {
		t.Fatalf("got %v, want %v", refused, kerr.UnknownTopicOrPartition)
	}
	records := produce(t, topic, numbered(2), kgo.AllowAutoTopicCreation())
	expectOffsets(t, records, 0)
}

func TestEachOfManyPartitionsHasItsOwnLog(t *testing.T) {
	const partitions, each = 40, 50
	topic := createTopic(t, partitions)
	var records []*kgo.Record
	for i := range each {
		for p := range int32(partitions) {
			records = append(records, &kgo.Record{Partition: p, Value: fmt.Appendf(nil, "%d:%d", p, i)})
		}
	}
	produce(t, topic, records)
	client := newClient(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var next [partitions]int64
	for _, record := range take(t, client, partitions*each) {
		equal(t, string(record.Value), fmt.Sprintf("%d:%d", record.Partition, next[record.Partition]))
		equal(t, record.Offset, next[record.Partition])
		next[record.Partition]++
	}
}

func TestProducersInParallelLoseAndReorderNothing(t *testing.T) {
	const producers, each = 4, 4000
	topic := createTopic(t, 1)
	var wait sync.WaitGroup
	for name := range producers {
		client := newClient(t, kgo.ProducerBatchMaxBytes(16_384))
		for i := range each {
			wait.Add(1)
			record := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%d:%d", name, i)}
			client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
				defer wait.Done()
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
	var next [producers]int
	for _, record := range take(t, reader(t, topic, kgo.NewOffset().AtStart()), producers*each) {
		var name, i int
		_, err := fmt.Sscanf(string(record.Value), "%d:%d", &name, &i)
		check(t, err)
		equal(t, i, next[name])
		next[name]++
	}
}
