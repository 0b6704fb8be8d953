//! Every codec against itself, against another decoder, against damage, and against bombs.

use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::inflater::WINDOW_BYTES;
use super::*;

const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const LIMIT: usize = 8 << 20;

/// Inflates over the window, in pieces of at most `budget`.
fn inflate_in_pieces(
    codec: Compression,
    input: &[u8],
    limit: usize,
    budget: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut scratch = Scratch::default();
    let mut inflater = scratch.inflater(codec, limit).expect("a codec");
    let mut out = Vec::new();
    while let Some(piece) = inflater.next_piece(input, budget)? {
        assert!(piece.len() <= budget);
        out.extend_from_slice(piece);
    }
    assert_eq!(out.len(), inflater.produced());
    scratch.recycle(inflater);
    Ok(out)
}

/// Some other implementation's opinion of a payload.
fn reference(codec: Compression, input: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match codec {
        Compression::None => out.extend_from_slice(input),
        Compression::Gzip => drop(MultiGzDecoder::new(input).read_to_end(&mut out).ok()?),
        Compression::Snappy if input.starts_with(b"\x82SNAPPY\0") => return None,
        Compression::Snappy => out = snap::raw::Decoder::new().decompress_vec(input).ok()?,
        Compression::Lz4 => drop(FrameDecoder::new(input).read_to_end(&mut out).ok()?),
        Compression::Zstd => out = ::zstd::decode_all(input).ok()?,
    }
    Some(out)
}

/// Bytes that compress more or less well: runs, repeats from near and far, and noise.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 1..5_000_usize).prop_map(|(byte, count)| vec![byte; count]),
        (prop::collection::vec(0..4_u8, 1..40), 1..200_usize)
            .prop_map(|(words, count)| words.repeat(count)),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| {
        let mut all = parts.concat();
        let again = all.clone();
        all.extend_from_slice(&again);
        all
    })
}

fn large_content() -> Vec<u8> {
    let mut state = 1_u32;
    let words: Vec<u8> = (0..300_000_u32)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 7 == 0 {
                (state >> 24) as u8
            } else {
                b'a' + (at % 23) as u8
            }
        })
        .collect();
    words.repeat(5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_compressed_inflates_to_itself(content in content(), budget in 1..100_000_usize) {
        for codec in CODECS {
            let packed = compress(codec, None, &content);
            prop_assert_eq!(&decompress(codec, &packed, LIMIT).unwrap()[..], &content[..]);
            let pieces = inflate_in_pieces(codec, &packed, LIMIT, budget.max(content.len() / 1_000));
            prop_assert_eq!(&pieces.unwrap(), &content);
            if let Some(other) = reference(codec, &packed) {
                prop_assert_eq!(&other, &content);
            }
        }
    }

    #[test]
    fn raw_snappy_agrees_with_another_decoder(content in content(), budget in 100..100_000_usize) {
        let packed = snap::raw::Encoder::new().compress_vec(&content).unwrap();
        prop_assert_eq!(&decompress(Compression::Snappy, &packed, LIMIT).unwrap()[..], &content[..]);
        let pieces = inflate_in_pieces(Compression::Snappy, &packed, LIMIT, budget);
        prop_assert_eq!(pieces.unwrap(), content);
    }

    #[test]
    fn damaged_payloads_end_in_an_error_or_in_bytes(
        content in content(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        cut in any::<prop::sample::Index>(),
    ) {
        for codec in CODECS {
            let mut packed = compress(codec, None, &content).to_vec();
            let at = at.index(packed.len());
            packed[at] ^= flip;
            let whole = decompress(codec, &packed, LIMIT);
            let pieces = inflate_in_pieces(codec, &packed, LIMIT, 10_000);
            prop_assert_eq!(whole.map(Vec::from), pieces);
            packed[at] ^= flip;
            packed.truncate(cut.index(packed.len()));
            // Raw snappy has no end of its own, and an xerial stream may end after any chunk.
            if codec != Compression::Snappy {
                prop_assert!(decompress(codec, &packed, LIMIT).is_err());
            }
            let _ = inflate_in_pieces(codec, &packed, LIMIT, 10_000);
        }
    }

    #[test]
    fn arbitrary_bytes_agree_with_another_decoder(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for codec in CODECS {
            let ours = decompress(codec, &bytes, LIMIT).ok().map(Vec::from);
            prop_assert_eq!(&ours, &inflate_in_pieces(codec, &bytes, LIMIT, 77).ok());
            if codec == Compression::Snappy && !bytes.starts_with(b"\x82SNAPPY\0") {
                prop_assert_eq!(ours, reference(codec, &bytes));
            }
        }
    }

    /// Small blocks of wild tags find the decoder's edges better than noise does.
    #[test]
    fn arbitrary_snappy_tags_agree_with_another_decoder(
        size in 0..120_u8,
        tags in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(5), 0..64_u8], 0..60),
    ) {
        let mut bytes = vec![size];
        bytes.extend_from_slice(&tags);
        let ours = decompress(Compression::Snappy, &bytes, LIMIT).ok().map(Vec::from);
        let refused_preamble = usize::from(size) > tags.len() * 22;
        if !refused_preamble {
            prop_assert_eq!(ours, reference(Compression::Snappy, &bytes));
        }
    }
}

