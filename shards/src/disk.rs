//! What a disk is asked for that has no safe wrapper elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Writes what the page cache holds of `len` bytes from `offset` on to the disk, and waits for it
/// (`sync_file_range`). That alone makes nothing durable: it leaves less to the next sync, which still
/// has to come. Blocking. An error has to be taken as one of that sync, which may not tell it again.
pub fn write_out(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = (i64::try_from(offset), i64::try_from(len));
    let (Ok(offset), Ok(len)) = range else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is handed over.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
