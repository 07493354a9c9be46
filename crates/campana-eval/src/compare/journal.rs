//! Finished rows as lines of JSON: an interrupted comparison goes on from them,
//! and those of several machines become one table.

use serde::{Deserialize, Serialize};

use super::{CompareRow, CompareTable, ExperimentKey};
use crate::Error;

/// What a comparison left: the first record is what all belongs to, those
/// behind it are tables and rows.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareJournal {
    /// What the rows were measured on.
    pub key: ExperimentKey,
    /// What the last run was to fill; `None` where it ended before it was known.
    pub table: Option<CompareTable>,
    /// The rows that are finished, in the order in which they were.
    pub rows: Vec<CompareRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Record<T, R> {
    Table(T),
    Row(R),
}

impl CompareJournal {
    /// A journal without rows.
    pub fn new(key: ExperimentKey) -> Self {
        Self {
            key,
            table: None,
            rows: Vec::new(),
        }
    }

    /// The first record.
    pub fn first_record(&self) -> String {
        json(&self.key)
    }

    /// The record of a table that is to be filled.
    pub fn table_record(table: &CompareTable) -> String {
        json(&Record::<_, ()>::Table(table))
    }

    /// The record of a row.
    pub fn row_record(row: &CompareRow) -> String {
        json(&Record::<(), _>::Row(row))
    }

    /// What is in the records of a journal; `None` where there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] where a record is none of a comparison.
    pub fn read(records: &[String]) -> Result<Option<Self>, Error> {
        let Some((first, rest)) = records.split_first() else {
            return Ok(None);
        };
        let key = serde_json::from_str(first).map_err(|_| {
            mismatch(
                "a file that campana compare left",
                "another kind of file".to_owned(),
            )
        })?;
        let mut journal = Self::new(key);
        for (index, record) in rest.iter().enumerate() {
            let record = serde_json::from_str(record).map_err(|error| {
                mismatch(
                    "a result in each line",
                    format!("in line {}: {error}", index + 2),
                )
            })?;
            match record {
                Record::Table(table) => journal.table = Some(table),
                Record::Row(row) => journal.rows.push(row),
            }
        }
        Ok(Some(journal))
    }

    /// Refuses rows that were measured on something else.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] where model, images, limits or version are others.
    pub fn check_key(&self, key: &ExperimentKey) -> Result<(), Error> {
        match key.difference(&self.key) {
            None => Ok(()),
            Some(difference) => Err(mismatch(
                "results of this model on these images by this version",
                format!("those measured {difference}"),
            )),
        }
    }
}

fn mismatch(expected: &str, found: String) -> Error {
    Error::Argument {
        name: "journal",
        expected: expected.to_owned(),
        found,
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values have a JSON form")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::row;
    use super::*;

    pub(in crate::compare) fn table(rows: &[CompareRow]) -> CompareTable {
        CompareTable {
            model: "net.onnx".to_owned(),
            data: "images".to_owned(),
            images: 10,
            skipped: Vec::new(),
            reference_top1: Some(0.1 + 0.2),
            cells: rows.iter().map(CompareRow::cell).collect(),
        }
    }

    fn rows() -> [CompareRow; 2] {
        [row("ks", 2, 50, Some(0.1)), row("kmeans", 4, 90, None)]
    }

    fn written() -> Vec<String> {
        let first = CompareJournal::new(ExperimentKey::new(7, 8, 9)).first_record();
        let table = CompareJournal::table_record(&table(&rows()));
        let rows = rows();
        let rows = rows.iter().map(CompareJournal::row_record);
        [first, table].into_iter().chain(rows).collect()
    }

    #[test]
    fn a_journal_gives_back_what_was_written() {
        let journal = CompareJournal::read(&written()).unwrap().unwrap();
        assert_eq!(journal.rows, rows());
        assert_eq!(journal.table, Some(table(&rows())));
        journal.check_key(&ExperimentKey::new(7, 8, 9)).unwrap();
        assert_eq!(CompareJournal::read(&[]).unwrap(), None);
    }

    #[test]
    fn every_float_comes_back_as_it_was() {
        let mut state = 1u64;
        for _ in 0..10_000 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let mut row = row("ks", 2, 50, None);
            row.mse = (state >> 11) as f64 * 1e-20;
            let records = [written()[0].clone(), CompareJournal::row_record(&row)];
            let journal = CompareJournal::read(&records).unwrap().unwrap();
            assert_eq!(journal.rows[0].mse.to_bits(), row.mse.to_bits());
        }
    }

    #[test]
    fn records_of_something_else_are_refused() {
        for (from, to, said) in [
            (
                "{\"campana_compare\"",
                "method,bits",
                "another kind of file",
            ),
            (
                "\"bits\":2,\"granularity\":\"tensor\",\"mse\"",
                "\"bits\":300",
                "line 3",
            ),
            ("{\"row\"", "{\"column\"", "line 3"),
        ] {
            let records: Vec<_> = written().iter().map(|r| r.replace(from, to)).collect();
            let message = CompareJournal::read(&records).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn rows_of_something_else_are_refused() {
        let journal = CompareJournal::read(&written()).unwrap().unwrap();
        let mut calibrated = ExperimentKey::new(7, 8, 9);
        calibrated.set_calibration(1);
        for (key, said) in [
            (ExperimentKey::new(1, 8, 9), "another model"),
            (ExperimentKey::new(7, 1, 9), "other images"),
            (ExperimentKey::new(7, 8, 1), "rounds differently"),
            (calibrated, "calibration"),
        ] {
            let message = journal.check_key(&key).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
        let other = written()[0].replace(env!("CARGO_PKG_VERSION"), "0.0.1");
        let other = CompareJournal::read(&[other]).unwrap().unwrap();
        let message = other.check_key(&journal.key).unwrap_err().to_string();
        assert!(message.contains("by version 0.0.1"), "{message}");
    }
}
