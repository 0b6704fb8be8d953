//! Runs a decoder over a small window, or into a buffer of its own.

use super::gzip::{self, Gzip};
use super::lz::Output;
use super::lz4::Lz4;
use super::snappy::Snappy;
use super::zstd::{self, Zstd};
use super::{Compression, InflateError};

/// What the window holds: history for repeats, and room for what comes next. Fits a core's L2 cache.
pub(super) const WINDOW_BYTES: usize = 256 << 10;
/// Room that must be free for the next call to be worth its while.
const MIN_ROOM: usize = 64 << 10;
/// Decoders and windows that are kept for reuse, each.
const KEEP: usize = 4;

enum Decoder {
    Gzip(Gzip),
    Snappy(Snappy),
    Lz4(Lz4),
    Zstd(Zstd),
}

impl Decoder {
    fn fill(&mut self, input: &[u8], out: &mut Output) -> Result<bool, InflateError> {
        match self {
            Self::Gzip(gzip) => gzip.fill(input, out),
            Self::Snappy(snappy) => snappy.fill(input, out),
            Self::Lz4(lz4) => lz4.fill(input, out),
            Self::Zstd(zstd) => zstd.fill(input, out),
        }
    }

    /// Bytes of input read so far.
    fn consumed(&self) -> usize {
        match self {
            Self::Gzip(gzip) => gzip.consumed(),
            Self::Snappy(snappy) => snappy.consumed(),
            Self::Lz4(lz4) => lz4.consumed(),
            Self::Zstd(zstd) => zstd.consumed(),
        }
    }

    /// Bytes of output that must stay in front of the next.
    fn history(&self) -> usize {
        match self {
            Self::Gzip(_) | Self::Zstd(_) => 0,
            Self::Snappy(snappy) => snappy.history(),
            Self::Lz4(lz4) => lz4.history(),
        }
    }
}

/// A payload being inflated piece by piece, over a window that is as large as the codec needs:
/// 256 KiB, or one whole block for Snappy, whose repeats may reach back that far.
pub struct Inflater {
    decoder: Decoder,
    window: Vec<u8>,
    written: usize,
    produced: usize,
    limit: usize,
    ended: bool,
}

impl Inflater {
    /// The next piece of at most `budget` bytes (at least one), or `None` at the end. A piece may be
    /// empty when much input inflated to nothing. `input` is the whole payload, the same each time.
    ///
    /// # Errors
    /// [`InflateError`]; there is no going on after one.
    pub fn next_piece(
        &mut self,
        input: &[u8],
        budget: usize,
    ) -> Result<Option<&[u8]>, InflateError> {
        if self.ended {
            return Ok(None);
        }
        self.make_room();
        // One byte over the limit is enough to see that it is exceeded.
        let allowed = (self.limit - self.produced).saturating_add(1);
        let from = self.written;
        let end = self.window.len().min(from + budget.clamp(1, allowed));
        let mut out = Output::new(&mut self.window[..end], from);
        self.ended = self.decoder.fill(input, &mut out)?;
        self.written = out.written();
        self.produced += self.written - from;
        if self.produced > self.limit {
            return Err(InflateError::TooLarge { limit: self.limit });
        }
        Ok(Some(&self.window[from..self.written]))
    }

    /// Bytes inflated so far.
    pub fn produced(&self) -> usize {
        self.produced
    }

    /// The work so far, in bytes: those inflated, and those read four times, as a byte that is read
    /// may cost more than one that is written. Hostile input builds table after table for nothing.
    pub fn work_done(&self) -> usize {
        self.decoder.consumed() * 4 + self.produced
    }

    #[cfg(test)]
    pub(super) fn window_bytes(&self) -> usize {
        self.window.len()
    }

