//! Zstandard: one or more frames. See RFC 8878.

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, compress_bound,
    get_frame_content_size,
};

use super::lz::Output;
use super::{Compression, INPUT_PER_CALL, InflateError};

/// The largest window that frames are written with, as a power of two of bytes: that of the default
/// level. High levels would take 128 MiB, here and in every consumer, and their tables ten times that.
const WINDOW_LOG_MAX: u32 = 21;
/// A context that grew over this, in bytes, is not kept: frames may ask for windows of 128 MiB.
const KEEP_BYTES: usize = 4 << 20;

fn corrupt(reason: &'static str) -> InflateError {
    InflateError::Corrupt {
        codec: Compression::Zstd,
        reason,
    }
}

/// Compresses into one frame that states its content's size.
///
/// # Panics
/// If there is no memory for it.
pub(super) fn compress(level: i32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compress_bound(bytes.len()));
    let mut context = CCtx::create();
    let range = zstd::compression_level_range();
    let level = level.clamp(*range.start(), *range.end());
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .and_then(|_| match bytes.len() > 1 << WINDOW_LOG_MAX {
            true => context.set_parameter(CParameter::WindowLog(WINDOW_LOG_MAX)),
            false => Ok(0),
        })
        .and_then(|_| context.compress2(&mut out, bytes))
        .expect("memory for compressing");
    out
}

/// What the first frame says that it inflates to.
pub(super) fn promised_size(input: &[u8]) -> Option<usize> {
    let size = get_frame_content_size(input).ok().flatten()?;
    usize::try_from(size).ok()
}

/// One payload being inflated.
pub(super) struct Zstd {
    context: DCtx<'static>,
    at: usize,
    frame_open: bool,
}

impl Zstd {
    pub(super) fn new() -> Self {
        Self {
            context: DCtx::create(),
            at: 0,
            frame_open: false,
        }
    }

    /// Makes it ready for another payload, unless it is too large to be kept.
    pub(super) fn reset(mut self) -> Option<Self> {
        let reset = self.context.reset(ResetDirective::SessionOnly);
        (self.context.sizeof() <= KEEP_BYTES && reset.is_ok()).then_some(Self {
            context: self.context,
            at: 0,
            frame_open: false,
        })
    }

    /// Bytes of input read so far.
    pub(super) fn consumed(&self) -> usize {
        self.at
    }

    /// Goes on until `out` is full or the payload ends; `true` once it has.
    pub(super) fn fill(&mut self, input: &[u8], out: &mut Output) -> Result<bool, InflateError> {
        let stop_at = self.at.saturating_add(INPUT_PER_CALL);
        while out.room() > 0 && self.at < stop_at {
            let end = input.len().min(stop_at);
            let mut from = InBuffer::around(&input[self.at..end]);
            let mut to = OutBuffer::around(out.free());
            let hint = self
                .context
                .decompress_stream(&mut to, &mut from)
                .map_err(|_| corrupt("invalid frame"))?;
            let (read, wrote) = (from.pos(), to.pos());
            out.advance(wrote);
            self.at += read;
            self.frame_open = hint != 0;
            if self.at == input.len() && !self.frame_open {
                return Ok(true);
            }
            if read == 0 && wrote == 0 {
                return Err(corrupt("it ends early"));
            }
        }
        Ok(false)
    }
}
