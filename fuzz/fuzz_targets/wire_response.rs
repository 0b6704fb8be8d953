//! Any bytes as a response, as a client gets it. The first four bytes say the API and its version.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate_fuzz::wire::{RoundTrip, response};

fuzz_target!(|data: &[u8]| response(Bytes::copy_from_slice(data), &mut RoundTrip));
