//! All that the store does with files: whole or an error, and made to fail by tests (see
//! [`super::fault`]). Blocking: called off the shard.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, OFlags, StatxFlags};

use super::fault::{Op, meet, short_write};

/// Linux takes at most this many slices in one call (`IOV_MAX`).
const SLICES_PER_CALL: usize = 1024;
/// What is written past the page cache comes in multiples of this. Disks ask for 512 or 4096.
pub(crate) const PAGE: u64 = 4096;

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    meet(Op::Open)?;
    File::open(path)
}

/// Opens a file for reading and writing.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    meet(Op::Open)?;
    File::options().read(true).write(true).open(path)
}

/// Opens a file for reading and writing as it is, or makes an empty one.
pub(crate) fn open_or_make(path: &Path) -> io::Result<File> {
    meet(Op::Make)?;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// As [`open_or_make`], to be written with [`write_pages_at`]: past the page cache, if its file system
/// does that with pages.
pub(crate) fn open_direct(path: &Path) -> io::Result<File> {
    let file = open_or_make(path)?;
    if takes_pages(&file) {
        // Where it is refused, as by NFS and FUSE at times, the page cache has to do.
        let _ = set_direct(&file, true);
    }
    Ok(file)
}

/// Whether a file can be written past the page cache in pages. Where nobody knows (before Linux 6.1, and
/// with file systems that do not tell) it is tried.
fn takes_pages(file: &File) -> bool {
    let asked = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    let fits = |align: u32| align != 0 && PAGE.is_multiple_of(align.into());
    asked.map_or(true, |told| {
        told.stx_mask & StatxFlags::DIOALIGN.bits() == 0
            || fits(told.stx_dio_mem_align) && fits(told.stx_dio_offset_align)
    })
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    meet(Op::Direct)?;
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

/// Makes an empty file, for reading and writing. What it held before is gone.
pub(crate) fn make(path: &Path) -> io::Result<File> {
    meet(Op::Make)?;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

/// All that a file holds.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    meet(Op::Read)?;
    std::fs::read(path)
}

/// Reads up to `buf.len()` bytes at `position`; fewer only at the end of the file.
pub(crate) fn read_full_at(file: &File, buf: &mut [u8], position: u64) -> io::Result<usize> {
    meet(Op::Read)?;
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
pub(crate) fn read_at(file: &File, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let n = read_full_at(file, &mut buf, position)?;
    buf.truncate(n);
    Ok(buf)
}

/// Reads `len` bytes at `position`, which must be there.
pub(crate) fn read_exactly_at(file: &File, position: u64, len: usize) -> io::Result<Vec<u8>> {
    meet(Op::Read)?;
    let mut buf = Vec::with_capacity(len);
    while buf.len() < len {
        let at = position + buf.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buf), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    buf.truncate(len);
    Ok(buf)
}

/// Writes all of `bytes` at `position`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    if let Some(len) = short_write(Op::Write, bytes.len()) {
        file.write_all_at(&bytes[..len], position)?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all_at(bytes, position)
}

/// Writes whole pages, which lie at a page boundary in memory, to a file of [`open_direct`].
pub(crate) fn write_pages_at(file: &File, pages: &[u8], position: u64) -> io::Result<()> {
    if let Some(len) = short_write(Op::Write, pages.len()) {
        file.write_all_at(&pages[..len - len % PAGE as usize], position)?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    match file.write_all_at(pages, position) {
        // The file system did not say that pages are not what it takes past the page cache.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            set_direct(file, false)?;
            file.write_all_at(pages, position)
        }
        written => written,
    }
}

/// Writes all slices one after the other from `position` on.
pub(crate) fn write_all_vectored_at(
    file: &File,
    slices: &mut [IoSlice<'_>],
    position: u64,
) -> io::Result<()> {
    let len = slices.iter().map(|slice| slice.len()).sum();
    if let Some(len) = short_write(Op::Write, len) {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter())
            .copied()
            .collect();
        file.write_all_at(&bytes[..len], position)?;
        return Err(io::ErrorKind::StorageFull.into());
    }
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

/// Cuts a file off at `len`, or fills it up with zeros.
pub(crate) fn set_len(file: &File, len: u64) -> io::Result<()> {
    meet(Op::SetLen)?;
    file.set_len(len)
}

/// Takes room on the disk for the first `len` bytes; the file is no longer for it. A file system that
/// cannot (NFS before 4.2, FUSE at times) may be full when they are written.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    meet(Op::Allocate)?;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        done => Ok(done?),
    }
}

/// Makes what a file holds durable.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    meet(Op::Sync)?;
    file.sync_data()
}

/// What of a large file goes to the disk at a time.
const SLICE: usize = 512 << 10;

/// As [`sync`], slice by slice: who syncs another file meanwhile waits for one of them, not for all.
pub(crate) fn sync_in_slices(file: &File) -> io::Result<()> {
    meet(Op::Sync)?;
    for offset in (0..file.metadata()?.len()).step_by(SLICE) {
        shards::write_out(file, offset, SLICE as u64)?;
    }
    file.sync_data()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    meet(Op::Sync)?;
    File::open(dir)?.sync_all()
}

