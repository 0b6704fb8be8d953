//! TCP on a shard.

mod listener;
mod stream;

pub use listener::Listener;
pub use stream::Stream;
