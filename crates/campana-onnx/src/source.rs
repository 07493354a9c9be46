//! Where a model's bytes come from: a file or memory, read by position.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// Bytes copied at a time; large enough that system calls do not count.
const COPY_BLOCK: u64 = 1 << 20;

/// A range of bytes of a [`Source`]: `start` included, `end` excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

impl Span {
    /// Number of bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there are no bytes.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `other` lies within this range.
    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// A store of bytes that can be read at any position, from any thread.
///
/// Clones share the store. A file is neither mapped nor loaded: memory use
/// does not grow with its size. The length is taken once; a file that shrinks
/// later gives an error, not wrong data.
#[derive(Clone, Debug)]
pub struct Source {
    store: Arc<Store>,
    len: u64,
}

#[derive(Debug)]
enum Store {
    File { file: File, name: String },
    Memory(Cow<'static, [u8]>),
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where it cannot be opened or is no regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
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
        Ok(Self {
            store: Arc::new(Store::File { file, name }),
            len,
        })
    }

    /// Bytes in memory.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            len: bytes.len() as u64,
            store: Arc::new(Store::Memory(bytes)),
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All bytes, as a range.
    pub fn span(&self) -> Span {
        Span {
            start: 0,
            end: self.len,
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] where the range leaves the source,
    /// [`ErrorKind::Io`] where the file cannot be read or has become shorter.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            let message = format!(
                "{} bytes from byte {offset} on are outside the source of {} bytes",
                buffer.len(),
                self.len
            );
            return Err(Error::new(ErrorKind::Argument, message));
        }
        match &*self.store {
            Store::Memory(bytes) => {
                let start = offset as usize;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
            Store::File { file, name } => read_exact_at(file, buffer, offset).map_err(|cause| {
                let doing = if cause.kind() == io::ErrorKind::UnexpectedEof {
                    let len = self.len;
                    format!("{name} has become shorter than the {len} bytes it had when opened")
                } else {
                    format!("cannot read {name}")
                };
                Error::io(doing, cause).at(offset)
            }),
        }
    }

    /// The bytes of a range, in memory of their own.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at); [`ErrorKind::Limit`] where the range is
    /// larger than the address space.
    pub fn read(&self, span: Span) -> Result<Vec<u8>> {
        if !self.span().contains(span) || span.start > span.end {
            let message = format!(
                "bytes {} to {} are outside the source of {} bytes",
                span.start, span.end, self.len
            );
            return Err(Error::new(ErrorKind::Argument, message));
        }
        let len = usize::try_from(span.len()).map_err(|_| {
            let message = format!("{} bytes do not fit in memory", span.len());
            Error::new(ErrorKind::Limit, message)
        })?;
        let mut bytes = vec![0; len];
        self.read_at(span.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes the bytes of a range to `out`, a block at a time.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at), and [`ErrorKind::Io`] where `out` fails.
    pub fn copy_to(&self, span: Span, out: &mut (impl Write + ?Sized)) -> Result<()> {
        let cannot_write = |cause| Error::io("cannot write the output", cause);
        if let Store::Memory(bytes) = &*self.store {
            let range = span.start as usize..span.end as usize;
            let Some(bytes) = bytes.get(range) else {
                return self.read(span).map(drop);
            };
            return out.write_all(bytes).map_err(cannot_write);
        }
        let mut block = vec![0; span.len().min(COPY_BLOCK) as usize];
        let mut at = span.start;
        while at < span.end {
            let len = (span.end - at).min(COPY_BLOCK) as usize;
            self.read_at(at, &mut block[..len])?;
            out.write_all(&block[..len]).map_err(cannot_write)?;
            at += len as u64;
        }
        Ok(())
    }

    /// Checks that a file still has the length it had when it was opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where it has not, or cannot be asked.
    pub fn check_unchanged(&self) -> Result<()> {
        let Store::File { file, name } = &*self.store else {
            return Ok(());
        };
        let now = file
            .metadata()
            .map_err(|cause| Error::io(format!("cannot read {name}"), cause))?
            .len();
        if now == self.len {
            return Ok(());
        }
        let message = format!(
            "{name} changed while it was being read: {} bytes when opened, {now} now",
            self.len
        );
        Err(Error::new(ErrorKind::Io, message))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                buffer = &mut buffer[len..];
                offset += len as u64;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

#[cfg(not(any(unix, windows)))]
fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(bytes).expect("written");
        file
    }

    #[test]
    fn file_and_memory_give_the_same_bytes() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let file = file_of(&bytes);
        let span = Span {
            start: 17,
            end: 2_500_001,
        };
        for source in [
            Source::open(file.path()).expect("opened"),
            Source::from_bytes(bytes.clone()),
        ] {
            let mut out = Vec::new();
            source.copy_to(span, &mut out).expect("copied");
            assert_eq!(out, bytes[17..2_500_001]);
            assert_eq!(source.read(span).expect("read"), out);
            source.check_unchanged().expect("unchanged");
        }
    }

    #[test]
    fn a_range_outside_is_refused() {
        let source = Source::from_bytes(vec![0; 10]);
        for (start, end) in [(5, 11), (u64::MAX - 1, u64::MAX), (6, 5)] {
            let error = source.read(Span { start, end }).expect_err("outside");
            assert_eq!(error.kind(), ErrorKind::Argument);
            let out = &mut Vec::new();
            source
                .copy_to(Span { start, end }, out)
                .expect_err("outside");
        }
        source
            .read_at(u64::MAX, &mut [0])
            .expect_err("an overflowing end");
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let file = file_of(&[1; 100]);
        let source = Source::open(file.path()).expect("opened");
        file.as_file().set_len(50).expect("truncated");
        let error = source.read(source.span()).expect_err("short");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("shorter"), "{error}");
        source.check_unchanged().expect_err("changed");
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Source::open(folder.path()).expect_err("a folder");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
