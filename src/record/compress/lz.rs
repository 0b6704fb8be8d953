//! What LZ4 and Snappy share: output made of literals and of repeats of earlier output, written as far
//! as there is room, so that it can go on later.

/// Where a decoder writes. Bytes before `written` are what it wrote before: repeats copy from there.
pub(super) struct Output<'a> {
    buffer: &'a mut [u8],
    written: usize,
}

/// Literals up to this long go in one move of fixed size, which needs no call. Most are shorter.
const SHORT_LITERALS: usize = 32;
/// Repeats up to this long go in a few moves of fixed size.
const SHORT_REPEAT: usize = 64;

impl<'a> Output<'a> {
    /// Writes into `buffer[written..]`.
    pub(super) fn new(buffer: &'a mut [u8], written: usize) -> Self {
        debug_assert!(written <= buffer.len());
        Self { buffer, written }
    }

    pub(super) fn written(&self) -> usize {
        self.written
    }

    pub(super) fn room(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// The bytes written since `written` was `from`.
    pub(super) fn since(&self, from: usize) -> &[u8] {
        &self.buffer[from..self.written]
    }

    /// The part that is free, to be written by others and claimed with [`Output::advance`].
    pub(super) fn free(&mut self) -> &mut [u8] {
        &mut self.buffer[self.written..]
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.written = (self.written + bytes).min(self.buffer.len());
    }

    /// The same place in the same buffer. A decoder's loop works on this one and claims the result:
    /// of a local nothing can be an alias, so that it stays in registers.
    pub(super) fn reborrow(&mut self) -> Output<'_> {
        Output {
            buffer: self.buffer,
            written: self.written,
        }
    }

    /// Copies `wanted` bytes of `input` from `at` on, or as many as there is room for. Returns how
    /// many. `input[at..]` must hold `wanted`.
    #[inline(always)]
    pub(super) fn literals(&mut self, input: &[u8], at: usize, wanted: usize) -> usize {
        if wanted <= SHORT_LITERALS
            && let Some(from) = input[at..].first_chunk::<SHORT_LITERALS>()
            && let Some(to) = self.buffer[self.written..].first_chunk_mut()
        {
            *to = *from;
            self.written += wanted;
            return wanted;
        }
        let count = wanted.min(self.room());
        self.buffer[self.written..self.written + count].copy_from_slice(&input[at..at + count]);
        self.written += count;
        count
    }

    /// Repeats `wanted` bytes that begin `distance` back, or as many as there is room for. They may
    /// overlap what they produce. Returns how many. `distance` is at least 1 and at most `written`.
    #[inline(always)]
    pub(super) fn repeat(&mut self, distance: usize, wanted: usize) -> usize {
        let count = if wanted > SHORT_REPEAT || self.room() < SHORT_REPEAT || distance < 8 {
            repeat_any(self.buffer, self.written, distance, wanted)
        } else if distance < 16 {
            repeat_in_steps::<8>(self.buffer, self.written, distance, wanted)
        } else {
            repeat_in_steps::<16>(self.buffer, self.written, distance, wanted)
        };
        self.written += count;
        count
    }
}

/// Repeats in moves of `STEP` bytes. None may overlap itself, so `distance` is at least `STEP`. Writes
/// up to [`SHORT_REPEAT`] bytes, of which those after `wanted` are rubbish.
#[inline(always)]
fn repeat_in_steps<const STEP: usize>(
    buffer: &mut [u8],
    written: usize,
    distance: usize,
    wanted: usize,
) -> usize {
    let mut at = written;
    while at < written + wanted {
        if let Some(&bytes) = buffer[at - distance..].first_chunk::<STEP>()
            && let Some(to) = buffer[at..].first_chunk_mut()
        {
            *to = bytes;
        }
        at += STEP;
    }
    wanted
}

/// Repeats anything, as far as there is room.
#[inline(never)]
fn repeat_any(buffer: &mut [u8], written: usize, distance: usize, wanted: usize) -> usize {
    let count = wanted.min(buffer.len() - written);
    let from = written - distance;
    if distance == 1 {
        let byte = buffer[from];
        buffer[written..written + count].fill(byte);
        return count;
    }
    // What is already repeated repeats with it: each round can copy twice as much.
    let mut done = 0;
    while done < count {
        let part = (distance + done).min(count - done);
        buffer.copy_within(from..from + part, written + done);
        done += part;
    }
    count
}
