//! A file of the log: records in sequence, append-only, removed as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::folder::Folder;
use crate::header::{HEADER_BYTES, Header};

/// Bytes of a segment that are searched for records behind damage: four times its usual size.
const SEARCH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes read at once by the search.
const SEARCH_STEP: usize = 64 * 1024;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    file: File,
    /// End of the last valid record; a failed write may leave more bytes behind it.
    len: u64,
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
pub struct ScanResult<H> {
    pub header: H,
    pub offset: u64,
}

/// What a segment holds.
#[derive(Debug)]
pub struct Scan<H> {
    /// Records with a valid header, in order.
    pub found: Vec<ScanResult<H>>,
    /// Bytes without records.
    pub damaged: u64,
}

// === impl Segment ===

impl Segment {
    /// A new segment at `path`; overwrites a file that a crash left there.
    pub fn create(folder: &Folder, path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        folder.sync()?;
        Ok(Self { path, file, len: 0 })
    }

    /// Opens the segment at `path` and scans the headers of its records; a damaged body is noticed
    /// when it is read. Behind a damaged header the scan continues with the next valid one.
    pub fn open<H: Header>(path: &Path) -> io::Result<(Self, Scan<H>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let end = file.metadata()?.len();
        let mut segment = Self {
            path: path.to_owned(),
            file,
            len: 0,
        };
        let mut scan = Scan {
            found: Vec::new(),
            damaged: end,
        };
        let mut budget = SEARCH_BYTES_MAX;
        let mut at = 0;
        while let Some(found) = segment.next_record::<H>(at, end, scan.newest(), &mut budget)? {
            at = found.offset + found.header.record_len();
            scan.damaged -= found.header.record_len();
            scan.found.push(found);
            segment.len = at;
        }
        Ok((segment, scan))
    }

    /// The first valid record from `at` on with a number above `newest`. `budget` limits the bytes
    /// searched.
    fn next_record<H: Header>(
        &self,
        at: u64,
        end: u64,
        newest: Option<u64>,
        budget: &mut u64,
    ) -> io::Result<Option<ScanResult<H>>> {
        let is_next = |offset: u64, header: &H| {
            offset + header.record_len() <= end && newest.is_none_or(|newest| header.seq() > newest)
        };
        if let Some(header) = self.header_at(at)?.filter(|header| is_next(at, header)) {
            return Ok(Some(ScanResult { header, offset: at }));
        }
        // Reads overlap by a header less a byte, so none is missed between two of them.
        let mut buffer = vec![0; SEARCH_STEP + HEADER_BYTES - 1];
        let mut from = at + 1;
        while from < end && *budget > 0 {
            let read = read_up_to(&self.file, &mut buffer, from)?;
            for (index, bytes) in buffer[..read].windows(HEADER_BYTES).enumerate() {
                let offset = from + index as u64;
                let header = bytes.first_chunk().and_then(H::decode);
                if let Some(header) = header.filter(|header| is_next(offset, header)) {
                    return Ok(Some(ScanResult { header, offset }));
                }
            }
            from += SEARCH_STEP as u64;
            *budget = budget.saturating_sub(SEARCH_STEP as u64);
        }
        Ok(None)
    }

    /// End of the last record.
    #[expect(clippy::len_without_is_empty, reason = "asked for its bytes only")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends a record; durable only after [`Segment::sync`]. On an error `len` is unchanged.
    pub fn append(&mut self, header: &impl Header, body: &[u8]) -> io::Result<u64> {
        let offset = self.len;
        self.file.write_all_at(&header.encode(), offset)?;
        self.file.write_all_at(body, offset + HEADER_BYTES as u64)?;
        self.len += header.record_len();
        Ok(offset)
    }

    /// Removes everything from `len` on, after a flush that was written only in part.
    pub fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.len = len.min(self.len);
        self.file.set_len(self.len)
    }

    /// Makes appended records durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The body of the record at `offset`; `None` if it is damaged.
    pub fn read(&self, offset: u64, header: &impl Header) -> io::Result<Option<Vec<u8>>> {
        let mut body = vec![0; header.body_len() as usize];
        match self
            .file
            .read_exact_at(&mut body, offset + HEADER_BYTES as u64)
        {
            Ok(()) => Ok(header.is_of(&body).then_some(body)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Rewrites the segment with only the records `keep`; returns their new offsets. A crash leaves
    /// the old or the new file.
    pub fn rewrite<H: Header>(
        &mut self,
        folder: &Folder,
        keep: &[ScanResult<H>],
    ) -> io::Result<Vec<ScanResult<H>>> {
        let mut rewritten = Vec::with_capacity(keep.len());
        let mut len = 0;
        folder.replace(&self.path, |file| {
            for record in keep {
                let Some(body) = self.read(record.offset, &record.header)? else {
                    continue;
                };
                file.write_all(&record.header.encode())?;
                file.write_all(&body)?;
                rewritten.push(ScanResult {
                    header: record.header,
                    offset: len,
                });
                len += record.header.record_len();
            }
            Ok(())
        })?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        self.len = len;
        Ok(rewritten)
    }

    pub fn remove(self, folder: &Folder) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        folder.sync()
    }

    fn header_at<H: Header>(&self, offset: u64) -> io::Result<Option<H>> {
        let mut bytes = [0; HEADER_BYTES];
        let read = read_up_to(&self.file, &mut bytes, offset)?;
        Ok((read == HEADER_BYTES).then(|| H::decode(&bytes)).flatten())
    }
}

// === impl Scan ===

impl<H: Header> Scan<H> {
    /// Number of the last record.
    fn newest(&self) -> Option<u64> {
        self.found.last().map(|found| found.header.seq())
    }
}

/// Fills `buffer` from `offset` on, up to the end of the file; returns the bytes read.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
