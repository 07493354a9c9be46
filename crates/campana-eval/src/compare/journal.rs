//! Finished rows as lines of JSON, so that an interrupted comparison can go on.

use serde::{Deserialize, Serialize};

use super::CompareRow;
use crate::Error;

/// The first line of a journal: what its rows belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareJournal {
    /// Version that measured the rows: designs may differ between versions.
    campana_compare: String,
    /// [`Experiment::fingerprint`](super::Experiment::fingerprint) in
    /// hexadecimal digits: JSON's numbers do not hold 64 bits everywhere.
    fingerprint: String,
}

impl CompareJournal {
    /// The journal of an experiment with this fingerprint.
    pub fn new(fingerprint: u64) -> Self {
        Self {
            campana_compare: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: format!("{fingerprint:016x}"),
        }
    }

    /// The first line, with its end.
    pub fn first_line(&self) -> String {
        line(self)
    }

    /// The line of a row, with its end.
    pub fn row_line(row: &CompareRow) -> String {
        line(row)
    }

    /// The rows of a journal and the length of its complete lines: a last
    /// line without an end was interrupted and does not count.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] where the text is no journal, or that of another
    /// model, version, dataset or limit.
    pub fn read(&self, text: &str) -> Result<(Vec<CompareRow>, usize), Error> {
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..complete].lines().enumerate();
        let Some((_, first)) = lines.next() else {
            return Ok((Vec::new(), 0));
        };
        let mismatch = |expected: &str, found: String| Error::Argument {
            name: "journal",
            expected: expected.to_owned(),
            found,
        };
        let found: Self = serde_json::from_str(first).map_err(|_| {
            mismatch(
                "a file that an earlier comparison left",
                "another kind of file".to_owned(),
            )
        })?;
        if found != *self {
            return Err(mismatch(
                "results of this model on these images by this version",
                format!(
                    "others (fingerprint {} of version {}, not {} of {})",
                    found.fingerprint,
                    found.campana_compare,
                    self.fingerprint,
                    self.campana_compare
                ),
            ));
        }
        let rows = lines.map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                mismatch(
                    "a result in each line",
                    format!("in line {}: {error}", index + 1),
                )
            })
        });
        Ok((rows.collect::<Result<_, _>>()?, complete))
    }
}

fn line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("plain values have a JSON form");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    fn written() -> String {
        let rows = [row("ks", 2, 50, Some(0.1)), row("kmeans", 4, 90, None)];
        let lines: String = rows.iter().map(CompareJournal::row_line).collect();
        CompareJournal::new(7).first_line() + &lines
    }

    #[test]
    fn a_journal_gives_its_rows_back() {
        let text = written();
        let (rows, len) = CompareJournal::new(7).read(&text).unwrap();
        assert_eq!(len, text.len());
        assert_eq!(
            rows,
            [row("ks", 2, 50, Some(0.1)), row("kmeans", 4, 90, None)]
        );
        assert_eq!(CompareJournal::new(7).read("").unwrap(), (Vec::new(), 0));
    }

    #[test]
    fn an_interrupted_line_does_not_count() {
        let text = written();
        for cut in 1..20 {
            let (rows, len) = CompareJournal::new(7)
                .read(&text[..text.len() - cut])
                .unwrap();
            assert_eq!(rows.len(), 1);
            assert!(text[..len].ends_with('\n'));
        }
    }

    #[test]
    fn a_journal_of_something_else_is_refused() {
        let broken = written().replace("\"bits\":2", "\"bits\":300");
        for (text, said) in [
            (written().replace("0007", "0008"), "fingerprint"),
            ("method,bits\n".to_owned(), "another kind of file"),
            (broken, "line 2"),
        ] {
            let message = CompareJournal::new(7).read(&text).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }
}
