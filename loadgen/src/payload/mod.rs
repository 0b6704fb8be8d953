//! What a message carries: who sent it, which one it is, and when it was to be sent.
//!
//! ```text
//! run u64 | stream u32 | mark u32 | number u64 | time u64 | filler
//! ```
//!
//! The filler is random upper case letters, as that of Kafka's own perf test, of which gzip and zstd
//! make about two thirds, and snappy and lz4 nothing; or it has the entropy that is asked for. All
//! fields are big-endian. How large messages are say [`sizes`], and which keys they have [`keys`].

pub mod keys;
pub mod sizes;

use std::ops::RangeInclusive;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Bytes of the fields. No message is smaller.
pub const HEAD_LEN: usize = 32;

const RUN: usize = 0;
const STREAM: usize = 8;
const MARK: usize = 12;
const NUMBER: usize = 16;
const TIME: usize = 24;

/// Bytes of the filler that are random first, and then the same.
const STRETCH: u64 = 64;

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

/// What messages have behind their fields: the same in each run.
#[derive(Clone, Debug)]
pub struct Filler {
    rng: SmallRng,
    /// None: letters.
    entropy: Option<f64>,
    /// Bytes so far, and how many of them were random.
    bytes: u64,
    random: u64,
}

impl Filler {
    /// Random upper case letters; with `entropy`, from 0 to 1, this share of bytes is random and the
    /// rest always the same one, in turns of a few bytes.
    pub fn new(entropy: Option<f64>) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(0),
            entropy,
            bytes: 0,
            random: 0,
        }
    }

    /// What follows.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> u8 {
        const LETTERS: RangeInclusive<u8> = b'A'..=b'Z';
        let Some(entropy) = self.entropy else {
            return self.rng.random_range(LETTERS);
        };
        // At the front of each stretch, so that what is the same is together.
        let stretch = self.bytes / STRETCH;
        let wanted = ((stretch + 1) as f64 * STRETCH as f64 * entropy).round() as u64;
        self.bytes += 1;
        if self.random < wanted {
            self.random += 1;
            return self.rng.random();
        }
        *LETTERS.start()
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
        let mut message = Filler::new(None).take(HEAD_LEN + 3);
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

    #[test]
    fn codecs_make_of_the_filler_what_its_entropy_says() {
        use tidegate::record::Compression;
        use tidegate::record::compress::compress;
        let share = |codec, entropy| {
            let filler = Filler::new(entropy).take(1 << 16);
            compress(codec, None, &filler).len() as f64 / filler.len() as f64
        };
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            for entropy in [0.0, 0.25, 0.5, 0.9, 1.0] {
                let share = share(codec, Some(entropy));
                assert!(
                    (share - entropy).abs() < 0.1,
                    "{codec:?} {entropy}: {share}"
                );
            }
        }
        assert!((0.55..0.75).contains(&share(Compression::Zstd, None)));
        assert!(share(Compression::Lz4, None) > 0.99);
    }
}
