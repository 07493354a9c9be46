//! Tables that fit the terminal: names are shortened in their middle, and then
//! columns left out in an order that each table states.

use std::fmt;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};

/// Lines above, below and under the header only.
const STYLE: TableStyle = UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());

/// Names stay this long as long as there are columns to leave out.
const MIN_NAME: usize = 20;

/// Names are never shorter.
const MIN_SHORTENED: usize = 8;

/// Spaces around and between columns: one before and behind each, one between.
const COLUMN_SPACES: usize = 3;

/// Rows of text and numbers.
pub(crate) struct Table {
    head: Vec<String>,
    /// Columns of text; those behind are numbers.
    text: usize,
    dispensable: &'static [&'static str],
    rows: Vec<Vec<String>>,
    room: Option<usize>,
}

/// What of a table is shown.
struct Fit {
    columns: Vec<usize>,
    /// Of every column, also of those that are not shown.
    widths: Vec<usize>,
}

impl Table {
    /// A table whose first columns are text and whose last are numbers, in so
    /// many characters where there is a limit.
    pub(crate) fn new(text: &[&str], numbers: &[&str], room: Option<usize>) -> Self {
        Self {
            head: text
                .iter()
                .chain(numbers)
                .map(|name| (*name).to_owned())
                .collect(),
            text: text.len(),
            dispensable: &[],
            rows: Vec::new(),
            room,
        }
    }

    /// Columns that may be left out, the first first.
    pub(crate) fn dispensable(mut self, columns: &'static [&'static str]) -> Self {
        self.dispensable = columns;
        self
    }

    pub(crate) fn add_row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn fit(&self) -> Fit {
        let len = |text: &String| text.chars().count();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells
                    .chain([&self.head[column]])
                    .map(len)
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut columns: Vec<usize> = (0..self.head.len()).collect();
        let Some(room) = self.room else {
            return Fit { columns, widths };
        };
        let mut order = self.dispensable.iter();
        loop {
            let next = order.next();
            let least = if next.is_some() {
                MIN_NAME
            } else {
                MIN_SHORTENED
            };
            let shortened = self.shortened(&columns, &widths, room, least);
            match (shortened, next) {
                (Ok(widths), _) | (Err(widths), None) => return Fit { columns, widths },
                (Err(_), Some(name)) => columns.retain(|&column| self.head[column] != *name),
            }
        }
    }

    /// Widths that fit, the widest names shortened first, down to `least`;
    /// those of names as short as that where they do not.
    fn shortened(
        &self,
        columns: &[usize],
        widths: &[usize],
        room: usize,
        least: usize,
    ) -> Result<Vec<usize>, Vec<usize>> {
        let mut widths = widths.to_vec();
        let total = |widths: &[usize]| {
            let cells: usize = columns
                .iter()
                .map(|&column| widths[column] + COLUMN_SPACES)
                .sum();
            cells.saturating_sub(1)
        };
        while total(&widths) > room {
            let names = columns.iter().filter(|&&column| column < self.text);
            let widest = names.max_by_key(|&&column| widths[column]);
            match widest {
                Some(&column) if widths[column] > least.max(self.head[column].chars().count()) => {
                    widths[column] -= 1;
                }
                _ => return Err(widths),
            }
        }
        Ok(widths)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fit = self.fit();
        let cells = |row: &[String]| -> Vec<String> {
            let cells = fit
                .columns
                .iter()
                .filter_map(|&column| Some(shortened(row.get(column)?, fit.widths[column])));
            cells.collect()
        };
        let mut table = comfy_table::Table::new();
        table.load_style(STYLE);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(cells(&self.head));
        let text = fit
            .columns
            .iter()
            .filter(|&&column| column < self.text)
            .count();
        for column in table.column_iter_mut().skip(text) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in &self.rows {
            table.add_row(cells(row));
        }
        write!(f, "{table}")?;
        let left_out: Vec<&str> = (0..self.head.len())
            .filter(|column| !fit.columns.contains(column))
            .map(|column| self.head[column].as_str())
            .collect();
        if left_out.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "\nNot shown in this width: {} (--wide shows all)",
            left_out.join(", ")
        )
    }
}

/// A name in at most so many characters, its beginning and end kept.
fn shortened(name: &str, width: usize) -> String {
    let len = name.chars().count();
    if len <= width {
        return name.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let start: String = name.chars().take(head).collect();
    let end: String = name.chars().skip(len - tail).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(room: Option<usize>) -> Table {
        let mut table = Table::new(&["tensor", "op"], &["bits", "bytes", "SQNR dB"], room)
            .dispensable(&["SQNR dB", "op"]);
        let name = "backbone.stage3.block2.second.conv.weight";
        for (name, op) in [(name, "Conv"), ("head.weight", "Gemm")] {
            table.add_row([name, op, "4", "1,024", "20.1"].map(str::to_owned).to_vec());
        }
        table
    }

    fn width(text: &str) -> usize {
        let lines = text.lines().filter(|line| !line.starts_with("Not shown"));
        lines
            .map(|line| line.trim_end().chars().count())
            .max()
            .unwrap()
    }

    #[test]
    fn without_a_limit_all_is_shown() {
        for room in [None, Some(200)] {
            let text = table(room).to_string();
            assert!(
                text.contains("backbone.stage3.block2.second.conv.weight"),
                "{text}"
            );
            assert!(
                text.contains("SQNR dB") && !text.contains("--wide"),
                "{text}"
            );
        }
    }

    #[test]
    fn names_are_shortened_before_columns_go() {
        let text = table(Some(60)).to_string();
        assert!(text.contains("backbone") && text.contains("…") && text.contains("conv.weight"));
        assert!(text.contains("SQNR dB") && width(&text) <= 60, "{text}");
        let text = table(Some(44)).to_string();
        assert!(width(&text) <= 44, "{text}");
        assert!(
            text.ends_with("Not shown in this width: SQNR dB (--wide shows all)"),
            "{text}"
        );
        let text = table(Some(38)).to_string();
        assert!(text.contains("op, SQNR dB (--wide"), "{text}");
    }

    #[test]
    fn the_least_is_shown_in_any_width() {
        let text = table(Some(5)).to_string();
        assert!(
            text.contains("back…ght") && text.contains("1,024"),
            "{text}"
        );
    }
}
