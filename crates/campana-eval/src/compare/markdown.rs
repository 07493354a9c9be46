//! The comparison as tables for a document.

use super::{CompareRow, pareto_front};

/// The rows as Markdown: a table for each granularity, each under a heading,
/// with the Pareto front over all of them in bold.
pub fn compare_markdown(rows: &[CompareRow]) -> String {
    let front = pareto_front(rows);
    let mut granularities: Vec<&str> = Vec::new();
    for row in rows {
        if !granularities.contains(&row.granularity.as_str()) {
            granularities.push(&row.granularity);
        }
    }
    let share =
        |value: Option<f64>| value.map_or_else(String::new, |v| format!("{:.2}", 100.0 * v));
    let mut text = String::new();
    for granularity in granularities {
        text.push_str(&format!(
            "### Per {granularity}\n\n\
             | method | bits | MSE | SQNR dB | bits a weight | bytes | top-1 % | agreement % |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        ));
        let own = rows.iter().zip(&front);
        for (row, &on_front) in own.filter(|(row, _)| row.granularity == granularity) {
            let top1 = share(row.top1);
            let top1 = if on_front {
                format!("**{top1}**")
            } else {
                top1
            };
            let sqnr = row
                .sqnr_db
                .map_or_else(String::new, |db| format!("{db:.2}"));
            text.push_str(&format!(
                "| {} | {} | {:.3e} | {sqnr} | {:.2} | {} | {top1} | {} |\n",
                row.method,
                row.bits,
                row.mse,
                row.bits_per_weight,
                row.output_bytes,
                share(row.agreement),
            ));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::row;

    #[test]
    fn each_granularity_has_a_table_with_the_front_in_bold() {
        let mut other = row("mse", 2, 60, Some(0.4));
        other.granularity = "channel".into();
        let text = compare_markdown(&[row("ks", 4, 50, Some(0.5)), other]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "### Per tensor");
        assert_eq!(
            lines[4],
            "| ks | 4 | 1.500e-5 | 20.00 | 4.10 | 50 | **50.00** | 50.00 |"
        );
        assert_eq!(lines[6], "### Per channel");
        assert!(lines[10].ends_with("| 60 | 40.00 | 40.00 |"), "{text}");
        assert_eq!(lines.len(), 11);
    }
}
