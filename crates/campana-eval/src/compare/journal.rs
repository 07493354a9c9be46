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

    /// The first record.
    pub fn first_record(&self) -> String {
        record(self)
    }

    /// The record of a row.
    pub fn row_record(row: &CompareRow) -> String {
        record(row)
    }

    /// The rows in the records of a journal.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] where they are no rows, or those of another model,
    /// version, dataset or limit.
    pub fn rows(&self, records: &[String]) -> Result<Vec<CompareRow>, Error> {
        let Some((first, rows)) = records.split_first() else {
            return Ok(Vec::new());
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
        let row = |(index, row): (usize, &String)| {
            serde_json::from_str(row).map_err(|error| {
                mismatch(
                    "a result in each line",
                    format!("in line {}: {error}", index + 2),
                )
            })
        };
        rows.iter().enumerate().map(row).collect()
    }
}

fn record(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    fn written() -> Vec<String> {
        let rows = [row("ks", 2, 50, Some(0.1)), row("kmeans", 4, 90, None)];
        let rows = rows.iter().map(CompareJournal::row_record);
        [CompareJournal::new(7).first_record()]
            .into_iter()
            .chain(rows)
            .collect()
    }

    #[test]
    fn a_journal_gives_its_rows_back() {
        let rows = CompareJournal::new(7).rows(&written()).unwrap();
        assert_eq!(
            rows,
            [row("ks", 2, 50, Some(0.1)), row("kmeans", 4, 90, None)]
        );
        assert_eq!(CompareJournal::new(7).rows(&[]).unwrap(), []);
    }

    #[test]
    fn a_journal_of_something_else_is_refused() {
        let changed = |from: &str, to: &str| -> Vec<String> {
            let records = written();
            records.iter().map(|r| r.replace(from, to)).collect()
        };
        for (records, said) in [
            (changed("0007", "0008"), "fingerprint"),
            (vec!["method,bits".to_owned()], "another kind of file"),
            (changed("\"bits\":2", "\"bits\":300"), "line 2"),
        ] {
            let message = CompareJournal::new(7).rows(&records).unwrap_err();
            assert!(message.to_string().contains(said), "{message}");
        }
    }
}
