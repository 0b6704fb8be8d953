package interop

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func TestAcknowledgedMessagesHaveTheirOffsets(t *testing.T) {
	for name, acks := range map[string]sarama.RequiredAcks{"leader": sarama.WaitForLocal, "all": sarama.WaitForAll} {
		t.Run(name, func(t *testing.T) {
			topic, config := createTopic(t, 1), newConfig()
			config.Producer.RequiredAcks = acks
			messages := produce(t, topic, numbered(1000), config)
			for i, message := range messages {
				equal(t, message.Offset, int64(i))
			}
			expectSameValues(t, readAll(t, topic, 1000), messages)
		})
	}
}

func TestAcks0WritesWithoutAnAnswer(t *testing.T) {
	topic, config := createTopic(t, 1), newConfig()
	config.Producer.RequiredAcks = sarama.NoResponse
	producer, messages := newProducer(t, config), numbered(1000)
	send(t, producer, topic, messages[:500])
	send(t, producer, topic, messages[500:])
	expectSameValues(t, readAll(t, topic, 1000), messages)
}

func TestAnIdempotentProducerWritesOnceAndInOrder(t *testing.T) {
	topic, config := createTopic(t, 1), idempotent()
	config.Producer.Flush.MaxMessages = 200
	messages := produce(t, topic, numbered(10_000), config)
	for i, message := range messages {
		equal(t, message.Offset, int64(i))
	}
	expectSameValues(t, readAll(t, topic, 10_000), messages)
}

func TestEveryCodecRoundTrips(t *testing.T) {
	for _, codec := range []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4,
		sarama.CompressionZSTD,
	} {
		t.Run(codec.String(), func(t *testing.T) {
			topic, config := createTopic(t, 1), newConfig()
			config.Producer.Compression = codec
			config.Producer.Flush.Messages = 100
			var messages []*sarama.ProducerMessage
			for i := range 500 {
				messages = append(messages, message(fmt.Sprintf("%d %s%s", i, rand.Text(), strings.Repeat("a", i))))
			}
			produce(t, topic, messages, config)
			read := readAll(t, topic, 500)
			expectOffsets(t, read, 0)
			expectSameValues(t, read, messages)
		})
	}
}

// Sarama speaks as old a protocol as it is told to.
func TestEveryGenerationOfTheProtocolRoundTrips(t *testing.T) {
	for _, version := range []sarama.KafkaVersion{
		sarama.V2_1_0_0, sarama.V2_8_0_0, sarama.V3_6_0_0, sarama.V4_3_1_0,
	} {
		t.Run(version.String(), func(t *testing.T) {
			topic, config := createTopic(t, 1), idempotent()
			config.Version = version
			config.Producer.Compression = sarama.CompressionZSTD
			messages := numbered(100)
			messages[0].Headers = []sarama.RecordHeader{{Key: []byte("k"), Value: []byte("v")}}
			produce(t, topic, messages, config)
			read := take(t, reader(t, topic, 0, sarama.OffsetOldest, config), 100)
			expectSameValues(t, read, messages)
			equal(t, string(read[0].Headers[0].Key)+string(read[0].Headers[0].Value), "kv")
			end, err := newClient(t, config).GetOffset(topic, 0, sarama.OffsetNewest)
			check(t, err)
			equal(t, end, 100)
		})
	}
}

