"""What operators ask, through the admin client of generation 3."""

import pytest
from conftest import numbered
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError


def test_deleted_records_are_gone(broker):
    topic = broker.create_topic()
    partition = TopicPartition(topic, 0)
    broker.produce(topic, numbered(20))
    assert broker.admin.delete_records({partition: 7})[partition]["low_watermark"] == 7
    assert broker.consumer().beginning_offsets([partition]) == {partition: 7}
    assert [r.offset for r in broker.read(topic, 13)] == list(range(7, 20))
    with pytest.raises(OffsetOutOfRangeError):
        broker.admin.delete_records({partition: 21})


def test_log_dirs_tell_the_size_of_partitions(broker):
    topic = broker.create_topic()
    broker.produce(topic, [{"value": bytes(10_000)}])
    ((directory,),) = [b["log_dirs"] for b in broker.admin.describe_log_dirs([topic])]
    assert directory["error_code"] == 0
    ((partition,),) = [t["partitions"] for t in directory["topics"]]
    assert 10_000 < partition["partition_size"] < 11_000


def test_partitions_are_described_page_by_page(broker):
    topic = broker.create_topic(partitions=5)
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = broker.admin.describe_topic_partitions([topic], response_partition_limit=2, cursor=cursor)
        seen += [p["partition_index"] for t in page["topics"] for p in t["partitions"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (seen, pages) == ([0, 1, 2, 3, 4], 3)


def test_an_idempotent_producer_is_described(broker):
    topic = broker.create_topic()
    partition = TopicPartition(topic, 0)
    broker.produce(topic, numbered(3), linger_ms=100, enable_idempotence=True)
    (producer,) = broker.admin.describe_producers([partition])[partition].active_producers
    assert producer.producer_id >= 0
    assert producer.last_sequence == 2


def test_leaders_need_no_election(broker):
    topic = broker.create_topic()
    answer = broker.admin.elect_leaders(0, {topic: [0]}, raise_errors=False)
    ((partition,),) = [t.partition_result for t in answer.replica_election_results]
    assert partition.error_code == 84  # ELECTION_NOT_NEEDED


def test_no_partition_is_being_reassigned(broker):
    assert broker.admin.list_partition_reassignments() == {}


def test_the_quorum_has_a_leader(broker):
    quorum = broker.admin.describe_metadata_quorum()
    ((partition,),) = [t["partitions"] for t in quorum["topics"]]
    assert partition["error"] is None
    assert partition["leader_id"] in [v["replica_id"] for v in partition["current_voters"]]
