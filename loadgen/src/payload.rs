//! What a message carries: who sent it, which one it is, and when it was to be sent.
//!
//! ```text
//! run u64 | stream u32 | mark u32 | number u64 | time u64 | filler
//! ```
//!
//! The filler is random upper case letters, as that of Kafka's own perf test: what a codec makes of
//! it is known. All fields are big-endian.

/// Bytes of the fields. No message is smaller.
pub const HEAD_LEN: usize = 32;

const RUN: usize = 0;
const STREAM: usize = 8;
const MARK: usize = 12;
const NUMBER: usize = 16;
const TIME: usize = 24;

/// Tells messages of this program from others: "TGL", and the kind of message.
const WARM_UP: u32 = 0x5447_4C00;
const MEASURED: u32 = WARM_UP + 1;

/// The fields of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Tells this run's messages from all others.
    pub run: u64,
    /// Which producer's share of which partition this belongs to.
    pub stream: u32,
    /// Counts the stream's messages, from 0.
    pub number: u64,
    /// When it was to be sent, in nanoseconds from the run's start.
    pub time_ns: u64,
    /// Not a message of the warm-up.
    pub measured: bool,
}

impl Head {
    /// Writes the fields over the front of a message.
    ///
    /// # Panics
    /// Below [`HEAD_LEN`] bytes.
    #[inline]
    pub fn put(&self, message: &mut [u8]) {
        let mark = if self.measured { MEASURED } else { WARM_UP };
        let head = &mut message[..HEAD_LEN];
        head[RUN..STREAM].copy_from_slice(&self.run.to_be_bytes());
        head[STREAM..MARK].copy_from_slice(&self.stream.to_be_bytes());
        head[MARK..NUMBER].copy_from_slice(&mark.to_be_bytes());
        head[NUMBER..TIME].copy_from_slice(&self.number.to_be_bytes());
        head[TIME..].copy_from_slice(&self.time_ns.to_be_bytes());
    }

    /// Reads the fields; nothing if this is no message of this program.
    #[inline]
    pub fn get(message: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_LEN] = message.first_chunk()?;
        let mark = u32::from_be_bytes(field(head, MARK));
        (WARM_UP..=MEASURED).contains(&mark).then(|| Self {
            run: u64::from_be_bytes(field(head, RUN)),
            stream: u32::from_be_bytes(field(head, STREAM)),
            number: u64::from_be_bytes(field(head, NUMBER)),
            time_ns: u64::from_be_bytes(field(head, TIME)),
            measured: mark == MEASURED,
        })
    }
}

#[inline]
fn field<const N: usize>(head: &[u8; HEAD_LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&head[at..at + N]);
    field
}

/// Random letters, the same ones in each run.
#[derive(Debug)]
pub struct Filler(u64);

impl Filler {
    /// From the first letter on.
    pub fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// A message of `size` bytes whose fields are not set yet.
    pub fn message(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.letter()).collect()
    }

    // Marsaglia's xorshift: quality does not matter, but there must be no period that a codec finds.
    fn letter(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        b'A' + ((self.0 >> 32) % 26) as u8
    }
}

impl Default for Filler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got() {
        let head = Head {
            run: 1 << 63 | 5,
            stream: 7,
            number: 1 << 40,
            time_ns: 3,
            measured: true,
        };
        let mut message = Filler::new().message(HEAD_LEN + 3);
        let filler = message[HEAD_LEN..].to_vec();
        head.put(&mut message);
        assert_eq!(Head::get(&message), Some(head));
        assert_eq!(message[HEAD_LEN..], filler, "only the head is written");
    }

    #[test]
    fn a_message_of_someone_else_has_no_head() {
        assert_eq!(Head::get(&[0; HEAD_LEN]), None);
        let mut message = [0; HEAD_LEN];
        Head::default().put(&mut message);
        assert_eq!(Head::get(&message), Some(Head::default()));
        assert_eq!(Head::get(&message[1..]), None);
    }
}
