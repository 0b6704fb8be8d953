//! What the fuzz targets check. The modules are shared with tests that run without a fuzzer.

pub mod wire;
