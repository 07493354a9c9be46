//! Files of lines that grow while a long job runs, so that an interrupted one
//! can go on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use campana_calibrate::{FinishedLayer, FinishedLayers};
use serde::{Deserialize, Serialize};

use crate::error::Context;
use crate::{Error, ErrorKind};

/// A file to which lines are appended.
#[derive(Debug)]
pub struct Journal {
    file: File,
    name: String,
}

impl Journal {
    /// What an earlier job left; nothing where there is no such file.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read as text.
    pub fn read(path: &Path) -> Result<String, Error> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.context(|| format!("cannot use the journal '{}'", path.display())),
        }
    }

    /// Goes on behind the first `kept` bytes, the complete lines; what was cut
    /// off behind them gives way to new ones. A new file gets its first line,
    /// which is given with its end.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn go_on(path: &Path, kept: usize, first_line: &str) -> Result<Self, Error> {
        let open = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)?;
            file.set_len(kept as u64)?;
            file.seek(SeekFrom::End(0))?;
            if kept == 0 {
                file.write_all(first_line.as_bytes())?;
            }
            Ok::<File, io::Error>(file)
        };
        let name = path.display().to_string();
        Ok(Self {
            file: open().context(|| format!("cannot use the journal '{name}'"))?,
            name,
        })
    }

    /// Appends a line, which is given with its end.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn append(&mut self, line: &str) -> Result<(), Error> {
        self.file
            .write_all(line.as_bytes())
            .context(|| format!("cannot write the journal '{}'", self.name))
    }

    /// Where it is.
    pub fn name(&self) -> &str {
        &self.name
    }
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

/// Layers that corrections finished, in a journal. The file is written to when
/// the first new layer is finished, and not before.
pub(crate) struct LayerJournal {
    path: PathBuf,
    /// Bytes of complete lines that were there.
    complete: usize,
    journal: Option<Journal>,
    layers: HashMap<u64, FinishedLayer>,
}

impl LayerJournal {
    /// The layers that earlier corrections left.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = Journal::read(path)?;
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..complete].lines();
        let is_ours = match lines.next() {
            Some(first) => {
                serde_json::from_str(first).is_ok_and(|found: Header| found == Header::new())
            }
            None => text.is_empty(),
        };
        if !is_ours {
            let message = format!(
                "'{}' is no journal of layers that this version of campana quantize left; name another file",
                path.display()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let layers = lines
            .enumerate()
            .map(|(i, line)| {
                let layer: FinishedLayer = serde_json::from_str(line).map_err(|error| {
                    let message =
                        format!("'{}' is damaged in line {}: {error}", path.display(), i + 2);
                    Error::new(ErrorKind::Malformed, message)
                })?;
                Ok((layer.key, layer))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            path: path.to_owned(),
            complete,
            journal: None,
            layers,
        })
    }

    fn append(&mut self, layer: &FinishedLayer) -> Result<(), Error> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            journal => {
                let first_line = line(&Header::new());
                journal.insert(Journal::go_on(&self.path, self.complete, &first_line)?)
            }
        };
        journal.append(&line(layer))
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

fn line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("plain values have a JSON form");
    line.push('\n');
    line
}
