//! Zip archives: where each member's bytes are.

use std::io::BufReader;

use zip::{CompressionMethod, ZipArchive};

use crate::place::Bytes;
use crate::source::{Source, SourceReader};
use crate::{Error, Result};

/// A member of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

/// The directory of an archive.
pub(crate) fn open(source: &Source) -> Result<ZipArchive<BufReader<SourceReader<'_>>>> {
    ZipArchive::new(BufReader::new(source.reader(0, source.len()))).map_err(unreadable)
}

/// All members, in the archive's order.
pub(crate) fn members(source: &Source) -> Result<Vec<Member>> {
    let mut archive = open(source)?;
    let mut members = Vec::with_capacity(archive.len().min(1 << 16));
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(unreadable)?;
        let name = entry.name().to_owned();
        if entry.is_dir() {
            continue;
        }
        if entry.encrypted() {
            return Err(Error::unsupported(format!("member '{name}' is encrypted")));
        }
        let (start, packed_len) = (entry.data_start(), entry.compressed_size());
        let end = start.checked_add(packed_len);
        if end.is_none_or(|end| end > source.len()) {
            return Err(Error::malformed(format!(
                "member '{name}' of {packed_len} bytes from byte {start} on leaves the file of {} bytes",
                source.len()
            )));
        }
        let bytes = match entry.compression() {
            CompressionMethod::Stored => Bytes::Plain {
                start,
                len: packed_len,
            },
            CompressionMethod::Deflated => Bytes::Deflated {
                start,
                packed_len,
                len: entry.size(),
            },
            other => {
                return Err(Error::unsupported(format!(
                    "member '{name}' is compressed by {other}, expected deflate or none"
                )));
            }
        };
        members.push(Member { name, bytes });
    }
    Ok(members)
}

pub(crate) fn unreadable(error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(cause) if cause.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::io("cannot read the zip archive", cause)
        }
        other => Error::malformed(format!("it is a damaged or truncated zip archive: {other}")),
    }
}
