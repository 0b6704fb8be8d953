'use strict'
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const codecs = require('./codecs')
const { createTopic, numbered, offsets, produce, range, read, reader, take, unusedName, cluster } = require('./broker')

describe('fetches', () => {
  it('start at any offset, even inside a batch', async t => {
    const topic = await createTopic(t)
    await produce(t, topic, numbered(100), { compression: codecs.GZIP })
    await produce(t, topic, numbered(100))
    for (const offset of [0, 1, 99, 100, 150, 199]) {
      assert.deepEqual(offsets(await read(t, topic, 200 - offset, { offset })), range(offset, 200))
    }
  })

  it('are told of an offset out of range', async t => {
    const topic = await createTopic(t)
    await produce(t, topic, numbered(3))
    await assert.rejects(read(t, topic, 1, { offset: 5000 }), { type: 'OFFSET_OUT_OF_RANGE' })
  })

  it('that wait end as soon as a message comes', async t => {
    const topic = await createTopic(t)
    const fetch = await reader(t, topic, { maxWaitTime: 25000 })
    const waiting = fetch()
    await sleep(500)
    await produce(t, topic, numbered(1))
    const late = sleep(10000, 'late', { ref: false })
    assert.deepEqual(offsets(await Promise.race([waiting, late])), [0])
  })

  it('that wait in vain end empty', async t => {
    const fetch = await reader(t, await createTopic(t), { maxWaitTime: 300 })
    const started = Date.now()
    assert.deepEqual(await fetch(), [])
    assert.ok(Date.now() - started >= 250, 'the broker has not waited')
  })

  it('give a message that is larger than their limit', async t => {
    const topic = await createTopic(t)
    for (let i = 0; i < 5; i++) await produce(t, topic, [{ value: Buffer.alloc(60000), partition: 0 }])
    const fetch = await reader(t, topic, { maxBytes: 1000 })
    assert.deepEqual(offsets(await take(fetch, 5)), range(0, 5))
  })

  it('of an unknown topic fail', async t => {
    await assert.rejects((await cluster(t)).addTargetTopic(unusedName('nobody')), {
      type: 'UNKNOWN_TOPIC_OR_PARTITION',
    })
  })
})
