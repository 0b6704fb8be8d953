//! Keys of messages, and the partitions that they lead to, as Kafka's own producer has it.

use std::fmt;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Bytes of a key: its number in decimal digits.
pub const KEY_LEN: usize = 10;
/// The largest number of keys: what these digits have.
pub const MAX_KEYS: u64 = 10_000_000_000;
/// The exponent of YCSB's zipfian distribution.
const ZIPF_EXPONENT: f64 = 0.99;

/// Which keys messages have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// None: messages go to the partitions in turns.
    #[default]
    None,
    /// One after the other, and again from the first one behind the last.
    Sequential(u64),
    /// Any of so many, each as often as the others.
    Random(u64),
    /// Any of so many, the first ones far more often: Zipf's law, with an exponent of 0.99.
    Zipf(u64),
}

/// As on the command line.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Sequential(MAX_KEYS) => f.write_str("sequential"),
            Self::Sequential(keys) => write!(f, "sequential:{keys}"),
            Self::Random(keys) => write!(f, "random:{keys}"),
            Self::Zipf(keys) => write!(f, "zipf:{keys}"),
        }
    }
}

/// Draws one producer's keys, the same ones in each run.
#[derive(Clone, Debug)]
pub enum Draw {
    Sequential { keys: u64 },
    Random { keys: u64, rng: SmallRng },
    Zipf { law: Zipf<f64>, rng: SmallRng },
}

impl Draw {
    /// None without keys, of which there has to be one at least.
    pub fn new(keys: Keys, producer: u64) -> Option<Self> {
        let rng = || SmallRng::seed_from_u64(producer);
        match keys {
            Keys::None => None,
            Keys::Sequential(keys) => Some(Self::Sequential { keys }),
            Keys::Random(keys) => Some(Self::Random { keys, rng: rng() }),
            // Fails only below one key.
            Keys::Zipf(keys) => Some(Self::Zipf {
                law: Zipf::new(keys as f64, ZIPF_EXPONENT).ok()?,
                rng: rng(),
            }),
        }
    }

    /// The key of the run's message `index`.
    #[inline]
    pub fn next(&mut self, index: u64) -> u64 {
        match self {
            Self::Sequential { keys } => index % *keys,
            Self::Random { keys, rng } => rng.random_range(0..*keys),
            Self::Zipf { law, rng } => law.sample(rng) as u64 - 1,
        }
    }
}

/// A key's bytes.
#[inline]
pub fn text(key: u64) -> [u8; KEY_LEN] {
    let mut rest = key;
    let mut text = [b'0'; KEY_LEN];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    text
}

/// The partition of a key. Kafka: `BuiltInPartitioner.partitionForKey`.
#[inline]
pub fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7FFF_FFFF) as usize % partitions
}

/// Austin Appleby's MurmurHash2 with the seed that Kafka's clients share (`Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_B28C;
    const M: u32 = 0x5BD1_E995;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest
            .iter()
            .rev()
            .fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn keys_are_hashed_as_kafkas_clients_do() {
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_key_is_its_number_in_digits() {
        assert_eq!(&text(0), b"0000000000");
        assert_eq!(&text(1_234_567_890), b"1234567890");
        assert_eq!(&text(MAX_KEYS - 1), b"9999999999");
    }

    fn counts(keys: Keys, drawn: u64) -> Vec<u64> {
        let mut draw = Draw::new(keys, 3).unwrap();
        let mut counts = vec![0; 100];
        (0..drawn).for_each(|index| counts[draw.next(index) as usize] += 1);
        counts
    }

    #[test]
    fn keys_come_as_often_as_their_law_says() {
        assert_eq!(counts(Keys::Sequential(100), 1_000), [10; 100]);
        let random = counts(Keys::Random(100), 100_000);
        assert!(random.iter().all(|count| (800..1_200).contains(count)));
        let zipf = counts(Keys::Zipf(100), 100_000);
        let all: f64 = (1..=100)
            .map(|rank| f64::from(rank).powf(-ZIPF_EXPONENT))
            .sum();
        for rank in [1, 2, 10] {
            let expected = 100_000.0 * f64::from(rank).powf(-ZIPF_EXPONENT) / all;
            let count = zipf[rank as usize - 1] as f64;
            assert!(
                (count / expected - 1.0).abs() < 0.1,
                "{rank}: {count}, {expected}"
            );
        }
    }

    #[test]
    fn producers_draw_other_keys_but_the_same_in_each_run() {
        let drawn = |producer| {
            let mut draw = Draw::new(Keys::Random(1_000_000), producer).unwrap();
            [(); 5].map(|()| draw.next(0))
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
