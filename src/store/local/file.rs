//! Positioned and vectored file I/O, whole or an error. Blocking: called off the shard.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Linux takes at most this many slices in one call (`IOV_MAX`).
const SLICES_PER_CALL: usize = 1024;

/// Writes all slices one after the other from `position` on.
pub(super) fn write_all_vectored_at(
    file: &File,
    slices: &mut [IoSlice<'_>],
    position: u64,
) -> io::Result<()> {
    let mut rest = slices;
    let mut position = position;
    // Leading empty slices would make a full write look like one of nothing.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(SLICES_PER_CALL)];
        match rustix::io::pwritev(file, batch, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                position += n as u64;
                IoSlice::advance_slices(&mut rest, n);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Reads up to `buf.len()` bytes at `position`; fewer only at the end of the file.
pub(super) fn read_full_at(file: &File, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Reads `len` bytes at `position`; fewer only at the end of the file.
pub(super) fn read_at(file: &File, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let n = read_full_at(file, &mut buf, position)?;
    buf.truncate(n);
    Ok(buf)
}

/// Opens a file for reading and writing as it is, or makes an empty one.
pub(super) fn open_or_make(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// The big-endian field at `at`, which must be there.
pub(super) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |word, b| (word << 8) | u32::from(*b))
}

/// As [`be_u32`].
pub(super) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    (u64::from(be_u32(bytes, at)) << 32) | u64::from(be_u32(bytes, at + 4))
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces `path` by `contents` so that after a power loss it is either the old or the new file, whole.
pub(super) fn replace_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::other("a file to replace must lie in a folder"))?;
    let draft = path.with_extension("tmp");
    let file = File::create(&draft)?;
    file.write_all_at(contents, 0)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    sync_dir(dir)
}
