package main

import (
	"context"
	"time"

	"github.com/IBM/sarama"
)

// A session's life. Sarama does not say whether a commit was taken, so none is printed.
type handler struct{ of task }

func (h handler) Setup(session sarama.ConsumerGroupSession) error {
	sayPartitions("assigned", session.Claims()[h.of.topic])
	return nil
}

func (h handler) Cleanup(session sarama.ConsumerGroupSession) error {
	sayPartitions("revoked", session.Claims()[h.of.topic])
	return nil
}

func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			say("read %d %d %s", message.Partition, message.Offset, message.Value)
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func withSarama(ctx context.Context, of task) error {
	config := sarama.NewConfig()
	config.ClientID = of.name
	config.Consumer.Group.Session.Timeout = session
	config.Consumer.Group.Heartbeat.Interval = heartbeat
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	var group sarama.ConsumerGroup
	for {
		var err error
		if group, err = sarama.NewConsumerGroup([]string{of.bootstrap}, of.group, config); err == nil {
			break
		}
		// The broker may be on its way back.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
	defer group.Close()
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{of.topic}, handler{of}); err != nil {
			say("refused %T", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	return nil
}
