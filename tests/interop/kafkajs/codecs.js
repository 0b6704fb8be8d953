'use strict'
// KafkaJS has gzip built in; others are plugged in, as its users do. Not lz4: what its packages in plain
// JavaScript write are frames that Apache Kafka refuses.

const { CompressionCodecs, CompressionTypes } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const zstd = require('@bokuweb/zstd-wasm')

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zstd.init().then(() => Buffer.from(zstd.compress(encoder.buffer))),
  decompress: async buffer => zstd.init().then(() => Buffer.from(zstd.decompress(buffer))),
})

module.exports = { ...CompressionTypes }
