//! Snappy, in the two shapes that Kafka clients send: one raw block, and the chunked framing of
//! snappy-java ("xerial"). Kafka's broker writes the framing and takes both.
//!
//! The decoder is this module's own: the crate's cannot stop inside a block, and a raw block is as
//! large as the batch. See the format description of the Snappy project.

use super::lz::Output;
use super::{Compression, INPUT_PER_CALL, InflateError};

/// snappy-java's stream header: magic, then version and lowest compatible version.
const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 16;
/// snappy-java's block size, before compression.
const CHUNK: usize = 32 << 10;
/// No tag makes more than 64 bytes out of 3, so no honest preamble promises more than this many times
/// its input.
const MAX_RATIO: usize = 22;

fn corrupt(reason: &'static str) -> InflateError {
    InflateError::Corrupt {
        codec: Compression::Snappy,
        reason,
    }
}

const TRUNCATED: &str = "it ends early";

/// Compresses into snappy-java's framing.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + bytes.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(CHUNK)];
    for chunk in bytes.chunks(CHUNK) {
        let length = encoder
            .compress(chunk, &mut block)
            .expect("the buffer has room for any chunk");
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&block[..length]);
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    ChunkHeader,
    Preamble,
    Tag,
    Literal,
    Repeat,
    BlockEnd,
    Done,
}

/// One payload being inflated.
pub(super) struct Snappy {
    place: Place,
    framed: bool,
    block_end: usize,
    block_size: usize,
    block_produced: usize,
    /// Bytes that may still be produced: a block that promises more is refused before it is begun.
    allowance: usize,
    limit: usize,
}

/// Where a decoder is. Small, so that the loop over tags can keep a copy in registers.
#[derive(Clone, Copy, Debug)]
struct Place {
    stage: Stage,
    at: usize,
    /// Bytes of a literal or repeat that are still to be written.
    pending: usize,
    distance: usize,
}

impl Snappy {
    /// Refuses blocks that promise more than what is left of `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            place: Place {
                stage: Stage::Start,
                at: 0,
                pending: 0,
                distance: 0,
            },
            framed: false,
            block_end: 0,
            block_size: 0,
            block_produced: 0,
            allowance: limit,
            limit,
        }
    }

    /// Bytes of earlier output that must stay in front of the next: a repeat may reach back to the
    /// start of its block.
    pub(super) fn history(&self) -> usize {
        self.block_produced
    }

    /// Bytes the current block will still produce.
    pub(super) fn block_left(&self) -> usize {
        self.block_size - self.block_produced
    }

    /// Bytes of input read so far.
    pub(super) fn consumed(&self) -> usize {
        self.place.at
    }

    /// Goes on until `out` is full or the payload ends; `true` once it has.
    pub(super) fn fill(&mut self, input: &[u8], out: &mut Output) -> Result<bool, InflateError> {
        let stop_at = self.place.at.saturating_add(INPUT_PER_CALL);
        while self.place.stage != Stage::Done && out.room() > 0 && self.place.at < stop_at {
            match self.place.stage {
                Stage::Start => self.start(input),
                Stage::ChunkHeader => self.chunk_header(input)?,
                Stage::Preamble => self.preamble(input)?,
                Stage::BlockEnd => self.block_end(),
                _ => self.block(input, out)?,
            }
        }
        Ok(self.place.stage == Stage::Done)
    }

    fn start(&mut self, input: &[u8]) {
        self.framed = input.len() >= HEADER_LEN && input.starts_with(&MAGIC);
        if self.framed {
            self.place.stage = Stage::ChunkHeader;
        } else {
            self.block_end = input.len();
            self.place.stage = Stage::Preamble;
        }
    }

    fn u32(&mut self, input: &[u8]) -> Result<u32, InflateError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(
            input
                .get(self.place.at..self.place.at + 4)
                .ok_or(corrupt(TRUNCATED))?,
        );
        self.place.at += 4;
        Ok(u32::from_be_bytes(bytes))
    }

    fn chunk_header(&mut self, input: &[u8]) -> Result<(), InflateError> {
        if self.place.at == input.len() {
            self.place.stage = Stage::Done;
            return Ok(());
        }
        // The header of a stream stands where a chunk would, as streams may be joined. There has only
        // been one version, and readers do not look at it.
        if input[self.place.at..].starts_with(&MAGIC) {
            if input.len() - self.place.at < HEADER_LEN {
                return Err(corrupt(TRUNCATED));
            }
            self.place.at += HEADER_LEN;
            return Ok(());
        }
        let size = self.u32(input)? as usize;
        if size > input.len() - self.place.at {
            return Err(corrupt(TRUNCATED));
        }
        self.block_end = self.place.at + size;
        self.place.stage = Stage::Preamble;
        Ok(())
    }

    fn preamble(&mut self, input: &[u8]) -> Result<(), InflateError> {
        let size = self.block_length(&input[..self.block_end])?;
        if size > (self.block_end - self.place.at).saturating_mul(MAX_RATIO) {
            return Err(corrupt("a block promises more than it can hold"));
        }
        self.allowance = self
            .allowance
            .checked_sub(size)
            .ok_or(InflateError::TooLarge { limit: self.limit })?;
        self.block_size = size;
        self.block_produced = 0;
        self.place.stage = Stage::Tag;
        Ok(())
    }

    /// The inflated length in front of a block: a 32-bit varint.
    fn block_length(&mut self, block: &[u8]) -> Result<usize, InflateError> {
        let mut length = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let &byte = block.get(self.place.at).ok_or(corrupt(TRUNCATED))?;
            self.place.at += 1;
            length |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return match length <= u64::from(u32::MAX) {
                    true => Ok(length as usize),
                    false => Err(corrupt("block length out of range")),
                };
            }
        }
        Err(corrupt("block length out of range"))
    }

    fn block_end(&mut self) {
        self.block_size = 0;
        self.block_produced = 0;
        self.place.stage = match self.framed {
            true => Stage::ChunkHeader,
            false => Stage::Done,
        };
    }

    /// Inflates of the current block what there is room for.
    fn block(&mut self, input: &[u8], out: &mut Output) -> Result<(), InflateError> {
        let block = &input[..self.block_end];
        let before = out.written();
        let (mut place, mut local) = (self.place, out.reborrow());
        let end = place.tags(block, &mut local, self.block_produced, self.block_left());
        let written = local.written();
        self.place = place;
        out.advance(written - before);
        self.block_produced += written - before;
        end
    }
}

