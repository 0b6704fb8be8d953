package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func franz(ctx context.Context, of task) error {
	told := func(event string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			sayPartitions(event, partitions[of.topic])
		}
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(of.bootstrap),
		kgo.ClientID(of.name),
		kgo.ConsumerGroup(of.group),
		kgo.ConsumeTopics(of.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(told("assigned")),
		kgo.OnPartitionsRevoked(told("revoked")),
		kgo.OnPartitionsLost(told("revoked")),
	}
	client, err := kgo.NewClient(append(options, protocol(of.strategy)...)...)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	for ctx.Err() == nil {
		for _, record := range client.PollRecords(ctx, 200).Records() {
			say("read %d %d %s", record.Partition, record.Offset, record.Value)
		}
		commit(client, of.topic)
		client.AllowRebalance()
	}
	return nil
}

// How a group is managed. Sessions are the broker's where it shares partitions out.
func protocol(strategy string) []kgo.Opt {
	switch strategy {
	case "consumer":
		// The balancer says which of the broker's assignors is asked for.
		return []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())}
	case "cooperative-sticky":
		return classic(kgo.CooperativeStickyBalancer())
	default:
		return classic(kgo.RangeBalancer())
	}
}

func classic(balancer kgo.GroupBalancer) []kgo.Opt {
	return []kgo.Opt{kgo.Balancers(balancer), kgo.SessionTimeout(session), kgo.HeartbeatInterval(heartbeat)}
}

// Commits all that is read. What is refused during a rebalance is committed with what comes next.
func commit(client *kgo.Client, topic string) {
	next := client.UncommittedOffsets()
	if len(next) == 0 {
		return
	}
	client.CommitOffsetsSync(context.Background(), next, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			say("refused %T", err)
			return
		}
		for _, partition := range response.Topics[0].Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				say("refused %s", err)
			} else {
				say("committed %d %d", partition.Partition, next[topic][partition.Partition].Offset)
			}
		}
	})
}