    /// Drops output that is no longer needed, and grows the window if all of it is.
    fn make_room(&mut self) {
        if self.window.len() - self.written >= MIN_ROOM {
            return;
        }
        let history = self.decoder.history().min(self.written);
        self.window
            .copy_within(self.written - history..self.written, 0);
        self.written = history;
        if self.window.len() - history < MIN_ROOM {
            // Only Snappy comes here, and only up to the size of its block.
            let room = match &self.decoder {
                Decoder::Snappy(snappy) => snappy.block_left().max(MIN_ROOM),
                _ => MIN_ROOM,
            };
            self.window.resize(history + room.min(history), 0);
        }
    }
}

/// Decoders and windows kept between batches, so that validating one allocates nothing.
#[derive(Default)]
pub struct Scratch {
    windows: Vec<Vec<u8>>,
    gzip: Vec<Gzip>,
    zstd: Vec<Zstd>,
}

impl Scratch {
    /// Begins a payload of at most `limit` inflated bytes. `None` for [`Compression::None`], which
    /// needs no inflating. Frames of dependent LZ4 blocks are refused, as Kafka's clients do.
    pub fn inflater(&mut self, codec: Compression, limit: usize) -> Option<Inflater> {
        let decoder = match codec {
            Compression::None => return None,
            Compression::Gzip => Decoder::Gzip(self.gzip.pop().unwrap_or_else(Gzip::new)),
            Compression::Snappy => Decoder::Snappy(Snappy::new(limit)),
            Compression::Lz4 => Decoder::Lz4(Lz4::new(false)),
            Compression::Zstd => Decoder::Zstd(self.zstd.pop().unwrap_or_else(Zstd::new)),
        };
        Some(Inflater {
            decoder,
            window: self.windows.pop().unwrap_or_else(|| vec![0; WINDOW_BYTES]),
            written: 0,
            produced: 0,
            limit,
            ended: false,
        })
    }

    /// Takes back what another payload can use.
    pub fn recycle(&mut self, inflater: Inflater) {
        if inflater.window.len() == WINDOW_BYTES && self.windows.len() < KEEP {
            self.windows.push(inflater.window);
        }
        match inflater.decoder {
            Decoder::Gzip(gzip) if self.gzip.len() < KEEP => self.gzip.push(gzip.reset()),
            Decoder::Zstd(zstd) if self.zstd.len() < KEEP => self.zstd.extend(zstd.reset()),
            _ => {}
        }
    }
}

/// Inflates all of `input` into a buffer that grows with the output.
pub(super) fn inflate_all(
    codec: Compression,
    input: &[u8],
    limit: usize,
) -> Result<Vec<u8>, InflateError> {
    let (mut decoder, promised) = match codec {
        Compression::None => return Ok(input.to_vec()),
        Compression::Gzip => (Decoder::Gzip(Gzip::new()), gzip::promised_size(input)),
        Compression::Snappy => (Decoder::Snappy(Snappy::new(limit)), None),
        Compression::Lz4 => (Decoder::Lz4(Lz4::new(true)), None),
        Compression::Zstd => (Decoder::Zstd(Zstd::new()), zstd::promised_size(input)),
    };
    // One byte over the limit is enough to see that it is exceeded. A promise that lies costs address
    // space only: zeroed pages are taken when they are written.
    let most = limit.saturating_add(1);
    let guess = promised.unwrap_or(input.len().saturating_mul(4));
    let mut buffer = vec![0; guess.saturating_add(1).min(most)];
    let mut out = Output::new(&mut buffer, 0);
    let mut ended = match &mut decoder {
        Decoder::Gzip(gzip) => gzip.try_at_once(input, &mut out),
        _ => false,
    };
    let mut written = out.written();
    while !ended && written <= limit {
        if written == buffer.len() {
            buffer.resize(written.saturating_mul(2).min(most), 0);
        }
        let mut out = Output::new(&mut buffer, written);
        ended = decoder.fill(input, &mut out)?;
        written = out.written();
    }
    if written > limit {
        return Err(InflateError::TooLarge { limit });
    }
    buffer.truncate(written);
    if buffer.capacity() > 2 * written {
        buffer.shrink_to_fit();
    }
    Ok(buffer)
}
