//! A load generator for Kafka brokers, which checks what it measures.
//!
//! Where to begin reading: [`cli`] reads the command line into [`options`], and [`scenario`] runs what
//! is asked for. [`producer`] and [`consumer`] are the threads that make the load, each with
//! connections of its own ([`client`]). What is to be sent when says [`schedule`]; each message
//! carries that in its [`payload`], so that [`sequence`] finds what was lost, doubled or reordered,
//! and [`latency`] what took how long, and [`timeline`] when. [`report`] is what comes out, with what
//! [`machine`] and [`server`] say of the two sides.

pub mod cli;
pub mod client;
pub mod consumer;
pub mod latency;
pub mod machine;
pub mod options;
pub mod payload;
pub mod producer;
pub mod progress;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod sequence;
pub mod server;
pub mod timeline;
pub mod usage;
pub mod window;
