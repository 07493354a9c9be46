//! Files of lines that grow while a long job runs, so that an interrupted one
//! can go on.
//!
//! Each line is JSON: `{"crc32":"…","record":…}`, a record beside the checksum of
//! its bytes (CRC-32, eight hexadecimal digits). A last line without an end was
//! interrupted and does not count; anything else that does not fit its checksum
//! was changed, and is refused.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use campana_calibrate::{FinishedLayer, FinishedLayers};
use campana_eval::read_input;
use serde::{Deserialize, Serialize};

use crate::error::Context;
use crate::{Error, ErrorKind};

/// What a line begins with, before the checksum.
const BEFORE_CHECKSUM: &str = "{\"crc32\":\"";

/// What stands between checksum and record.
const BEFORE_RECORD: &str = "\",\"record\":";

/// What a line ends with.
const BEHIND_RECORD: &str = "}";

/// A file to which records are appended.
#[derive(Debug)]
pub struct Journal {
    name: String,
    /// What an earlier job left.
    records: Vec<String>,
    /// Bytes of complete lines that were there.
    complete: u64,
    /// Open once the first record was appended.
    file: Option<File>,
}

impl Journal {
    /// What an earlier job left; nothing where there is no such file. `kind`
    /// is what a file that is no journal is said not to be. The file is
    /// written to with the first record, and not before.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, is no journal, or a record does not fit
    /// its checksum.
    pub fn read(path: &Path, kind: &str) -> Result<Self, Error> {
        let name = path.display().to_string();
        let bytes = match read_input(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.context(|| format!("cannot use the journal '{name}'"))?,
        };
        let is_ours = bytes.is_empty() || bytes.starts_with(BEFORE_CHECKSUM.as_bytes());
        let complete = bytes.iter().rposition(|&byte| byte == b'\n');
        let complete = complete.map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&bytes[..complete]).ok();
        let Some(text) = text.filter(|_| is_ours) else {
            let message = format!("'{name}' is no {kind}; name another file");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        let records = text.lines().enumerate().map(|(index, line)| {
            record(line).ok_or_else(|| {
                let message = format!(
                    "the journal '{name}' was changed: line {} does not fit its checksum; remove \
                     the lines from there on, or name another file",
                    index + 1
                );
                Error::new(ErrorKind::Malformed, message)
            })
        });
        let records = records.collect::<Result<_, Error>>()?;
        Ok(Self {
            name,
            records,
            complete: complete as u64,
            file: None,
        })
    }

    /// What an earlier job left.
    pub fn records(&self) -> &[String] {
        &self.records
    }

    /// Appends a record: one line, given without its end. What was cut off
    /// behind the complete lines gives way to it.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn append(&mut self, record: &str) -> Result<(), Error> {
        let context = || format!("cannot write the journal '{}'", self.name);
        let open = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&self.name)?;
            file.set_len(self.complete)?;
            file.seek(SeekFrom::End(0))?;
            Ok::<File, io::Error>(file)
        };
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open().context(context)?,
        };
        let checksum = crc32fast::hash(record.as_bytes());
        let line =
            format!("{BEFORE_CHECKSUM}{checksum:08x}{BEFORE_RECORD}{record}{BEHIND_RECORD}\n");
        file.write_all(line.as_bytes()).context(context)?;
        self.file = Some(file);
        Ok(())
    }

    /// Where it is.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The record of a line; `None` where it does not fit its checksum.
fn record(line: &str) -> Option<String> {
    let (checksum, record) = line
        .strip_prefix(BEFORE_CHECKSUM)?
        .strip_suffix(BEHIND_RECORD)?
        .split_once(BEFORE_RECORD)?;
    let fits = checksum == format!("{:08x}", crc32fast::hash(record.as_bytes()));
    fits.then(|| record.to_owned())
}

/// The first line of a journal of layers: the version that solved them.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Header {
    campana_quantize: String,
}

impl Header {
    fn new() -> Self {
        Self {
            campana_quantize: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Layers that corrections finished, in a journal.
pub(crate) struct LayerJournal {
    journal: Journal,
    layers: HashMap<u64, FinishedLayer>,
}

impl LayerJournal {
    /// The layers that earlier corrections left.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let kind = "journal of layers that this version of campana quantize left";
        let journal = Journal::read(path, kind)?;
        let mut records = journal.records().iter();
        let is_ours = records.next().is_none_or(|first| {
            serde_json::from_str(first).is_ok_and(|found: Header| found == Header::new())
        });
        if !is_ours {
            let message = format!("'{}' is no {kind}; name another file", path.display());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let layers = records
            .enumerate()
            .map(|(i, record)| {
                let layer: FinishedLayer = serde_json::from_str(record).map_err(|error| {
                    let message =
                        format!("'{}' is damaged in line {}: {error}", path.display(), i + 2);
                    Error::new(ErrorKind::Malformed, message)
                })?;
                Ok((layer.key, layer))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { journal, layers })
    }

    fn append(&mut self, layer: &FinishedLayer) -> Result<(), Error> {
        if self.journal.complete == 0 && self.journal.file.is_none() {
            self.journal.append(&json(&Header::new()))?;
        }
        self.journal.append(&json(layer))
    }
}

impl FinishedLayers for LayerJournal {
    fn find(&self, key: u64) -> Option<FinishedLayer> {
        self.layers.get(&key).cloned()
    }

    fn keep(&mut self, layer: FinishedLayer) -> Result<(), campana_quantize::Error> {
        self.append(&layer).map_err(|error| {
            campana_quantize::Error::new(
                campana_quantize::ErrorKind::Io,
                "a finished layer cannot be kept",
            )
            .with_source(error)
        })
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<String>, Error> {
        Ok(Journal::read(path, "journal")?.records)
    }

    fn written(path: &Path) -> Vec<u8> {
        let mut journal = Journal::read(path, "journal").unwrap();
        for record in ["{\"top1\":0.5}", "{\"top1\":0.75}"] {
            journal.append(record).unwrap();
        }
        std::fs::read(path).unwrap()
    }

    #[test]
    fn records_come_back_and_new_ones_follow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        written(&path);
        written(&path);
        let two = ["{\"top1\":0.5}", "{\"top1\":0.75}"];
        assert_eq!(read(&path).unwrap(), [two, two].concat());
    }

    #[test]
    fn a_line_that_was_cut_off_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let whole = written(&path);
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for cut in first + BEFORE_CHECKSUM.len()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::read(&path, "journal").unwrap();
            assert_eq!(journal.records().len(), 1, "{cut} bytes");
            journal.append("{\"top1\":0.75}").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let whole = written(&path);
        for position in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[position] = changed[position].wrapping_add(1);
            std::fs::write(&path, &changed).unwrap();
            assert!(read(&path).is_err(), "byte {position}");
        }
        let text = String::from_utf8(whole).unwrap().replace("0.75", "7.5");
        std::fs::write(&path, text).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(
            message.contains("line 2 does not fit its checksum"),
            "{message}"
        );
    }

    #[test]
    fn lines_are_json() {
        let folder = tempfile::tempdir().unwrap();
        let text = String::from_utf8(written(&folder.path().join("journal"))).unwrap();
        for (line, top1) in text.lines().zip([0.5, 0.75]) {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["record"]["top1"], top1);
        }
    }

    #[test]
    fn another_file_is_no_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        for text in ["method,bits\nks,4\n", "short", "{}\n"] {
            std::fs::write(&path, text).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains("is no journal"), "{message}");
        }
    }
}
