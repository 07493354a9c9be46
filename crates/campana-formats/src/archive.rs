//! Zip archives: where each member's bytes are.

use std::io::BufReader;

use campana_tensor::Limits;
use zip::{CompressionMethod, ZipArchive};

use crate::error::shown;
use crate::place::Bytes;
use crate::source::{Source, SourceReader};
use crate::{Error, ErrorKind, Result};

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
///
/// # Errors
///
/// Where the archive is damaged, members share bytes (which other readers
/// would unpack to any amount of data), or one claims to unpack to more than
/// the limits allow for its length.
pub(crate) fn members(source: &Source, limits: &Limits) -> Result<Vec<Member>> {
    let mut archive = open(source)?;
    let mut members = Vec::with_capacity(archive.len().min(1 << 16));
    let mut extents = Vec::with_capacity(archive.len().min(1 << 16));
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(unreadable)?;
        let name = entry.name().to_owned();
        if entry.is_dir() {
            continue;
        }
        if entry.encrypted() {
            return Err(Error::unsupported(format!(
                "member '{}' is encrypted",
                shown(&name)
            )));
        }
        let (start, packed_len) = (entry.data_start(), entry.compressed_size());
        let end = start.checked_add(packed_len);
        let Some(end) = end.filter(|end| *end <= source.len()) else {
            return Err(Error::malformed(format!(
                "member '{}' of {packed_len} bytes from byte {start} on leaves the file of {} bytes",
                shown(&name),
                source.len()
            )));
        };
        let (len, crc) = (entry.size(), entry.crc32());
        let bytes = match entry.compression() {
            CompressionMethod::Stored => Bytes::Plain {
                start,
                len: packed_len,
                crc: Some(crc),
            },
            CompressionMethod::Deflated => Bytes::Deflated {
                start,
                packed_len,
                len,
                crc,
            },
            other => {
                return Err(Error::unsupported(format!(
                    "member '{}' is compressed by {other}, expected deflate or none",
                    shown(&name)
                )));
            }
        };
        if len > packed_len.saturating_mul(limits.max_zip_ratio as u64) {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "member '{}' of {packed_len} bytes claims to unpack to {len}, more than {} times as many",
                    shown(&name),
                    limits.max_zip_ratio
                ),
            ));
        }
        extents.push((entry.header_start(), end, members.len()));
        members.push(Member { name, bytes });
    }
    check_overlaps(extents, &members)?;
    Ok(members)
}

/// Refuses members that share bytes; each extent is a member's from its header
/// to its end.
fn check_overlaps(mut extents: Vec<(u64, u64, usize)>, members: &[Member]) -> Result<()> {
    extents.sort_unstable();
    for pair in extents.windows(2) {
        let [(_, end, first), (start, _, second)] = *pair else {
            continue;
        };
        if start < end {
            return Err(Error::malformed(format!(
                "members '{}' and '{}' share bytes: one ends at byte {end}, the other begins at {start}",
                shown(&members[first].name),
                shown(&members[second].name)
            )));
        }
    }
    Ok(())
}

pub(crate) fn unreadable(error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(cause) if cause.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::io("cannot read the zip archive", cause)
        }
        other => Error::malformed(format!("it is a damaged or truncated zip archive: {other}")),
    }
}