#[test]
fn content_larger_than_the_window_inflates_in_pieces() {
    let content = large_content();
    assert!(content.len() > 4 * WINDOW_BYTES);
    for codec in CODECS {
        let packed = compress(codec, None, &content);
        for budget in [1_000, 64 << 10, 256 << 10, usize::MAX] {
            let pieces = inflate_in_pieces(codec, &packed, LIMIT, budget);
            assert!(pieces.unwrap() == content, "{codec:?} by {budget}");
        }
    }
    let raw = snap::raw::Encoder::new().compress_vec(&content).unwrap();
    let pieces = inflate_in_pieces(Compression::Snappy, &raw, LIMIT, 256 << 10);
    assert!(pieces.unwrap() == content);
}

#[test]
fn the_limit_is_exact() {
    let content = vec![7; 100_000];
    for codec in CODECS {
        let packed = compress(codec, None, &content);
        for (limit, fits) in [(99_999, false), (100_000, true), (0, false)] {
            let expected = if fits {
                Ok(())
            } else {
                Err(InflateError::TooLarge { limit })
            };
            assert_eq!(decompress(codec, &packed, limit).map(drop), expected);
            let pieces = inflate_in_pieces(codec, &packed, limit, 1_000);
            assert_eq!(pieces.map(drop), expected, "{codec:?} {limit}");
        }
    }
    assert!(decompress(Compression::None, &content, 99_999).is_err());
    assert!(decompress(Compression::None, &content, 100_000).is_ok());
}

#[test]
fn levels_out_of_range_are_taken_as_the_nearest() {
    for codec in Compression::ALL {
        for level in [i32::MIN, -1, 0, 1, 9, 12, i32::MAX] {
            let packed = compress(codec, Some(level), b"level level level");
            let back = decompress(codec, &packed, 100).unwrap();
            assert_eq!(&back[..], b"level level level");
        }
    }
}

