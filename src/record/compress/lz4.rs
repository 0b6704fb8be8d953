//! LZ4 frames, as Kafka's `Lz4BlockInputStream` takes them: one frame with its end mark, no dictionary.
//!
//! The block decoder is this module's own: the library's cannot stop inside a block, and blocks may be
//! 4 MiB. See the frame and block format documents of the LZ4 project.

use std::hash::Hasher;

use lz4::block::{CompressionMode, compress_to_buffer};
use twox_hash::XxHash32;

use super::lz::Output;
use super::{Compression, INPUT_PER_CALL, InflateError};

const MAGIC: u32 = 0x184D_2204;
/// A repeat reaches back at most this far, in bytes.
const MAX_DISTANCE: usize = 65_535;
/// Every repeat is at least this long.
const MIN_REPEAT: usize = 4;
/// A block ends with five literals at least, so that a repeat's distance (2), the next token (1) and
/// these (5) must follow any literals that do not end the block. The C decoder insists on it.
const MIN_AFTER_LITERALS: usize = 8;

const VERSION_MASK: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 0b0010_0000;
const BLOCK_CHECKSUM: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const CONTENT_CHECKSUM: u8 = 0b0000_0100;
const RESERVED: u8 = 0b0000_0011;

const STORED: u32 = 0x8000_0000;
const END_MARK: u32 = 0;

/// Blocks as they are written: their size, and how a frame says it.
const BLOCK: usize = 64 << 10;
const BLOCK_64_KIB: u8 = 0x40;

fn corrupt(reason: &'static str) -> InflateError {
    InflateError::Corrupt {
        codec: Compression::Lz4,
        reason,
    }
}

const TRUNCATED: &str = "it ends early";

/// The level that stands for LZ4's fast compressor in Kafka; all others are of its high compressor.
const FAST_LEVEL: i32 = 9;

/// Compresses into a frame of independent 64 KiB blocks, as Kafka's `Lz4BlockOutputStream` does.
pub(super) fn compress(level: i32, bytes: &[u8]) -> Vec<u8> {
    let mode = match level {
        FAST_LEVEL => CompressionMode::DEFAULT,
        level => CompressionMode::HIGHCOMPRESSION(level.clamp(1, 17)),
    };
    let descriptor = [VERSION_1 | INDEPENDENT, BLOCK_64_KIB];
    let mut out = Vec::with_capacity(bytes.len() / 2 + 64);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&descriptor);
    out.push((XxHash32::oneshot(0, &descriptor) >> 8) as u8);
    let mut block = vec![0; BLOCK.min(bytes.len())];
    for chunk in bytes.chunks(BLOCK) {
        let room = &mut block[..chunk.len()];
        let (mark, block) = match compress_to_buffer(chunk, Some(mode), false, room) {
            Ok(length) if length < chunk.len() => (0, &room[..length]),
            // What does not get smaller is stored.
            _ => (STORED, chunk),
        };
        out.extend_from_slice(&(block.len() as u32 | mark).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&END_MARK.to_le_bytes());
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    FrameHeader,
    BlockHeader,
    Token,
    Literals,
    Distance,
    Repeat,
    Stored,
    BlockEnd,
    Done,
}

/// One frame being inflated.
pub(super) struct Lz4 {
    /// Blocks may refer to earlier ones. Kafka refuses such frames, other writers make them.
    linked_allowed: bool,
    place: Place,
    flags: u8,
    content_size: u64,
    max_block: usize,
    block_end: usize,
    block_produced: usize,
    frame_produced: u64,
    content_hash: XxHash32,
}

/// Where a decoder is. Small, so that the loop over sequences can keep a copy in registers.
#[derive(Clone, Copy, Debug)]
struct Place {
    stage: Stage,
    at: usize,
    /// Lengths of literals and repeat.
    token: u8,
    /// Bytes of literals or repeat that are still to be written.
    pending: usize,
    distance: usize,
}

