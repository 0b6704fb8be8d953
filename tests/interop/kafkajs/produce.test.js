'use strict'
const assert = require('node:assert/strict')
const { randomBytes } = require('node:crypto')
const { describe, it } = require('node:test')
const codecs = require('./codecs')
const { createTopic, numbered, offsets, produce, producer, range, read, reader, unusedName, values } =
  require('./broker')

describe('producers', () => {
  for (const acks of [1, -1]) {
    it(`have offsets for what is acknowledged with acks=${acks}`, async t => {
      const topic = await createTopic(t)
      const [first] = await produce(t, topic, numbered(1000), { acks })
      const [second] = await produce(t, topic, numbered(10), { acks })
      assert.deepEqual([first.baseOffset, second.baseOffset], ['0', '1000'])
      assert.deepEqual(values(await read(t, topic, 1010)).slice(0, 1000), values(numbered(1000)))
    })
  }

  it('write with acks=0 without an answer', async t => {
    const topic = await createTopic(t)
    const client = await producer(t)
    await client.send({ topic, messages: numbered(500), acks: 0 })
    await client.send({ topic, messages: numbered(500), acks: 0 })
    assert.deepEqual(offsets(await read(t, topic, 1000)), range(0, 1000))
  })

  it('that are idempotent write once and in order', async t => {
    const topic = await createTopic(t)
    const client = await producer(t, { idempotent: true, maxInFlightRequests: 1 })
    for (let i = 0; i < 50; i++) {
      await client.send({ topic, messages: [{ value: String(i), partition: 0 }] })
    }
    assert.deepEqual(values(await read(t, topic, 50)), values(numbered(50)))
  })

  for (const name of ['None', 'GZIP', 'Snappy', 'ZSTD']) {
    it(`round trip ${name}`, async t => {
      const topic = await createTopic(t)
      const messages = range(0, 500).map(i => ({
        value: `${i} ${randomBytes(20).toString('hex')}${'a'.repeat(i)}`,
        partition: 0,
      }))
      await produce(t, topic, messages, { compression: codecs[name] })
      assert.deepEqual(values(await read(t, topic, 500)), values(messages))
    })
  }

  it('keep keys, nulls, headers and timestamps', async t => {
    const topic = await createTopic(t)
    const now = Date.now()
    const headers = { a: ['1', 'again'], empty: '', 'ключ-😀': Buffer.from([0, 255]) }
    await produce(t, topic, [
      { key: 'key', value: 'value', timestamp: String(now - 3600000), partition: 0 },
      { key: 'tombstone', value: null, timestamp: String(now), partition: 0 },
      { value: '', headers, timestamp: String(now), partition: 0 },
    ])
    const [full, tombstone, withHeaders] = await read(t, topic, 3)
    assert.equal(`${full.key}=${full.value}`, 'key=value')
    assert.equal(full.timestamp, String(now - 3600000))
    assert.equal(tombstone.key.toString(), 'tombstone')
    assert.equal(tombstone.value, null)
    assert.equal(withHeaders.key, null)
    assert.equal(withHeaders.value.length, 0)
    assert.deepEqual(withHeaders.headers.a.map(String), ['1', 'again'])
    assert.equal(withHeaders.headers.empty.length, 0)
    assert.deepEqual([...withHeaders.headers['ключ-😀']], [0, 255])
  })

  it('round trip messages of almost a megabyte', async t => {
    const topic = await createTopic(t)
    const sent = [1, 2, 3].map(() => randomBytes(1000000))
    for (const value of sent) await produce(t, topic, [{ value, partition: 0 }])
    const got = await read(t, topic, 3)
    assert.ok(got.every((message, i) => message.value.equals(sent[i])))
  })

  it('are refused over the limit of the topic, and go on', async t => {
    const topic = await createTopic(t, { configEntries: [{ name: 'max.message.bytes', value: '10000' }] })
    const client = await producer(t)
    const large = client.send({ topic, messages: [{ value: randomBytes(20000), partition: 0 }] })
    await assert.rejects(large, { type: 'MESSAGE_TOO_LARGE' })
    const [small] = await client.send({ topic, messages: numbered(1) })
    assert.equal(small.baseOffset, '0')
  })

  it('are told of an unknown topic, or have it created', async t => {
    const topic = unusedName('auto')
    const refused = produce(t, topic, numbered(1), { allowAutoTopicCreation: false, retry: { retries: 0 } })
    await assert.rejects(refused, e => e.cause.type === 'UNKNOWN_TOPIC_OR_PARTITION')
    const [created] = await produce(t, topic, numbered(2))
    assert.equal(created.baseOffset, '0')
  })

  it('spread keys over partitions that each have their log', async t => {
    const topic = await createTopic(t, { numPartitions: 10 })
    const messages = range(0, 1000).map(i => ({ key: `key-${i % 100}`, value: String(i) }))
    const acknowledged = await produce(t, topic, messages)
    assert.equal(acknowledged.length, 10)
    const homes = new Map()
    let total = 0
    for (const { partition } of acknowledged) {
      const fetch = await reader(t, topic, { partition, maxWaitTime: 50 })
      for (let got = await fetch(); got.length > 0; got = await fetch()) {
        assert.ok(got.every(m => (homes.get(String(m.key)) ?? partition) === partition))
        got.forEach(m => homes.set(String(m.key), partition))
        total += got.length
      }
    }
    assert.deepEqual([total, homes.size], [1000, 100])
  })

  it('send to many topics at once', async t => {
    const topics = [await createTopic(t), await createTopic(t), await createTopic(t)]
    const client = await producer(t)
    const topicMessages = topics.map(topic => ({ topic, messages: numbered(10) }))
    assert.equal((await client.sendBatch({ topicMessages })).length, 3)
    for (const topic of topics) assert.equal((await read(t, topic, 10)).length, 10)
  })
})