fn lz4_frame(info: FrameInfo, content: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lz4_frames_of_all_kinds_inflate() {
    let content = large_content();
    for size in [BlockSize::Max64KB, BlockSize::Max4MB] {
        for kind in 0..16_u8 {
            let has = |bit: u8| kind & bit != 0;
            let info = FrameInfo::new()
                .block_size(size)
                .block_mode(if has(1) {
                    BlockMode::Linked
                } else {
                    BlockMode::Independent
                })
                .block_checksums(has(2))
                .content_checksum(has(4))
                .content_size(has(8).then_some(content.len() as u64));
            let frame = lz4_frame(info, &content);
            assert!(decompress(Compression::Lz4, &frame, LIMIT).unwrap() == content);
            let pieces = inflate_in_pieces(Compression::Lz4, &frame, LIMIT, 256 << 10);
            if has(1) {
                assert!(
                    pieces.is_err(),
                    "Kafka's clients do not read dependent blocks"
                );
            } else {
                assert!(pieces.unwrap() == content);
            }
        }
    }
}

#[test]
fn lz4_checksums_are_checked() {
    let info = || FrameInfo::new().block_size(BlockSize::Max64KB);
    for (info, field) in [
        (info().content_checksum(true), "content checksum"),
        (info().block_checksums(true), "block checksum"),
        (info(), "header checksum"),
    ] {
        let mut frame = lz4_frame(info, b"some content that is checked");
        let at = match field {
            "content checksum" => frame.len() - 1,
            "block checksum" => frame.len() - 5,
            _ => 6,
        };
        frame[at] ^= 1;
        let error = decompress(Compression::Lz4, &frame, LIMIT).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn lz4_takes_one_frame_only() {
    let frame = compress(Compression::Lz4, None, b"once");
    let twice = [&frame[..], &frame[..]].concat();
    assert!(decompress(Compression::Lz4, &twice, LIMIT).is_err());
}

#[test]
fn joined_gzip_members_and_zstd_frames_inflate_to_all_of_them() {
    for codec in [Compression::Gzip, Compression::Zstd] {
        // Equal members are the hard case: the trailer at the end fits the first one, too.
        let packed = compress(codec, None, b"twice ");
        let joined = [&packed[..], &packed[..]].concat();
        assert_eq!(
            &decompress(codec, &joined, LIMIT).unwrap()[..],
            b"twice twice "
        );
        assert_eq!(
            inflate_in_pieces(codec, &joined, LIMIT, 3).unwrap(),
            b"twice twice "
        );
        let with_rubbish = [&packed[..], b"rubbish"].concat();
        assert!(decompress(codec, &with_rubbish, LIMIT).is_err());
        assert!(inflate_in_pieces(codec, &with_rubbish, LIMIT, 100).is_err());
    }
}

#[test]
fn gzip_headers_may_carry_names_and_checksums() {
    let body = flate2::GzBuilder::new()
        .filename("a name")
        .comment("a comment")
        .extra(vec![1, 2, 3, 4])
        .write(Vec::new(), flate2::Compression::best());
    let mut body: GzEncoder<_> = body;
    body.write_all(b"content").unwrap();
    let packed = body.finish().unwrap();
    assert_eq!(
        &decompress(Compression::Gzip, &packed, LIMIT).unwrap()[..],
        b"content"
    );
    assert_eq!(
        inflate_in_pieces(Compression::Gzip, &packed, LIMIT, 2).unwrap(),
        b"content"
    );
}

/// snappy-java's framing, written out by hand: header, then chunks behind their lengths.
#[test]
fn xerial_framing_inflates_chunk_by_chunk() {
    let header = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    // Preamble 5, literal of 5. Preamble 6, literal of 2, repeat of 4 from 2 back.
    let hello = b"\0\0\0\x07\x05\x10hello";
    let ababab = b"\0\0\0\x06\x06\x04ab\x01\x02";
    let empty = b"\0\0\0\x01\0";
    for (chunks, expected) in [
        (vec![&hello[..]], &b"hello"[..]),
        (vec![&hello[..], ababab], b"helloababab"),
        (vec![], b""),
        (vec![empty, &hello[..], empty], b"hello"),
        // A second stream behind the first.
        (vec![&hello[..], header, ababab], b"helloababab"),
    ] {
        let stream = [&header[..], &chunks.concat()].concat();
        assert_eq!(
            &decompress(Compression::Snappy, &stream, LIMIT).unwrap()[..],
            expected
        );
        let pieces = inflate_in_pieces(Compression::Snappy, &stream, LIMIT, 2).unwrap();
        assert_eq!(pieces, expected);
    }
    for broken in [
        &b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07\x05\x10hell"[..], // a chunk cut off
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0",                        // a chunk length cut off
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\xFF\xFF\xFF\xFF",            // a negative one
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06\x06\x04ab\x01\x03", // a repeat from before its block
    ] {
        assert!(decompress(Compression::Snappy, broken, LIMIT).is_err());
    }
}

/// A payload of a few KiB that inflates to gigabytes.
fn bomb(codec: Compression) -> Vec<u8> {
    match codec {
        Compression::Zstd => {
            // One frame of run-length blocks: magic, no content size, window of 128 KiB.
            let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38];
            for _ in 0..16_000 {
                // Not the last block, run-length, 128 KiB of zeros.
                frame.extend_from_slice(&[0x02, 0x00, 0x10, 0x00]);
            }
            frame
        }
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
            let zeros = vec![0; 1 << 20];
            for _ in 0..32 {
                encoder.write_all(&zeros).unwrap();
            }
            // Members may follow each other, so a bomb may be as long as it likes.
            encoder.finish().unwrap().repeat(64)
        }
        _ => {
            // One LZ4 frame of 4 MiB blocks of zeros, over and over.
            let info = FrameInfo::new().block_size(BlockSize::Max4MB);
            let frame = lz4_frame(info, &vec![0; 4 << 20]);
            let (header, end) = (7, frame.len() - 4);
            let blocks = frame[header..end].repeat(512);
            [&frame[..header], &blocks, &frame[end..]].concat()
        }
    }
}

#[test]
fn bombs_end_at_the_limit_in_bounded_steps() {
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bomb = bomb(codec);
        let limit = 32 << 20;
        let mut scratch = Scratch::default();
        let mut inflater = scratch.inflater(codec, limit).unwrap();
        let error = loop {
            match inflater.next_piece(&bomb, 256 << 10) {
                Ok(Some(piece)) => assert!(piece.len() <= 256 << 10),
                Ok(None) => panic!("{codec:?}: the bomb has an end"),
                Err(error) => break error,
            }
            assert!(inflater.window_bytes() <= WINDOW_BYTES);
        };
        assert_eq!(error, InflateError::TooLarge { limit });
        assert!(inflater.produced() <= limit + 1);
        assert_eq!(decompress(codec, &bomb, limit), Err(error));
    }
}

