//! Gzip: one or more members, as Java's `GZIPInputStream` reads them. See RFC 1952.
//!
//! Small payloads go through libdeflate in one piece, which is faster; it can neither stop nor go on,
//! so everything else goes through flate2's streaming decoder.

use flate2::{Crc, Decompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor, Decompressor};

use super::lz::Output;
use super::{Compression, INPUT_PER_CALL, InflateError};

/// Magic and the one compression method there is, deflate.
const MEMBER: [u8; 3] = [0x1F, 0x8B, 8];
const FIXED_HEADER_LEN: usize = 10;
/// CRC-32 and inflated size, both little-endian.
const TRAILER_LEN: usize = 8;
const HEADER_CRC: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
/// Deflate cannot do better, so a trailer that claims more lies.
const MAX_RATIO: usize = 1_032;
/// What zlib has for level -1.
const DEFAULT_LEVEL: i32 = 6;

fn corrupt(reason: &'static str) -> InflateError {
    InflateError::Corrupt {
        codec: Compression::Gzip,
        reason,
    }
}

const TRUNCATED: &str = "it ends early";
/// Input that may be inflated in one piece, in bytes: 64 KiB of random text in an alphabet fit. Takes
/// less than half of the time of the streaming decoder.
const AT_ONCE_INPUT: usize = 64 << 10;

/// Compresses into one member.
pub(super) fn compress(level: i32, bytes: &[u8]) -> Vec<u8> {
    let level = match level {
        -1 => DEFAULT_LEVEL,
        level => level.clamp(1, 9),
    };
    let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap_or_default());
    let mut out = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let length = compressor
        .gzip_compress(bytes, &mut out)
        .expect("the bound leaves room for any input");
    out.truncate(length);
    out
}

/// What the trailer says `input` inflates to, if it is one member and does not lie.
pub(super) fn promised_size(input: &[u8]) -> Option<usize> {
    let size = u32::from_le_bytes(*input.last_chunk()?) as usize;
    (size <= input.len().saturating_mul(MAX_RATIO)).then_some(size)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Body,
    Trailer,
    Done,
}

/// One payload being inflated.
pub(super) struct Gzip {
    stage: Stage,
    at: usize,
    inflate: Decompress,
    crc: Crc,
    at_once: Decompressor,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Header,
            at: 0,
            inflate: Decompress::new(false),
            crc: Crc::new(),
            at_once: Decompressor::new(),
        }
    }

    /// Makes it ready for another payload.
    pub(super) fn reset(mut self) -> Self {
        self.stage = Stage::Header;
        self.at = 0;
        self
    }

    /// Inflates all of `input`, if it is one member that fits in `out`. If not, nothing has happened.
    pub(super) fn try_at_once(&mut self, input: &[u8], out: &mut Output) -> bool {
        self.one_member(input, out).is_some()
    }

    fn one_member(&mut self, input: &[u8], out: &mut Output) -> Option<()> {
        let size = promised_size(input).filter(|&size| size <= out.room())?;
        let header = header_length(input).ok()?;
        let body = input.get(header..input.len().checked_sub(TRAILER_LEN)?)?;
        // The decoder does not say where it stopped: with another member inside, it stopped early.
        if holds_member(body) {
            return None;
        }
        let free = &mut out.free()[..size];
        let inflated = self.at_once.deflate_decompress(body, free).ok()?;
        let mut crc = Crc::new();
        crc.update(free);
        let trailer = input.last_chunk::<TRAILER_LEN>()?;
        if inflated != size || trailer[..4] != crc.sum().to_le_bytes() {
            return None;
        }
        out.advance(size);
        self.at = input.len();
        self.stage = Stage::Done;
        Some(())
    }

    /// Bytes of input read so far.
    pub(super) fn consumed(&self) -> usize {
        self.at
    }

    /// Goes on until `out` is full or the payload ends; `true` once it has.
    pub(super) fn fill(&mut self, input: &[u8], out: &mut Output) -> Result<bool, InflateError> {
        if self.at == 0 && input.len() <= AT_ONCE_INPUT && self.try_at_once(input, out) {
            return Ok(true);
        }
        let stop_at = self.at.saturating_add(INPUT_PER_CALL);
        while self.stage != Stage::Done && out.room() > 0 && self.at < stop_at {
            match self.stage {
                Stage::Header => self.header(input)?,
                Stage::Body => self.body(input, out)?,
                _ => self.trailer(input)?,
            }
        }
        Ok(self.stage == Stage::Done)
    }

    fn header(&mut self, input: &[u8]) -> Result<(), InflateError> {
        self.at += header_length(&input[self.at..])?;
        self.inflate.reset(false);
        self.crc.reset();
        self.stage = Stage::Body;
        Ok(())
    }

    fn body(&mut self, input: &[u8], out: &mut Output) -> Result<(), InflateError> {
        let input_end = input.len().min(self.at + INPUT_PER_CALL);
        let (read, wrote) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(
                &input[self.at..input_end],
                out.free(),
                FlushDecompress::None,
            )
            .map_err(|_| corrupt("invalid deflate data"))?;
        let read = (self.inflate.total_in() - read) as usize;
        let wrote = (self.inflate.total_out() - wrote) as usize;
        let before = out.written();
        out.advance(wrote);
        self.crc.update(out.since(before));
        self.at += read;
        if status == Status::StreamEnd {
            self.stage = Stage::Trailer;
        } else if read == 0 && wrote == 0 {
            return Err(corrupt(TRUNCATED));
        }
        Ok(())
    }

    fn trailer(&mut self, input: &[u8]) -> Result<(), InflateError> {
        let trailer = input[self.at..]
            .first_chunk::<TRAILER_LEN>()
            .ok_or(corrupt(TRUNCATED))?;
        let size = self.inflate.total_out() as u32;
        if trailer[..4] != self.crc.sum().to_le_bytes() || trailer[4..] != size.to_le_bytes() {
            return Err(corrupt("wrong checksum or size"));
        }
        self.at += TRAILER_LEN;
        self.stage = match self.at == input.len() {
            true => Stage::Done,
            false => Stage::Header,
        };
        Ok(())
    }
}

