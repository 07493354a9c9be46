//! What all pages share: the document around the content, escaping, and how
//! numbers are written.

use std::fmt::{self, Write as _};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Between a number and its unit, which stay on one line.
const SPACE: char = '\u{a0}';

/// What stands for a number that does not exist.
const NOTHING: &str = "–";

/// A whole document around `body`, which is markup; `title` is text.
pub(super) fn document(title: &str, body: &str) -> String {
    let mut page = String::with_capacity(body.len() + STYLE.len() + SCRIPT.len() + 2048);
    let _ = write!(
        page,
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<link rel="icon" href="data:," />
<title>{title} · campana</title>
<style>
{STYLE}</style>
</head>
<body>
{body}
<footer>Made by campana {version}. This page is a single file and loads nothing from a network.</footer>
<script>
{SCRIPT}</script>
</body>
</html>
"#,
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
    );
    page
}

/// The head of a page: which command made it, and a title; `lead` is markup.
pub(super) fn header(command: &str, title: &str, lead: &str) -> String {
    format!(
        r#"<header class="top">
<p class="brand"><svg viewBox="0 0 32 16" aria-hidden="true"><path d="M1 15C9 15 11 2 16 2S23 15 31 15" /></svg> campana {command}</p>
<h1><bdi>{title}</bdi></h1>
<p class="lead">{lead}</p>
</header>"#,
        command = escape(command),
        title = escape(title),
    )
}

/// A number that stands out, with what it is; all three are markup.
pub(super) fn tile(value: &str, name: &str, note: &str) -> String {
    format!("<div class=\"tile\"><dt>{name}</dt><dd><b>{value}</b><span>{note}</span></dd></div>\n")
}

/// A table of models: names of the columns with figures, and for each model its
/// name as text and its figures.
pub(super) fn models_table(columns: &[&str], rows: &[(&str, Vec<String>)]) -> String {
    let head: String = columns
        .iter()
        .map(|column| format!("<th scope=\"col\">{column}</th>"))
        .collect();
    let body: String = rows
        .iter()
        .map(|(name, cells)| {
            let cells: String = cells
                .iter()
                .map(|cell| format!("<td>{cell}</td>"))
                .collect();
            format!(
                "<tr><th scope=\"row\" class=\"text\"><bdi>{}</bdi></th>{cells}</tr>\n",
                escape(name)
            )
        })
        .collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Models\" tabindex=\"0\"><table>\n\
         <thead><tr><th scope=\"col\" class=\"text\">Model</th>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table></div>\n"
    )
}

/// What the words of a page mean, a term and a sentence of markup each.
pub(super) fn glossary(terms: &[(&str, impl fmt::Display)]) -> String {
    let terms: String = terms
        .iter()
        .map(|(term, text)| format!("<div><dt>{term}</dt><dd>{text}</dd></div>\n"))
        .collect();
    format!(
        "<details class=\"glossary\" open=\"\"><summary>How to read this page</summary>\n<dl>\n{terms}</dl>\n</details>\n"
    )
}

/// A heading that sorts its column when it is clicked.
pub(super) fn sort_button(name: &str, class: &str, title: &str) -> String {
    let title = if title.is_empty() {
        String::new()
    } else {
        format!(" title=\"{}\"", escape(title))
    };
    format!(
        "<th scope=\"col\" class=\"{class}\"><button type=\"button\"{title}>{name}</button></th>\n"
    )
}

/// A cell that sorts by its number; one that does not exist sorts last.
pub(super) fn number_cell(value: f64, text: String) -> String {
    let key = if value.is_nan() {
        String::new()
    } else if value.is_infinite() {
        // As the script reads it.
        "Infinity".to_owned()
    } else {
        format!("{value}")
    };
    format!("<td data-v=\"{key}\">{text}</td>")
}

/// A heading with the switch between both vertical scales of the pictures.
pub(super) fn scale_switch(heading: &str) -> String {
    format!(
        "<div class=\"bar-head\"><h2>{heading}</h2>\n<fieldset><legend>Vertical scale</legend>\
         <label><input type=\"radio\" name=\"scale\" id=\"linear\" checked=\"\" /><span>linear</span></label>\
         <label><input type=\"radio\" name=\"scale\" id=\"logarithmic\" /><span>logarithmic (tails)</span></label>\
         </fieldset></div>\n"
    )
}