impl Lz4 {
    pub(super) fn new(linked_allowed: bool) -> Self {
        Self {
            linked_allowed,
            place: Place {
                stage: Stage::FrameHeader,
                at: 0,
                token: 0,
                pending: 0,
                distance: 0,
            },
            flags: 0,
            content_size: 0,
            max_block: 0,
            block_end: 0,
            block_produced: 0,
            frame_produced: 0,
            content_hash: XxHash32::with_seed(0),
        }
    }

    /// Bytes of earlier output that must stay in front of the next.
    pub(super) fn history(&self) -> usize {
        let reachable = match self.flags & INDEPENDENT {
            0 => self.frame_produced,
            _ => self.block_produced as u64,
        };
        reachable.min(MAX_DISTANCE as u64) as usize
    }

    /// Bytes of input read so far.
    pub(super) fn consumed(&self) -> usize {
        self.place.at
    }

    /// Goes on until `out` is full or the frame ends; `true` once it has.
    pub(super) fn fill(&mut self, input: &[u8], out: &mut Output) -> Result<bool, InflateError> {
        let stop_at = self.place.at.saturating_add(INPUT_PER_CALL);
        while self.place.stage != Stage::Done && out.room() > 0 && self.place.at < stop_at {
            match self.place.stage {
                Stage::FrameHeader => self.frame_header(input)?,
                Stage::BlockHeader => self.block_header(input)?,
                Stage::BlockEnd => self.block_end(input)?,
                _ => self.block(input, out)?,
            }
        }
        Ok(self.place.stage == Stage::Done)
    }

    fn frame_header(&mut self, input: &[u8]) -> Result<(), InflateError> {
        if self.place.u32(input)? != MAGIC {
            return Err(corrupt("no frame magic"));
        }
        let descriptor = self.place.at;
        let flags = self.place.take(input, 1)?[0];
        let block_descriptor = self.place.take(input, 1)?[0];
        if flags & VERSION_MASK != VERSION_1 || flags & RESERVED != 0 {
            return Err(corrupt("unsupported frame flags"));
        }
        self.max_block = match block_descriptor {
            BLOCK_64_KIB => BLOCK,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(corrupt("unsupported block size")),
        };
        if flags & CONTENT_SIZE != 0 {
            let mut size = [0; 8];
            size.copy_from_slice(self.place.take(input, 8)?);
            self.content_size = u64::from_le_bytes(size);
        }
        let checksum = XxHash32::oneshot(0, &input[descriptor..self.place.at]);
        if self.place.take(input, 1)?[0] != (checksum >> 8) as u8 {
            return Err(corrupt("wrong header checksum"));
        }
        // Only now, so that a damaged flag is told as damage.
        if flags & INDEPENDENT == 0 && !self.linked_allowed {
            return Err(corrupt("its blocks depend on each other"));
        }
        self.flags = flags;
        self.place.stage = Stage::BlockHeader;
        Ok(())
    }

    fn block_header(&mut self, input: &[u8]) -> Result<(), InflateError> {
        let header = self.place.u32(input)?;
        if header == END_MARK {
            return self.frame_end(input);
        }
        let size = (header & !STORED) as usize;
        if size == 0 || size > self.max_block {
            return Err(corrupt("block size out of range"));
        }
        let block = input
            .get(self.place.at..self.place.at + size)
            .ok_or(corrupt(TRUNCATED))?;
        if self.flags & BLOCK_CHECKSUM != 0 {
            let stored = input.get(self.place.at + size..self.place.at + size + 4);
            if stored != Some(&XxHash32::oneshot(0, block).to_le_bytes()) {
                return Err(corrupt("wrong block checksum"));
            }
        }
        self.block_end = self.place.at + size;
        self.block_produced = 0;
        if header & STORED != 0 {
            self.place.pending = size;
            self.place.stage = Stage::Stored;
        } else {
            self.place.stage = Stage::Token;
        }
        Ok(())
    }

    fn block_end(&mut self, input: &[u8]) -> Result<(), InflateError> {
        if self.flags & BLOCK_CHECKSUM != 0 {
            self.place.take(input, 4)?;
        }
        self.place.stage = Stage::BlockHeader;
        Ok(())
    }