impl Place {
    /// Writes literals and repeats until the block ends or `out` is full. The block has produced
    /// `reach` bytes before and must produce `left` more.
    fn tags(
        &mut self,
        block: &[u8],
        out: &mut Output,
        reach: usize,
        left: usize,
    ) -> Result<(), InflateError> {
        let started = out.written();
        loop {
            if self.stage == Stage::Tag {
                let produced = out.written() - started;
                let Some(&tag) = block.get(self.at) else {
                    self.stage = Stage::BlockEnd;
                    return match produced == left {
                        true => Ok(()),
                        false => Err(corrupt("a block is shorter than it promises")),
                    };
                };
                self.tag(tag, block)?;
                if self.pending > left - produced {
                    return Err(corrupt("a block is longer than it promises"));
                }
                if self.distance > reach + produced {
                    return Err(corrupt("a repeat reaches too far back"));
                }
            }
            if self.stage == Stage::Literal {
                let copied = out.literals(block, self.at, self.pending);
                self.at += copied;
                self.pending -= copied;
            } else {
                self.pending -= out.repeat(self.distance, self.pending);
            }
            if self.pending > 0 {
                return Ok(());
            }
            self.stage = Stage::Tag;
        }
    }

    /// Takes one tag: a literal's length, or a repeat's length and distance.
    #[inline(always)]
    fn tag(&mut self, tag: u8, block: &[u8]) -> Result<(), InflateError> {
        let extra = usize::from(EXTRA_BYTES[usize::from(tag)]);
        let number = little_endian(block, self.at + 1, extra)?;
        self.at += 1 + extra;
        let upper = usize::from(tag >> 2);
        if tag & 3 == 0 {
            self.pending = if extra == 0 { upper } else { number } + 1;
            self.distance = 0;
            if self.pending > block.len() - self.at {
                return Err(corrupt(TRUNCATED));
            }
            self.stage = Stage::Literal;
            return Ok(());
        }
        (self.pending, self.distance) = match tag & 3 {
            1 => (4 + (upper & 7), (upper >> 3) << 8 | number),
            _ => (1 + upper, number),
        };
        if self.distance == 0 {
            return Err(corrupt("a repeat of nothing"));
        }
        self.stage = Stage::Repeat;
        Ok(())
    }
}

/// The number in `count` bytes, four at most.
#[inline(always)]
fn little_endian(block: &[u8], at: usize, count: usize) -> Result<usize, InflateError> {
    // Four bytes are there but for the last tags.
    if let Some(bytes) = block.get(at..).and_then(|rest| rest.first_chunk()) {
        let mask = (1_u64 << (8 * count)) - 1;
        return Ok((u64::from(u32::from_le_bytes(*bytes)) & mask) as usize);
    }
    let bytes = block.get(at..at + count).ok_or(corrupt(TRUNCATED))?;
    let digits = bytes.iter().rev();
    Ok(digits.fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

/// How many bytes of length or distance follow a tag.
const EXTRA_BYTES: [u8; 256] = {
    let mut extra = [0; 256];
    let mut tag = 0;
    while tag < 256 {
        extra[tag] = match (tag & 3, tag >> 2) {
            (0, 60) => 1,
            (0, 61) => 2,
            (0, 62) => 3,
            (0, 63) => 4,
            (0, _) => 0,
            (1, _) => 1,
            (2, _) => 2,
            _ => 4,
        };
        tag += 1;
    }
    extra
};
