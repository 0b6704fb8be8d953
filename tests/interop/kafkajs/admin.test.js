'use strict'
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { ConfigResourceTypes } = require('kafkajs')
const { admin, createTopic, numbered, produce, unusedName, waitUntil } = require('./broker')

describe('admin', () => {
  it('tells brokers, controller and cluster id', async t => {
    const cluster = await (await admin(t)).describeCluster()
    assert.ok(cluster.clusterId)
    assert.ok(cluster.brokers.some(b => b.nodeId === cluster.controller))
  })

  it('creates, lists, describes and deletes a topic', async t => {
    const client = await admin(t)
    const topic = unusedName()
    const topics = [{ topic, numPartitions: 3, replicationFactor: 1 }]
    await client.createTopics({ topics, validateOnly: true, waitForLeaders: false })
    assert.ok(!(await client.listTopics()).includes(topic))

    assert.equal(await client.createTopics({ topics }), true)
    assert.ok((await client.listTopics()).includes(topic))
    const described = (await client.fetchTopicMetadata({ topics: [topic] })).topics[0]
    assert.deepEqual(described.partitions.map(p => p.partitionId).sort(), [0, 1, 2])
    assert.ok(described.partitions.every(p => p.isr.includes(p.leader)))

    assert.equal(await client.createTopics({ topics }), false, 'there is one already')
    await client.deleteTopics({ topics: [topic] })
    await waitUntil('the topic is gone', async () => !(await client.listTopics()).includes(topic))
  })

  for (const [type, wanted] of [
    ['INVALID_TOPIC_EXCEPTION', { topic: 'not a name' }],
    ['INVALID_PARTITIONS', { numPartitions: 0 }],
    ['INVALID_REPLICATION_FACTOR', { replicationFactor: 3 }],
    ['INVALID_CONFIG', { configEntries: [{ name: 'no.such.config', value: '1' }] }],
  ]) {
    it(`is told ${type}`, async t => {
      const topic = { topic: unusedName(), numPartitions: 1, replicationFactor: 1, ...wanted }
      await assert.rejects((await admin(t)).createTopics({ topics: [topic] }), e =>
        (e.errors ?? [e]).some(error => error.type === type)
      )
    })
  }

  it('is told that a topic to delete is unknown', async t => {
    const client = await admin(t)
    await assert.rejects(client.deleteTopics({ topics: [unusedName('nobody')], timeout: 1000 }), e =>
      [e, e.cause].some(error => error?.type === 'UNKNOWN_TOPIC_OR_PARTITION')
    )
  })

  it('gives a topic more partitions', async t => {
    const client = await admin(t)
    const topic = await createTopic(t, { numPartitions: 2 })
    await client.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    // Until the leaders of the new ones serve them, they say that they are none.
    const answering = () => client.fetchTopicOffsets(topic).catch(() => [])
    await waitUntil('four partitions answer', async () => (await answering()).length === 4)
    const [acknowledged] = await produce(t, topic, [{ value: 'x', partition: 3 }])
    assert.deepEqual([acknowledged.partition, acknowledged.baseOffset], [3, '0'])
    await assert.rejects(client.createPartitions({ topicPartitions: [{ topic, count: 3 }] }), {
      type: 'INVALID_PARTITIONS',
    })
  })

  it('describes and alters the configs of a topic', async t => {
    const client = await admin(t)
    const name = await createTopic(t)
    const type = ConfigResourceTypes.TOPIC
    const limit = async () => {
      const resources = [{ type, name, configNames: ['max.message.bytes'] }]
      const { resources: described } = await client.describeConfigs({ resources, includeSynonyms: true })
      return described[0].configEntries[0]
    }
    const unaltered = await limit()
    assert.deepEqual([unaltered.configValue, unaltered.isDefault], ['1048588', true])
    assert.equal(unaltered.configSynonyms[0].configName, 'message.max.bytes')

    const alter = value =>
      client.alterConfigs({ resources: [{ type, name, configEntries: [{ name: 'max.message.bytes', value }] }] })
    await alter('5000')
    await waitUntil('the config is altered', async () => (await limit()).configValue === '5000')
    await assert.rejects(alter('many'), { type: 'INVALID_CONFIG' })
  })

  it('describes the configs of a broker', async t => {
    const client = await admin(t)
    const name = String((await client.describeCluster()).controller)
    const resources = [{ type: ConfigResourceTypes.BROKER, name }]
    const { resources: described } = await client.describeConfigs({ resources, includeSynonyms: false })
    const names = described[0].configEntries.map(e => e.configName)
    assert.ok(names.includes('message.max.bytes') && names.includes('num.partitions'))
  })

  it('lists offsets by end and time', async t => {
    const client = await admin(t)
    const topic = await createTopic(t)
    const first = Date.now() - 1000000
    for (const after of [0, 1000, 30000, 3000]) {
      await produce(t, topic, [{ value: 'x', timestamp: String(first + after), partition: 0 }])
    }
    const [ends] = await client.fetchTopicOffsets(topic)
    assert.deepEqual([ends.low, ends.high], ['0', '4'])
    const at = async timestamp => (await client.fetchTopicOffsetsByTimestamp(topic, timestamp))[0].offset
    assert.equal(await at(first - 1), '0')
    assert.equal(await at(first + 1), '1')
    assert.equal(await at(first + 1001), '2')
    assert.equal(await at(first + 30001), '4', 'beyond the last message it is the end')
  })

  it('deletes records', async t => {
    const client = await admin(t)
    const topic = await createTopic(t)
    await produce(t, topic, numbered(20))
    // Asks for the offsets first: this client deletes only from topics that it has heard of.
    assert.equal((await client.fetchTopicOffsets(topic))[0].high, '20')
    await client.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '7' }] })
    assert.equal((await client.fetchTopicOffsets(topic))[0].low, '7')
    await client.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '-1' }] })
    assert.equal((await client.fetchTopicOffsets(topic))[0].low, '20')
  })

  it('lists no reassignment', async t => {
    const topic = await createTopic(t)
    const { topics } = await (await admin(t)).listPartitionReassignments({ topics: [{ topic, partitions: [0] }] })
    assert.deepEqual(topics, [])
  })
})
