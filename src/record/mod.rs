//! Record batches of message format v2 (KIP-98): view, validate, build, read, compress, recode.
//!
//! Everything here is pure and synchronous: bytes in, bytes or an error out, and time is an argument.
//! There is no I/O, no catalog and no wire protocol. A [`RecordError`] says which Kafka error it
//! stands for by its [`ErrorKind`]; the API layer turns that into a code.
//!
//! Message formats v0 and v1 are refused, as in Apache Kafka 4 (KIP-724).

pub mod batch;
pub mod builder;
pub mod compact;
pub mod compress;
pub mod error;
pub mod raw;
pub mod read;
pub mod recode;
#[cfg(test)]
pub(crate) mod testing;
pub mod validate;
mod varint;
mod walk;

pub use batch::{Attributes, Batch, BatchHeader, TimestampType, batches, split_first};
pub use builder::Builder;
pub use compress::{Compression, Levels, Scratch};
pub use error::{ErrorKind, RecordError};
pub use raw::RawRecord;
pub use read::{Header, Record, records};
pub use recode::{Recode, Target};
pub use validate::{Rules, Validated, Validator, validate};