/// The part of a path after the last separator: pages are passed on, and the
/// folders of whoever made them are nobody's business.
pub(super) fn file_name(path: &str) -> &str {
    let name = path.trim_end_matches(['/', '\\']);
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Text as it may stand in markup, in an attribute's value too.
///
/// Control characters, which no markup may hold, become U+FFFD. Directional
/// overrides stay: put names into `<bdi>`, which confines them.
pub(super) fn escape(text: &str) -> impl fmt::Display {
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number with a comma before each group of three digits.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 tensor`, `2 tensors`.
pub(super) fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", thousands(number))
}

/// A length in the decimal unit that leaves three digits: `46.1 kB`.
pub(super) fn bytes(len: u64) -> String {
    let mut value = len as f64;
    if value < 1000.0 {
        return plural(len, "byte");
    }
    let mut unit = "bytes";
    for next in ["kB", "MB", "GB", "TB"] {
        // What would be rounded to 1000 takes the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{}{SPACE}{unit}", significant(value, 3))
}

/// A number with so many significant digits, in powers of ten where it is
/// very small or large.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounding may carry to a further digit, so its result tells the exponent.
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("the format writes an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..6).contains(&exponent) {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        minus(&format!("{value:.decimals$}"))
    } else {
        minus(&format!("{mantissa}e{exponent}"))
    }
}

/// A number with so many decimals.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() {
        minus(&format!("{value:.decimals$}"))
    } else {
        NOTHING.to_owned()
    }
}

/// A share of 1 in percent: `14.2 %`, `0.52 %`, `0.0031 %`.
pub(super) fn percent(share: f64) -> String {
    let value = 100.0 * share;
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        ..0.005 => significant(value, 2),
        ..0.995 => fixed(value, 2),
        _ => fixed(value, 1),
    };
    format!("{text}{SPACE}%")
}

/// An SQNR in dB without its unit; without any error it is infinite.
pub(super) fn decibels(value: f64) -> String {
    if value == f64::INFINITY {
        "exact".to_owned()
    } else {
        fixed(value, 1)
    }
}

/// What an SQNR in dB means: the size of the error beside that of the weights.
pub(super) fn relative_error(sqnr_db: f64) -> f64 {
    10f64.powf(-sqnr_db / 20.0)
}

/// Extents as `64×32×3×3`.
pub(super) fn shape(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    let dims: Vec<_> = dims.iter().map(ToString::to_string).collect();
    dims.join("×")
}

/// A family's name as it begins a sentence.
pub(super) fn capitalized(name: &str) -> String {
    let mut chars = name.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The sign that is as wide as a digit, and none before a zero.
pub(super) fn minus(number: &str) -> String {
    match number.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|b| matches!(b, b'0' | b'.')) => digits.to_owned(),
        Some(digits) => format!("\u{2212}{digits}"),
        None => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_are_escaped() {
        let text = "a<b>&\"'\u{0}\u{1b}\u{ffff}\u{202e}é";
        assert_eq!(
            escape(text).to_string(),
            "a&lt;b&gt;&amp;&quot;&#39;\u{fffd}\u{fffd}\u{fffd}\u{202e}é"
        );
    }

    #[test]
    fn numbers_keep_their_digits_and_never_say_nan() {
        let cases = [
            (significant(0.0523456, 3), "0.0523"),
            (significant(-0.0523456, 3), "−0.0523"),
            (significant(9.999, 3), "10.0"),
            (significant(123_456.0, 3), "123456"),
            (significant(1.5e-9, 3), "1.50e-9"),
            (significant(-2e30, 2), "−2.0e30"),
            (significant(f64::NAN, 3), "–"),
            (fixed(-0.001, 1), "0.0"),
            (fixed(f64::NEG_INFINITY, 1), "–"),
            (percent(0.1417), "14.2\u{a0}%"),
            (percent(0.00021), "0.02\u{a0}%"),
            (percent(0.000_021), "0.0021\u{a0}%"),
            (percent(0.00996), "1.0\u{a0}%"),
            (percent(0.0), "0\u{a0}%"),
            (decibels(f64::INFINITY), "exact"),
            (decibels(20.22), "20.2"),
            (bytes(1), "1 byte"),
            (bytes(999), "999 bytes"),
            (bytes(46_123), "46.1\u{a0}kB"),
            (bytes(999_700), "1.00\u{a0}MB"),
            (thousands(0), "0"),
            (thousands(999), "999"),
            (thousands(1000), "1,000"),
            (thousands(1_234_567), "1,234,567"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn file_names_lose_their_folders() {
        for path in [
            "/home/me/net.onnx",
            "C:\\me\\net.onnx",
            "net.onnx",
            "x/net.onnx/",
        ] {
            assert_eq!(file_name(path), "net.onnx");
        }
        assert_eq!(file_name(""), "");
    }
}
