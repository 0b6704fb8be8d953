//! SeaweedFS's messages, made by `build.rs` of the files in `proto/`.

include!(concat!(env!("OUT_DIR"), "/seaweedfs.rs"));
