//! What a start need not find out again: a partition's segments and state, as one small entry.
//!
//! ```text
//! "TIDESMQ1"  log start offset (8)  next offset (8)
//! number of segments (4)  each: name (8), base offset (8), next offset (8), bytes (8),
//!                               largest timestamp (8), written (8)
//! state length (4)  state  CRC-32C of all before (4)
//! ```
//! The segments are those that were sealed; a start lists the partition's folder from the one after. Those
//! of a log that is compacted are not among them, as they change between two checkpoints.

use bytes::Buf;

use super::segment::Segment;
use crate::store::Replay;

const MAGIC: &[u8; 8] = b"TIDESMQ1";

#[derive(Debug, PartialEq, Eq)]
pub struct Checkpoint<R> {
    pub log_start_offset: i64,
    pub next_offset: i64,
    pub sealed: Vec<Segment>,
    pub state: R,
}

/// Encodes one.
pub fn encode<R: Replay>(start: i64, next_offset: i64, sealed: &[Segment], state: &R) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 48 * sealed.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&start.to_be_bytes());
    out.extend_from_slice(&next_offset.to_be_bytes());
    out.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
    for segment in sealed {
        out.extend_from_slice(&segment.name_s.to_be_bytes());
        out.extend_from_slice(&segment.base_offset.to_be_bytes());
        out.extend_from_slice(&segment.next_offset.to_be_bytes());
        out.extend_from_slice(&segment.bytes.to_be_bytes());
        out.extend_from_slice(&segment.max_timestamp.to_be_bytes());
        out.extend_from_slice(&segment.written_ms.to_be_bytes());
    }
    let len_at = out.len();
    out.extend_from_slice(&[0; 4]);
    state.encode(&mut out);
    let len = (out.len() - len_at - 4) as u32;
    out[len_at..len_at + 4].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// `None` if the bytes are none.
pub fn decode<R: Replay>(bytes: &[u8]) -> Option<Checkpoint<R>> {
    let (mut body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body).to_be_bytes() != *crc || body.split_off(..8)? != MAGIC {
        return None;
    }
    let log_start_offset = body.try_get_i64().ok()?;
    let next_offset = body.try_get_i64().ok()?;
    let count = body.try_get_u32().ok()?;
    let segment = |_| {
        Some(Segment {
            name_s: body.try_get_i64().ok()?,
            base_offset: body.try_get_i64().ok()?,
            next_offset: body.try_get_i64().ok()?,
            bytes: body.try_get_u64().ok()?,
            max_timestamp: body.try_get_i64().ok()?,
            written_ms: body.try_get_i64().ok()?,
            clean_offset: None,
        })
    };
    let sealed = (0..count).map(segment).collect::<Option<_>>()?;
    let len = body.try_get_u32().ok()? as usize;
    let state = (body.len() == len).then(|| R::decode(body))??;
    Some(Checkpoint {
        log_start_offset,
        next_offset,
        sealed,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::State;

    #[test]
    fn it_survives_its_encoding_and_no_cut_or_changed_byte_does() {
        let segment = |base_offset| Segment {
            name_s: 1_700_000_000 + base_offset,
            base_offset,
            next_offset: base_offset + 10,
            bytes: 99,
            max_timestamp: -1,
            written_ms: 5,
            clean_offset: None,
        };
        let mut state = State::default();
        state.epochs.assign(3, 4);
        let sealed = vec![segment(0), segment(10)];
        let bytes = encode(4, 25, &sealed, &state);
        let expected = Checkpoint {
            log_start_offset: 4,
            next_offset: 25,
            sealed,
            state,
        };
        assert_eq!(decode(&bytes), Some(expected));
        for at in 0..bytes.len() {
            assert_eq!(decode::<State>(&bytes[..at]), None);
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode::<State>(&changed), None);
        }
    }
}
