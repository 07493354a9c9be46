//! `campana merge`: one table of the rows that several machines measured.

use anyhow::{Context as _, Result};
use campana_eval::{CompareJournal, merge_journals};
use campana_pipeline::{CommandFiles, Journal};

use super::compared::{self, JOURNAL, Outputs};
use crate::args::{Global, Merge};
use crate::progress::Bar;

pub(crate) fn run(args: &Merge, global: &Global) -> Result<()> {
    let mut files = CommandFiles::new();
    for rows in &args.rows {
        files = files.input("the rows", rows.as_path());
    }
    files
        .output("the CSV file", args.csv.as_deref())
        .output("the page", args.html.as_deref())
        .output("the tables", args.markdown.as_deref())
        .check()?;
    let paths = [&args.csv, &args.html, &args.markdown].map(Option::as_deref);
    let monitor = Bar::new();
    let outputs = Outputs::create(paths, args.force, global, &monitor)?;
    let mut journals = Vec::new();
    for path in &args.rows {
        let name = path.display().to_string();
        let cannot = || format!("cannot use the rows '{name}'");
        std::fs::metadata(path).with_context(cannot)?;
        let journal = Journal::read(path, JOURNAL)?;
        // A share that ended before it had anything to keep.
        if let Some(journal) = CompareJournal::read(journal.records()).with_context(cannot)? {
            journals.push((name, journal));
        }
    }
    let (table, rows) = merge_journals(&journals).context("cannot merge")?;
    compared::show(table, rows, outputs, global)
}
