'use strict'
// The broker under test, as KafkaJS sees it: clients with the suite's defaults, which end with the test.

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { randomUUID } = require('node:crypto')
const { setTimeout: sleep } = require('node:timers/promises')
const { promisify } = require('node:util')
const { Kafka, logLevel } = require('kafkajs')
// KafkaJS consumes in groups only. Its own fetch, below that, reads a partition without one.
const Cluster = require('kafkajs/src/cluster')
const socketFactory = require('kafkajs/src/network/socketFactory')
const { createLogger } = require('kafkajs/src/loggers')

const brokers = [process.env.BOOTSTRAP]
const retry = { initialRetryTime: 50, retries: 5 }
const quiet = () => () => {}
const kafka = new Kafka({ clientId: 'interop', brokers, retry, logLevel: logLevel.NOTHING })

const unusedName = (prefix = 't') => `${prefix}-${randomUUID().slice(0, 13)}`

async function connected(t, client) {
  await client.connect()
  t.after(() => client.disconnect())
  return client
}

const admin = t => connected(t, kafka.admin())
const producer = (t, options) => connected(t, kafka.producer(options))

/** Waits for the leaders: a fresh topic may be listed before they serve it. */
async function createTopic(t, { numPartitions = 1, configEntries } = {}) {
  const topic = unusedName()
  const topics = [{ topic, numPartitions, replicationFactor: 1, configEntries }]
  await (await admin(t)).createTopics({ topics, waitForLeaders: true })
  return topic
}

/** The values "0", "1" ... for partition 0. */
const numbered = count => Array.from({ length: count }, (_, i) => ({ value: String(i), partition: 0 }))

async function produce(t, topic, messages, { acks, compression, ...options } = {}) {
  return (await producer(t, options)).send({ topic, messages, acks, compression })
}

async function cluster(t) {
  return connected(
    t,
    new Cluster({
      brokers,
      retry,
      clientId: 'interop',
      socketFactory: socketFactory(),
      logger: createLogger({ level: logLevel.NOTHING, logCreator: quiet }),
      connectionTimeout: 1000,
      enforceRequestTimeout: true,
      requestTimeout: 30000,
      metadataMaxAge: 300000,
      allowAutoTopicCreation: false,
    })
  )
}

/** Reads a partition onwards; each call fetches once and gives the messages that came. */
async function reader(t, topic, { partition = 0, offset = 0, maxBytes = 1048576, maxWaitTime = 500 } = {}) {
  const connection = await cluster(t)
  await connection.addTargetTopic(topic)
  let next = BigInt(offset)
  return async () => {
    await connection.refreshMetadataIfNecessary()
    const [leader] = Object.keys(connection.findLeaderForPartitions(topic, [partition]))
    const broker = await connection.findBroker({ nodeId: leader })
    const topics = [{ topic, partitions: [{ partition, fetchOffset: next.toString(), maxBytes }] }]
    const { responses } = await broker.fetch({ maxWaitTime, maxBytes, topics, isolationLevel: 0 })
    const messages = responses[0].partitions[0].messages.filter(m => BigInt(m.offset) >= next)
    if (messages.length > 0) next = BigInt(messages.at(-1).offset) + 1n
    return messages
  }
}

async function take(fetch, count) {
  const messages = []
  for (const deadline = Date.now() + 20000; messages.length < count; ) {
    assert.ok(Date.now() < deadline, `${messages.length} of ${count} messages within 20 s`)
    messages.push(...(await fetch()))
  }
  assert.equal(messages.length, count)
  return messages
}

const read = async (t, topic, count, options) => take(await reader(t, topic, options), count)

const values = messages => messages.map(m => m.value.toString())
const offsets = messages => messages.map(m => Number(m.offset))
const range = (first, end) => Array.from({ length: end - first }, (_, i) => first + i)

async function waitUntil(what, condition) {
  for (const deadline = Date.now() + 10000; !(await condition()); await sleep(50)) {
    assert.ok(Date.now() < deadline, `not within 10 s: ${what}`)
  }
}

/** Restarts the broker cleanly, where the runner owns it. */
const restartCommand = process.env.RESTART_COMMAND
const restart = () => promisify(execFile)('sh', ['-c', restartCommand], { timeout: 50000 })

module.exports = {
  admin, cluster, createTopic, numbered, offsets, produce, producer, range, read, reader, restart, restartCommand, take,
  unusedName, values, waitUntil,
}
