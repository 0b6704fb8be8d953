'use strict'
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { createTopic, numbered, offsets, producer, range, read, restart, restartCommand } = require('./broker')

const skip = restartCommand ? false : 'the broker is not ours to restart'

describe('a restart', () => {
  it('is survived by a producer and by what it wrote', { skip }, async t => {
    const topic = await createTopic(t)
    const retry = { initialRetryTime: 100, retries: 30, maxRetryTime: 1000 }
    const client = await producer(t, { idempotent: true, retry })
    await client.send({ topic, messages: numbered(500) })
    await restart()
    await client.send({ topic, messages: numbered(500) })
    assert.deepEqual(offsets(await read(t, topic, 1000)), range(0, 1000))
  })
})
