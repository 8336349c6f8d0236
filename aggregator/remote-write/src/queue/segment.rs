//! A file of the log: records one after the other, only ever appended to, removed as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::block::Block;
use crate::queue::record::{HEADER_BYTES, Header};

const SUFFIX: &str = ".seg";

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Bytes of good records; the file may be longer by what a failed write left.
    len: u64,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) header: Header,
    pub(super) offset: u64,
}

/// What a scan met.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) found: Vec<Found>,
    /// Bytes that are no records.
    pub(super) damaged: u64,
}

/// The segments of a folder, by the sequence number they begin with, in order.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        firsts.extend(first.and_then(|hex| u64::from_str_radix(hex, 16).ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:016x}{SUFFIX}"))
}

/// Makes creations, renames and removals in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

// === impl Segment ===

impl Segment {
    /// A new segment that begins with number `first`. What a crash may have left under its name is written over.
    pub(super) fn create(folder: &Path, first: u64) -> io::Result<Self> {
        let path = path(folder, first);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        sync_folder(folder)?;
        Ok(Self { path, file, len: 0 })
    }

    /// Opens the segment that begins with `first` and looks for its records. The scan reads headers only, but for
    /// the `last` segment, whose end a crash may have torn: there bodies are checked too, and it ends at the first
    /// record that is not whole.
    pub(super) fn open(folder: &Path, first: u64, last: bool) -> io::Result<(Self, Scan)> {
        let path = path(folder, first);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let end = file.metadata()?.len();
        let mut segment = Self { path, file, len: 0 };
        let mut scan = Scan::default();
        while let Some(header) = segment.header_at(segment.len)? {
            let whole = segment.len + header.record_len() <= end;
            if !whole || (last && segment.read(segment.len, &header)?.is_none()) {
                break;
            }
            scan.found.push(Found {
                header,
                offset: segment.len,
            });
            segment.len += header.record_len();
        }
        scan.damaged = end - segment.len;
        if last && scan.damaged > 0 {
            // What is appended next must not be followed by what is left of this.
            segment.truncate(end)?;
        }
        Ok((segment, scan))
    }

    /// Bytes of records.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends a record; durable only after [`Segment::sync`]. After an error the segment is as before.
    pub(super) fn append(&mut self, header: &Header, body: &[u8]) -> io::Result<u64> {
        let offset = self.len;
        self.file.write_all_at(&header.encode(), offset)?;
        self.file.write_all_at(body, offset + HEADER_BYTES as u64)?;
        self.len += header.record_len();
        Ok(offset)
    }

    /// Takes back everything from `len` on, after a flush that could not be written whole.
    pub(super) fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.len = len.min(self.len);
        self.file.set_len(self.len)
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The record at `offset`; `None` if its body is not the one that was written.
    pub(super) fn read(&self, offset: u64, header: &Header) -> io::Result<Option<Block>> {
        let mut body = vec![0; header.body_len as usize];
        match self
            .file
            .read_exact_at(&mut body, offset + HEADER_BYTES as u64)
        {
            Ok(()) => Ok(header.block(body)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the segment anew with `keep` only; returns where they lie now. A crash leaves the old or the new file.
    pub(super) fn rewrite(&mut self, folder: &Path, keep: &[Found]) -> io::Result<Vec<Found>> {
        let new_path = self.path.with_extension("new");
        let mut file = File::create(&new_path)?;
        let mut kept = Vec::with_capacity(keep.len());
        let mut len = 0;
        for record in keep {
            let Some(block) = self.read(record.offset, &record.header)? else {
                continue;
            };
            file.write_all(&record.header.encode())?;
            file.write_all(&block.body)?;
            kept.push(Found {
                header: record.header,
                offset: len,
            });
            len += record.header.record_len();
        }
        file.sync_all()?;
        fs::rename(&new_path, &self.path)?;
        sync_folder(folder)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        self.len = len;
        Ok(kept)
    }

    /// Removes the file.
    pub(super) fn remove(self, folder: &Path) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        sync_folder(folder)
    }

    fn header_at(&self, offset: u64) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Header::decode(&bytes)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}
