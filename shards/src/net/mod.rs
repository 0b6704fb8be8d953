//! TCP on a shard.

mod balance;
mod listener;
mod stream;

pub(crate) use balance::Group;
pub use listener::Listener;
pub use stream::Stream;
