//! `tidegate dump FILE`: what a segment file holds, and what is wrong with it.
//!
//! One line for each batch, one below it for each record, and a last line that sums up.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

use crate::record::batch::Batch;
use crate::record::{Record, records};
use crate::store::local::segment::{
    HEADER_LEN, Name, Scanned, Scanner, SegmentError, SegmentHeader,
};

/// Records of one batch are shown up to this size; a larger one is said to be too large.
const INFLATED_BYTES_MAX: usize = 1 << 30;
/// Of a key or a value, this much is shown.
const SHOWN_BYTES: usize = 60;

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error("cannot read the file: {0}")]
    Open(io::Error),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// It was said in the output what.
    #[error("{0} faults found")]
    Faults(usize),
}

/// Writes what the segment file at `path` holds.
///
/// # Errors
/// [`DumpError::Faults`] after all of it was written, if something is wrong with it.
pub fn dump(path: &Path, out: &mut impl Write) -> Result<(), DumpError> {
    let file = File::open(path).map_err(DumpError::Open)?;
    let len = file.metadata().map_err(DumpError::Open)?.len();
    let header = SegmentHeader::read(&file)?;
    writeln!(
        out,
        "segment of topic {} partition {}, base offset {}, {len} bytes",
        header.id.topic, header.id.index, header.base_offset
    )?;
    let compacted = Name::of(path).and_then(|name| name.compacted);
    if let Some(compacted) = compacted {
        writeln!(
            out,
            "compacted up to offset {}; stands for those up to {}",
            compacted.clean_offset, compacted.end_offset
        )?;
    }
    let mut totals = Totals {
        next_offset: header.base_offset,
        may_have_holes: compacted.is_some(),
        ..Totals::default()
    };
    let mut scanner = Scanner::new(&file, HEADER_LEN as u64);
    loop {
        let position = scanner.position();
        match scanner.next_batch().map_err(DumpError::Open)? {
            None => break,
            Some(Ok(batch)) => totals.show(&batch, out)?,
            Some(Err(damage)) => {
                totals.faults += 1;
                writeln!(
                    out,
                    "FAULT at position {position}: {damage}; {} bytes from there on are not read",
                    len - position
                )?;
                break;
            }
        }
    }
    writeln!(
        out,
        "{} batches, {} records, {} faults",
        totals.batches, totals.records, totals.faults
    )?;
    match totals.faults {
        0 => Ok(()),
        faults => Err(DumpError::Faults(faults)),
    }
}

#[derive(Default)]
struct Totals {
    batches: usize,
    records: usize,
    faults: usize,
    next_offset: i64,
    may_have_holes: bool,
}

impl Totals {
    fn show(&mut self, batch: &Scanned<'_>, out: &mut impl Write) -> io::Result<()> {
        let header = &batch.header;
        self.batches += 1;
        write!(
            out,
            "batch {}..{} at {}: {} bytes, {} records, leader epoch {}, timestamps {}..{}, ",
            header.base_offset(),
            header.last_offset(),
            batch.position,
            header.size_in_bytes(),
            header.record_count(),
            header.partition_leader_epoch(),
            header.base_timestamp(),
            header.max_timestamp(),
        )?;
        match header.attributes().compression() {
            Ok(codec) => write!(out, "{codec:?}")?,
            Err(error) => write!(out, "{error}")?,
        }
        if header.has_producer_id() {
            let (id, epoch) = (header.producer_id(), header.producer_epoch());
            write!(
                out,
                ", producer {id} epoch {epoch} sequence {}",
                header.base_sequence()
            )?;
        }
        writeln!(out)?;
        let goes_on = match self.may_have_holes {
            true => header.base_offset() >= self.next_offset,
            false => header.base_offset() == self.next_offset,
        };
        if !goes_on {
            self.fault(
                out,
                &format!("the offset before it was {}", self.next_offset - 1),
            )?;
        }
        self.next_offset = header.last_offset() + 1;
        self.show_records(batch.bytes, out)
    }

    fn show_records(&mut self, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        let batch = Batch::parse(&Bytes::copy_from_slice(bytes));
        let found = batch.and_then(|batch| records(&batch, INFLATED_BYTES_MAX));
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.fault(out, &error.to_string()),
        };
        for record in found {
            match record {
                Ok(record) => {
                    self.records += 1;
                    show_record(&record, out)?;
                }
                Err(error) => return self.fault(out, &error.to_string()),
            }
        }
        Ok(())
    }

    fn fault(&mut self, out: &mut impl Write, what: &str) -> io::Result<()> {
        self.faults += 1;
        writeln!(out, "FAULT in this batch: {what}")
    }
}

fn show_record(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let (key, value) = (shown(record.key.as_ref()), shown(record.value.as_ref()));
    write!(
        out,
        "  {} time {} key {key} value {value}",
        record.offset, record.timestamp
    )?;
    for header in &record.headers {
        write!(
            out,
            " {}={}",
            shown(Some(&header.key)),
            shown(header.value.as_ref())
        )?;
    }
    writeln!(out)
}

/// Printable whatever it holds, and of bounded length.
fn shown(bytes: Option<&Bytes>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    let text = bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii();
    match bytes.len() > SHOWN_BYTES {
        true => format!("\"{text}\"... ({} bytes)", bytes.len()),
        false => format!("\"{text}\""),
    }
}
