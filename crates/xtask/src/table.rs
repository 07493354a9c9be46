//! The table that a task ends with.

use std::time::Duration;

use crate::step::{Outcome, Step};

/// A step that ran.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) step: &'a Step,
    pub(crate) outcome: Outcome,
    pub(crate) time: Duration,
}

/// What came of each step and how long it took, then what failed and what was
/// skipped, and why.
pub(crate) fn of(rows: &[Row<'_>]) -> String {
    let widths = rows.iter().map(|row| row.step.name.len());
    let width = widths.max().unwrap_or(0);
    let mut lines = vec![format!(
        "{:width$}  {:8}{:>8}{:>8}{:>8}{:>9}",
        "", "", "min:s", "passed", "failed", "skipped"
    )];
    let mut details = Vec::new();
    for Row {
        step,
        outcome,
        time,
    } in rows
    {
        let (word, transcript, reason) = match outcome {
            Outcome::Passed(transcript) => ("ok", Some(transcript), None),
            Outcome::Failed(transcript, reason) => ("FAILED", Some(transcript), Some(reason)),
            Outcome::Skipped(reason) => ("skipped", None, Some(reason)),
        };
        let counts = transcript.filter(|found| found.passed + found.failed > 0);
        let counts = counts.map(|found| {
            let skipped: usize = found.skipped.iter().map(|(_, count)| count).sum();
            format!(
                "{:>8}{:>8}{:>9}",
                found.passed,
                found.failed,
                skipped + found.ignored
            )
        });
        let seconds = time.as_secs();
        let line = format!(
            "{:width$}  {word:8}{:>5}:{:02}{}",
            step.name,
            seconds / 60,
            seconds % 60,
            counts.unwrap_or_default()
        );
        lines.push(line.trim_end().to_owned());
        details.extend(reason.map(|reason| format!("{} {word}: {reason}", step.name)));
        for name in transcript.iter().flat_map(|found| &found.failures) {
            details.push(format!("failed: {name}"));
        }
        for (what, count) in transcript.iter().flat_map(|found| &found.skipped) {
            let times = if *count > 1 {
                format!(" ({count} times)")
            } else {
                String::new()
            };
            details.push(format!("skipped: {what}{times}"));
        }
        let ignored = transcript.map_or(0, |found| found.ignored);
        if ignored > 0 {
            details.push(format!(
                "skipped: {ignored} long tests, run by -- --ignored"
            ));
        }
    }
    lines.extend(details);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Transcript;

    #[test]
    fn every_step_has_a_row_and_every_reason_a_line() {
        let (tests, page) = (Step::new("tests", "cargo", []), Step::new("page", "x", []));
        let transcript = Transcript {
            passed: 7,
            skipped: vec![("no peers".to_owned(), 2)],
            ..Transcript::default()
        };
        let row = |step, outcome, seconds| Row {
            step,
            outcome,
            time: Duration::from_secs(seconds),
        };
        let table = of(&[
            row(&tests, Outcome::Passed(transcript), 754),
            row(&page, Outcome::Skipped("no browser".to_owned()), 0),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["tests", "ok", "12:34", "7", "0", "2"]
        );
        assert!(lines[2].starts_with("page   skipped"), "{table}");
        assert_eq!(
            lines[3..],
            ["skipped: no peers (2 times)", "page skipped: no browser"]
        );
    }
}
