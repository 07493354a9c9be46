//! A file, or bytes in memory, read by position from any thread.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::{Error, Result};

/// An open file of known length; a file that shrinks later gives an error.
#[derive(Debug)]
pub(crate) struct Source {
    store: Store,
    name: String,
    len: u64,
}

#[derive(Debug)]
enum Store {
    #[cfg(unix)]
    File(File),
    #[cfg(not(unix))]
    File(std::sync::Mutex<File>),
    Memory(Vec<u8>),
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        // Opening a pipe would wait for its writer, hence the order.
        let open = || -> io::Result<(File, u64)> {
            if !std::fs::metadata(path)?.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) =
            open().map_err(|cause| Error::io(format!("cannot read '{name}'"), cause))?;
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Ok(Self {
            store: Store::File(file),
            name,
            len,
        })
    }

    /// Bytes in memory, under a name for errors.
    pub(crate) fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            len: bytes.len() as u64,
            store: Store::Memory(bytes),
            name: name.to_owned(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.fill(offset, buffer).map_err(|cause| {
            let doing = format!("cannot read {} bytes from byte {offset} on", buffer.len());
            Error::read(doing, cause).in_file(&self.name)
        })
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.store {
            #[cfg(unix)]
            Store::File(file) => std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset),
            #[cfg(not(unix))]
            Store::File(file) => {
                let mut file = file
                    .lock()
                    .map_err(|_| io::Error::other("another thread failed"))?;
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(buffer)
            }
            Store::Memory(bytes) => {
                let found = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..)?.get(..buffer.len()))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(found);
                Ok(())
            }
        }
    }

    /// The bytes of a range as a stream; `start + len` lies within the file.
    pub(crate) fn reader(&self, start: u64, len: u64) -> SourceReader<'_> {
        SourceReader {
            source: self,
            start,
            len: len.min(self.len.saturating_sub(start)),
            position: 0,
        }
    }
}

/// A range of a [`Source`], read from its start on.
#[derive(Debug)]
pub(crate) struct SourceReader<'a> {
    source: &'a Source,
    start: u64,
    len: u64,
    position: u64,
}

impl Read for SourceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.position);
        let count = left.min(buffer.len() as u64) as usize;
        self.source
            .fill(self.start + self.position, &mut buffer[..count])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SourceReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => self.len.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| io::Error::other("position before the start"))?;
        Ok(self.position)
    }
}
