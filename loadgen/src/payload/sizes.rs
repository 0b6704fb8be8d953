//! Sizes of messages' values. They follow from a message's stream and number alone, so that a reader
//! knows them as well.

use std::fmt;

use super::HEAD_LEN;

/// The largest message of a mix.
const MIX_MOST: usize = 64 << 10;
/// The generalised Pareto distribution of Facebook's ETC pool: scale and shape (Atikoglu et al.,
/// "Workload analysis of a large-scale key-value store", SIGMETRICS 2012, section 5).
const MIX_SCALE: f64 = 214.476;
const MIX_SHAPE: f64 = 0.348_238;

/// Which sizes messages' values have, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    Fixed(usize),
    /// Any from the first to the second, each as often as the others.
    Range(usize, usize),
    /// Small ones and few large ones, as they were measured in production: half are below 170 bytes,
    /// a hundredth is above 2.4 KiB.
    Mix,
}

impl Default for Sizes {
    fn default() -> Self {
        Self::Fixed(HEAD_LEN)
    }
}

impl Sizes {
    /// The smallest one.
    pub fn least(self) -> usize {
        match self {
            Self::Fixed(size) | Self::Range(size, _) => size,
            Self::Mix => HEAD_LEN,
        }
    }

    /// The largest one.
    pub fn most(self) -> usize {
        match self {
            Self::Fixed(size) | Self::Range(_, size) => size,
            Self::Mix => MIX_MOST,
        }
    }

    /// That of a stream's message.
    #[inline]
    pub fn of(self, stream: u32, number: u64) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Range(least, most) => {
                let sizes = (most - least + 1) as f64;
                least + ((unit(stream, number) * sizes) as usize).min(most - least)
            }
            Self::Mix => {
                let tail = (1.0 - unit(stream, number)).powf(-MIX_SHAPE);
                let size = MIX_SCALE * (tail - 1.0) / MIX_SHAPE;
                (size as usize).clamp(HEAD_LEN, MIX_MOST)
            }
        }
    }
}

/// As in a sentence: "messages of 100..2048 bytes".
impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size} bytes"),
            Self::Range(least, most) => write!(f, "{least}..{most} bytes"),
            Self::Mix => f.write_str("mixed sizes"),
        }
    }
}

/// A number for programs, where it is one.
impl serde::Serialize for Sizes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(size) => s.serialize_u64(*size as u64),
            Self::Range(least, most) => s.collect_str(&format_args!("{least}..{most}")),
            Self::Mix => s.serialize_str("mix"),
        }
    }
}

/// A number from 0 to below 1 that is a message's own.
fn unit(stream: u32, number: u64) -> f64 {
    // The finalizer of SplitMix64 (Steele et al., OOPSLA 2014).
    let mut bits = (u64::from(stream) << 40 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sizes: Sizes) -> Vec<usize> {
        let mut drawn: Vec<usize> = (0..10_000)
            .map(|number| sizes.of(number as u32 % 7, number / 7))
            .collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn all_sizes_of_a_range_come() {
        let drawn = drawn(Sizes::Range(100, 199));
        assert_eq!((drawn[0], drawn[9_999]), (100, 199));
        for size in 100..200 {
            let count = drawn.iter().filter(|drawn| **drawn == size).count();
            assert!((50..150).contains(&count), "{size}: {count}");
        }
        assert_eq!(Sizes::Range(50, 50).of(1, 1), 50);
    }

    #[test]
    fn a_mix_is_what_it_says_to_be() {
        let drawn = drawn(Sizes::Mix);
        assert!(drawn[0] >= HEAD_LEN && drawn[9_999] <= MIX_MOST);
        assert!((155..185).contains(&drawn[5_000]), "{}", drawn[5_000]);
        assert!((2_100..2_800).contains(&drawn[9_900]), "{}", drawn[9_900]);
    }

    #[test]
    fn a_message_keeps_its_size() {
        let size = Sizes::Mix.of(3, 1 << 33);
        assert_eq!(Sizes::Mix.of(3, 1 << 33), size);
        assert_ne!(Sizes::Mix.of(4, 1 << 33), size);
    }
}
