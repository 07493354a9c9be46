//! The rows of several machines as one table.

use std::collections::HashMap;

use super::{CompareCell, CompareJournal, CompareRow, CompareTable};
use crate::Error;

/// Cells that a message names; those beyond are counted.
const MAX_NAMED_CELLS: usize = 5;

/// The table that the journals fill together, and its rows in order, the same
/// whatever cells each journal has. Where files are is told by the first. Each
/// journal goes with its name.
///
/// # Errors
///
/// [`Error::Argument`] where journals are of different experiments or tables, a
/// cell has two results that differ, or none.
pub fn merge_journals(
    journals: &[(String, CompareJournal)],
) -> Result<(CompareTable, Vec<CompareRow>), Error> {
    let Some((first_name, first)) = journals.first() else {
        return Err(mismatch("a journal of campana compare", "none".to_owned()));
    };
    let mut table: Option<&CompareTable> = None;
    let mut found: HashMap<CompareCell, (&str, &CompareRow)> = HashMap::new();
    for (name, journal) in journals {
        let other = |words: String| {
            let expected = format!("results of the comparison in '{first_name}'");
            Err(mismatch(&expected, format!("in '{name}' those {words}")))
        };
        if let Some(difference) = first.key.difference(&journal.key) {
            return other(format!("measured {difference}"));
        }
        match (&journal.table, table) {
            (Some(own), Some(table)) if own.cells != table.cells => {
                return other("of a table of other methods, bits or granularities".to_owned());
            }
            (Some(own), None) => table = Some(own),
            _ => {}
        }
        for row in &journal.rows {
            if let Some((before, known)) = found.insert(row.cell(), (name, row))
                && known != row
            {
                return Err(mismatch(
                    &format!("one result for {}", row.cell()),
                    format!("different ones in '{before}' and '{name}'"),
                ));
            }
        }
    }
    let Some(table) = table else {
        let found = "runs that ended before their table was known".to_owned();
        return Err(mismatch("results", found));
    };
    Ok((table.clone(), in_order(table, &found)?))
}

/// The rows in the table's order, or the cells that have none.
fn in_order(
    table: &CompareTable,
    found: &HashMap<CompareCell, (&str, &CompareRow)>,
) -> Result<Vec<CompareRow>, Error> {
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for cell in &table.cells {
        match found.get(cell) {
            Some((_, row)) => rows.push((*row).clone()),
            None => missing.push(cell.to_string()),
        }
    }
    if missing.is_empty() {
        return Ok(rows);
    }
    let named = missing[..missing.len().min(MAX_NAMED_CELLS)].join("; ");
    let beyond = match missing.len().saturating_sub(MAX_NAMED_CELLS) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Err(mismatch(
        &format!("a result for each of {} cells", table.cells.len()),
        format!("none for {}: {named}{beyond}", missing.len()),
    ))
}

fn mismatch(expected: &str, found: String) -> Error {
    Error::Argument {
        name: "rows",
        expected: expected.to_owned(),
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ExperimentKey;
    use super::super::journal::tests::table;
    use super::super::tests::row;
    use super::*;

    fn rows() -> Vec<CompareRow> {
        let methods = ["ks", "kmeans", "auto"];
        let rows = methods.map(|method| [2, 4, 8].map(|bits| row(method, bits, 50, Some(0.5))));
        rows.into_iter().flatten().collect()
    }

    fn journal(rows: &[CompareRow]) -> (String, CompareJournal) {
        let mut journal = CompareJournal::new(ExperimentKey::new(1, 2, 3));
        journal.table = Some(table(&self::rows()));
        journal.rows = rows.to_vec();
        (format!("rows-{}", rows.len()), journal)
    }

    #[test]
    fn shares_in_any_order_are_the_whole_table() {
        let all = rows();
        let (first, last) = all.split_at(4);
        let mut last = last.to_vec();
        last.reverse();
        // One cell in both, with the same result.
        last.push(all[0].clone());
        for journals in [
            vec![journal(&all)],
            vec![journal(first), journal(&last)],
            vec![journal(&last), journal(first), journal(&[])],
        ] {
            let (merged, rows) = merge_journals(&journals).unwrap();
            assert_eq!(rows, all);
            assert_eq!(merged, table(&all));
        }
    }

    fn refused(journals: &[(String, CompareJournal)], said: &str) {
        let message = merge_journals(journals).unwrap_err().to_string();
        assert!(message.contains(said), "{message}");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let all = rows();
        refused(&[], "none");
        let mut other = journal(&all[..1]);
        other.1.key = ExperimentKey::new(9, 2, 3);
        refused(
            &[journal(&all), other],
            "in 'rows-1' those measured with another model",
        );
        let mut other = journal(&all[..1]);
        other.1.table = Some(table(&all[1..]));
        refused(&[journal(&all), other], "other methods");
        let mut other = journal(&all[..1]);
        other.1.rows[0].mse *= 2.0;
        refused(
            &[journal(&all), other],
            "different ones in 'rows-9' and 'rows-1'",
        );
        let mut other = journal(&[]);
        other.1.table = None;
        refused(&[other], "ended before");
    }

    #[test]
    fn missing_cells_are_named() {
        let all = rows();
        refused(
            &[journal(&all[..7])],
            "none for 2: auto, 4 bits, per tensor; auto, 8 bits, per tensor",
        );
        refused(&[journal(&all[..1])], "and 3 more");
    }
}
