// A member of a group in JavaScript: NAME BOOTSTRAP TOPIC GROUP. See ../../README.md for what it prints.
'use strict';

const { Kafka, logLevel } = require('kafkajs');

const [name, bootstrap, topic, groupId] = process.argv.slice(2);
const say = (...words) => process.stdout.write(`${Date.now() * 1000} ${words.join(' ')}\n`);

const kafka = new Kafka({ clientId: name, brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 100, maxRetryTime: 500 } });
const consumer = kafka.consumer({
  groupId,
  sessionTimeout: 6000,
  heartbeatInterval: 1000,
  rebalanceTimeout: 10000,
  maxWaitTimeInMs: 200,
});

consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => say('assigned', ...(payload.memberAssignment[topic] ?? [])));

async function eachBatch({ batch, isRunning, isStale, resolveOffset, heartbeat }) {
  let next = null;
  for (const message of batch.messages) {
    if (!isRunning() || isStale()) break;
    say('read', batch.partition, message.offset, message.value);
    resolveOffset(message.offset);
    next = BigInt(message.offset) + 1n;
  }
  if (next === null) return;
  try {
    await consumer.commitOffsets([{ topic, partition: batch.partition, offset: String(next) }]);
    // One that is being stopped does not say when a commit failed.
    if (isRunning()) say('committed', batch.partition, next);
  } catch (error) {
    say('refused', error.type ?? error.name);
    throw error;
  }
  await heartbeat();
}

async function main() {
  process.on('SIGTERM', async () => {
    await consumer.disconnect();
    process.exit(0);
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ autoCommit: false, eachBatch });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