/// Whether there is anything that looks like the front of a member. Written so that it is done for
/// many bytes at a time: a quarter of the time for a batch was spent here.
fn holds_member(bytes: &[u8]) -> bool {
    const AT_A_TIME: usize = 256;
    let starts = bytes.len().saturating_sub(MEMBER.len() - 1);
    let from = |at: usize| {
        bytes
            .get(at..at + starts)
            .unwrap_or_default()
            .chunks(AT_A_TIME)
    };
    let mut all = from(0).zip(from(1)).zip(from(2));
    all.any(|((first, second), third)| {
        let triples = first.iter().zip(second).zip(third);
        triples.fold(false, |found, ((first, second), third)| {
            found | ((*first == MEMBER[0]) & (*second == MEMBER[1]) & (*third == MEMBER[2]))
        })
    })
}

/// Length of the member header at the front of `input`.
fn header_length(input: &[u8]) -> Result<usize, InflateError> {
    let fixed = input
        .first_chunk::<FIXED_HEADER_LEN>()
        .ok_or(corrupt(TRUNCATED))?;
    if !fixed.starts_with(&MEMBER) {
        return Err(corrupt("no gzip member"));
    }
    let flags = fixed[3];
    let mut at = FIXED_HEADER_LEN;
    if flags & EXTRA != 0 {
        let length = input.get(at..at + 2).ok_or(corrupt(TRUNCATED))?;
        at += 2 + usize::from(length[0]) + (usize::from(length[1]) << 8);
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let rest = input.get(at..).ok_or(corrupt(TRUNCATED))?;
            let end = rest.iter().position(|&byte| byte == 0);
            at += end.ok_or(corrupt(TRUNCATED))? + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        let header = input.get(..at).ok_or(corrupt(TRUNCATED))?;
        let mut crc = Crc::new();
        crc.update(header);
        if input.get(at..at + 2) != Some(&crc.sum().to_le_bytes()[..2]) {
            return Err(corrupt("wrong header checksum"));
        }
        at += 2;
    }
    match at <= input.len() {
        true => Ok(at),
        false => Err(corrupt(TRUNCATED)),
    }
}