func TestKeysNullsHeadersAndTimestampsAreKept(t *testing.T) {
	topic := createTopic(t, 1)
	now := time.Now().Truncate(time.Millisecond)
	headers := []sarama.RecordHeader{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a"), Value: []byte("again")},
		{Key: []byte("ключ-😀"), Value: []byte{0, 255}},
	}
	producer := newProducer(t, newConfig())
	send(t, producer, topic, []*sarama.ProducerMessage{
		{Key: sarama.StringEncoder("key"), Value: sarama.StringEncoder("value"), Timestamp: now.Add(-time.Hour)},
	})
	send(t, producer, topic, []*sarama.ProducerMessage{{Key: sarama.StringEncoder("tombstone"), Timestamp: now}})
	send(t, producer, topic, []*sarama.ProducerMessage{{Value: sarama.StringEncoder(""), Headers: headers}})

	read := readAll(t, topic, 3)
	equal(t, string(read[0].Key)+"="+string(read[0].Value), "key=value")
	equal(t, read[0].Timestamp.UnixMilli(), now.Add(-time.Hour).UnixMilli())
	equal(t, string(read[1].Key), "tombstone")
	equal(t, read[1].Value == nil, true)
	equal(t, read[1].Timestamp.UnixMilli(), now.UnixMilli())
	equal(t, read[2].Key == nil && read[2].Value != nil && len(read[2].Value) == 0, true)
	equal(t, len(read[2].Headers), len(headers))
	for i, header := range read[2].Headers {
		equal(t, string(header.Key)+"="+string(header.Value), string(headers[i].Key)+"="+string(headers[i].Value))
	}
}

func TestMessagesOfAMegabyteRoundTrip(t *testing.T) {
	topic := createTopic(t, 1)
	var messages []*sarama.ProducerMessage
	for range 5 {
		value := make([]byte, 1_000_000)
		rand.Read(value)
		messages = append(messages, message(string(value)))
	}
	produce(t, topic, messages, newConfig())
	expectSameValues(t, readAll(t, topic, 5), messages)
}

func TestAMessageOverTheTopicsLimitIsRefusedAndTheNextOneTaken(t *testing.T) {
	limit := "10000"
	topic := createTopicWith(t, 1, map[string]*string{"max.message.bytes": &limit})
	producer := newProducer(t, newConfig())
	large := message(strings.Repeat("x", 20_000))
	large.Topic = topic
	_, _, err := producer.SendMessage(large)
	if !errors.Is(err, sarama.ErrMessageSizeTooLarge) {
		t.Fatalf("got %v, want %v", err, sarama.ErrMessageSizeTooLarge)
	}
	equal(t, send(t, producer, topic, []*sarama.ProducerMessage{message("small")})[0].Offset, 0)
}

func TestAnUnknownTopicIsRefusedUnlessItMayBeCreated(t *testing.T) {
	topic := unusedName()
	refused := message("x")
	refused.Topic = topic
	_, _, err := newProducer(t, newConfig()).SendMessage(refused)
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Fatalf("got %v, want %v", err, sarama.ErrUnknownTopicOrPartition)
	}
	config := newConfig()
	config.Metadata.AllowAutoTopicCreation = true
	equal(t, produce(t, topic, numbered(2), config)[1].Offset, 1)
}

func TestKeysAreSpreadOverPartitionsThatEachHaveTheirLog(t *testing.T) {
	const partitions = 20
	topic, config := createTopic(t, partitions), newConfig()
	config.Producer.Partitioner = sarama.NewHashPartitioner
	var messages []*sarama.ProducerMessage
	for i := range 2000 {
		key := fmt.Sprintf("key-%d", i%100)
		messages = append(messages, &sarama.ProducerMessage{Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(key)})
	}
	produce(t, topic, messages, config)

	var counts [partitions]int
	for _, message := range messages {
		counts[message.Partition]++
	}
	client, homes := newClient(t, newConfig()), map[string]int32{}
	consumer, err := sarama.NewConsumerFromClient(client)
	check(t, err)
	for partition := range int32(partitions) {
		reader, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		check(t, err)
		read := take(t, reader, counts[partition])
		expectOffsets(t, read, 0)
		for _, message := range read {
			home, known := homes[string(message.Key)]
			equal(t, !known || home == partition, true)
			homes[string(message.Key)] = partition
		}
		check(t, reader.Close())
	}
	equal(t, len(homes), 100)
	check(t, consumer.Close())
}
