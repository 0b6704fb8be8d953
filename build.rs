//! Makes Rust of the messages that SeaweedFS is spoken to with, without `protoc`.

#![allow(clippy::print_stdout)] // That is how a build script speaks to cargo.

use std::error::Error;

const FOLDER: &str = "src/bridge/proto";
const FILES: [&str; 4] = ["filer.proto", "master.proto", "mq.proto", "schema.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let descriptors = protox::compile(FILES, [FOLDER])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).include_file("seaweedfs.rs");
    config.compile_fds(descriptors)?;
    Ok(())
}
