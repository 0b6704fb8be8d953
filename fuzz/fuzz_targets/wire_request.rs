//! Any bytes as a request frame, as a broker gets it from its clients.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate_fuzz::wire::{RoundTrip, request};

fuzz_target!(|data: &[u8]| request(Bytes::copy_from_slice(data), &mut RoundTrip));