    fn frame_end(&mut self, input: &[u8]) -> Result<(), InflateError> {
        if self.flags & CONTENT_SIZE != 0 && self.content_size != self.frame_produced {
            return Err(corrupt("wrong content size"));
        }
        if self.flags & CONTENT_CHECKSUM != 0
            && self.place.u32(input)? != self.content_hash.finish_32()
        {
            return Err(corrupt("wrong content checksum"));
        }
        // Kafka reads no further, other clients refuse the batch: nothing may hide here.
        if self.place.at != input.len() {
            return Err(corrupt("bytes follow the frame"));
        }
        self.place.stage = Stage::Done;
        Ok(())
    }

    /// Inflates of the current block what there is room for.
    fn block(&mut self, input: &[u8], out: &mut Output) -> Result<(), InflateError> {
        let before = out.written();
        let block = &input[..self.block_end];
        let room = self.max_block - self.block_produced;
        let (mut place, mut local) = (self.place, out.reborrow());
        let end = place.sequences(block, &mut local, self.history());
        let written = local.written();
        self.place = place;
        out.advance(written - before);
        let produced = out.written() - before;
        if produced > room {
            return Err(corrupt("a block inflates to more than it may"));
        }
        self.block_produced += produced;
        self.frame_produced += produced as u64;
        if self.flags & CONTENT_CHECKSUM != 0 {
            self.content_hash.write(out.since(before));
        }
        end
    }
}

impl Place {
    #[inline(always)]
    fn take<'a>(&mut self, input: &'a [u8], count: usize) -> Result<&'a [u8], InflateError> {
        let bytes = input
            .get(self.at..)
            .and_then(|rest| rest.get(..count))
            .ok_or(corrupt(TRUNCATED))?;
        self.at += count;
        Ok(bytes)
    }

    fn u32(&mut self, input: &[u8]) -> Result<u32, InflateError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(input, 4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    /// A length that starts in a token's nibble and goes on in bytes as long as they are 255.
    #[inline(always)]
    fn length(&mut self, block: &[u8], nibble: u8) -> Result<usize, InflateError> {
        let mut length = usize::from(nibble);
        if nibble == 15 {
            loop {
                let byte = self.take(block, 1)?[0];
                length += usize::from(byte);
                if byte != 255 {
                    break;
                }
            }
        }
        Ok(length)
    }

    /// Writes sequences of literals and repeats until the block ends or `out` is full. Repeats may
    /// reach `reach` bytes beyond what this writes.
    fn sequences(
        &mut self,
        block: &[u8],
        out: &mut Output,
        reach: usize,
    ) -> Result<(), InflateError> {
        let started = out.written();
        loop {
            if self.stage == Stage::Token {
                self.token = self.take(block, 1)?[0];
                self.pending = self.length(block, self.token >> 4)?;
                if self.pending > block.len() - self.at {
                    return Err(corrupt("literals go over the block's end"));
                }
                self.stage = Stage::Literals;
            }
            if matches!(self.stage, Stage::Literals | Stage::Stored) {
                let copied = out.literals(block, self.at, self.pending);
                self.at += copied;
                self.pending -= copied;
                if self.pending > 0 {
                    return Ok(());
                }
                if self.at == block.len() {
                    self.stage = Stage::BlockEnd;
                    return Ok(());
                }
                self.stage = Stage::Distance;
            }
            if self.stage == Stage::Distance {
                if block.len() - self.at < MIN_AFTER_LITERALS {
                    return Err(corrupt("a block does not end with literals"));
                }
                let bytes = self.take(block, 2)?;
                self.distance = usize::from(bytes[0]) | usize::from(bytes[1]) << 8;
                if self.distance == 0 || self.distance > reach + (out.written() - started) {
                    return Err(corrupt("a repeat reaches too far back"));
                }
                self.pending = self.length(block, self.token & 0x0F)? + MIN_REPEAT;
                self.stage = Stage::Repeat;
            }
            self.pending -= out.repeat(self.distance, self.pending);
            if self.pending > 0 {
                return Ok(());
            }
            self.stage = Stage::Token;
        }
    }
}