#[test]
fn snappy_blocks_that_promise_too_much_are_not_begun() {
    // 4 GiB promised by six bytes; then an honest ratio that is over the limit.
    let lie = b"\xFF\xFF\xFF\xFF\x0F\0";
    assert!(matches!(
        decompress(Compression::Snappy, lie, usize::MAX),
        Err(InflateError::Corrupt { .. })
    ));
    let large = snap::raw::Encoder::new()
        .compress_vec(&vec![0; 1 << 20])
        .unwrap();
    let limit = 1 << 19;
    let mut inflater = Scratch::default()
        .inflater(Compression::Snappy, limit)
        .unwrap();
    assert_eq!(
        inflater.next_piece(&large, 1_000),
        Err(InflateError::TooLarge { limit })
    );
    assert_eq!(inflater.produced(), 0);
}

#[test]
fn empty_blocks_cost_no_more_than_their_bytes_in_one_step() {
    let header = compress(Compression::Lz4, None, b"")[..7].to_vec();
    // A stored block cannot be empty, but a compressed one of a single zero token is.
    let blocks = [1, 0, 0, 0, 0].repeat(400_000);
    let frame = [header, blocks, vec![0; 4]].concat();
    let mut inflater = Scratch::default().inflater(Compression::Lz4, 100).unwrap();
    let mut steps = 0;
    while inflater.next_piece(&frame, 1_000).unwrap().is_some() {
        steps += 1;
    }
    assert_eq!(inflater.produced(), 0);
    assert!(steps >= frame.len() / INPUT_PER_CALL);
}

#[test]
fn nothing_at_all_is_no_payload() {
    for codec in CODECS {
        assert!(decompress(codec, b"", LIMIT).is_err(), "{codec:?}");
        assert!(inflate_in_pieces(codec, b"", LIMIT, 10).is_err());
    }
}