/// Makes all durable that the file system of an open folder holds.
pub(crate) fn sync_file_system(dir: &File) -> io::Result<()> {
    meet(Op::Sync)?;
    Ok(rustix::fs::syncfs(dir)?)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    meet(Op::Rename)?;
    std::fs::rename(from, to)
}

/// Renames a file. One that is not there is fine.
pub(crate) fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    fine_if_missing(rename(from, to))
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    meet(Op::Remove)?;
    std::fs::remove_file(path)
}

/// Removes a file. One that is not there is fine.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    fine_if_missing(remove(path))
}

/// Removes a folder with all that is in it. One that is not there is fine.
pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    meet(Op::Remove)?;
    fine_if_missing(std::fs::remove_dir_all(dir))
}

fn fine_if_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes a folder, and those that it lies in.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    meet(Op::Make)?;
    std::fs::create_dir_all(dir)
}

/// What is in a folder, in no particular order.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    meet(Op::Open)?;
    let entries = std::fs::read_dir(dir)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

pub(crate) fn len(file: &File) -> io::Result<u64> {
    meet(Op::Read)?;
    Ok(file.metadata()?.len())
}

pub(crate) fn len_of(path: &Path) -> io::Result<u64> {
    meet(Op::Read)?;
    Ok(std::fs::metadata(path)?.len())
}

/// When a file was written last, in milliseconds since the epoch.
pub(crate) fn written_ms(file: &File) -> io::Result<i64> {
    meet(Op::Read)?;
    let since = file.metadata()?.modified()?.duration_since(UNIX_EPOCH);
    Ok(since.map_or(0, |since| since.as_millis() as i64))
}

/// Says when a file was written last, in milliseconds since the epoch.
pub(crate) fn set_written(file: &File, ms: i64) -> io::Result<()> {
    meet(Op::Write)?;
    file.set_modified(UNIX_EPOCH + Duration::from_millis(ms.max(0).unsigned_abs()))
}

/// The big-endian field at `at`, which must be there.
pub(crate) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |word, b| (word << 8) | u32::from(*b))
}

/// As [`be_u32`].
pub(crate) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    (u64::from(be_u32(bytes, at)) << 32) | u64::from(be_u32(bytes, at + 4))
}

/// Replaces `path` by `contents` so that after a power loss it is either the old or the new file, whole.
pub(crate) fn replace_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::other("a file to replace must lie in a folder"))?;
    let draft = path.with_extension("tmp");
    let draft_file = make(&draft)?;
    write_all_at(&draft_file, contents, 0)?;
    sync(&draft_file)?;
    rename(&draft, path)?;
    sync_dir(dir)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::fault;
    use super::*;

    /// Not in memory, as folders for temporary files may be.
    pub fn folder_on_disk() -> tempfile::TempDir {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
        std::fs::create_dir_all(folder).unwrap();
        tempfile::tempdir_in(folder).unwrap()
    }

    fn is_direct(file: &File) -> bool {
        let flags = rustix::fs::fcntl_getfl(file).unwrap();
        flags.contains(OFlags::DIRECT)
    }

    /// Pages at a page boundary in memory.
    fn with_pages(count: usize, work: impl FnOnce(&mut [u8])) {
        let mut buffer = vec![7; (count + 1) * PAGE as usize];
        let start = buffer.as_ptr().align_offset(PAGE as usize);
        work(&mut buffer[start..start + count * PAGE as usize]);
    }

    #[expect(clippy::print_stderr, reason = "a test says what it does not look at")]
    fn skip(why: &str) {
        eprintln!("skipped: {why}");
    }

    fn check_writes(file: &File, path: &Path) {
        with_pages(2, |pages| {
            write_pages_at(file, pages, PAGE).unwrap();
            pages.fill(8);
            write_pages_at(file, &pages[..PAGE as usize], 2 * PAGE).unwrap();
        });
        sync(file).unwrap();
        let page = |byte| [byte; PAGE as usize];
        assert_eq!(read(path).unwrap(), [page(0), page(7), page(8)].concat());
    }

    #[test]
    fn pages_are_written_past_the_page_cache_or_not() {
        let dir = folder_on_disk();
        let path = dir.path().join("direct");
        check_writes(&open_direct(&path).unwrap(), &path);
        let path = dir.path().join("ordinary");
        fault::fail_all(Op::Direct);
        let file = open_direct(&path);
        fault::end();
        let file = file.unwrap();
        assert!(!is_direct(&file));
        check_writes(&file, &path);
    }

    /// Linux before 6.6 refuses it there when the file is opened, later ones do not tell and take it.
    #[test]
    fn pages_are_written_to_a_file_system_in_memory() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
            skip("no folder can be made in /dev/shm");
            return;
        };
        let path = dir.path().join("file");
        check_writes(&open_direct(&path).unwrap(), &path);
    }

    /// As with a disk that wants larger multiples than pages, and a file system that does not say so.
    #[test]
    fn what_the_disk_does_not_take_past_the_page_cache_is_written_through_it() {
        let dir = folder_on_disk();
        let path = dir.path().join("file");
        let file = open_direct(&path).unwrap();
        if !is_direct(&file) {
            skip("this file system writes nothing past the page cache");
            return;
        }
        write_pages_at(&file, b"odd", 1).unwrap();
        assert_eq!(read(&path).unwrap(), b"\0odd");
        assert!(!is_direct(&file));
    }
}
