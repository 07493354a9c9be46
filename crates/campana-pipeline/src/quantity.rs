//! Sizes and shares as people write them.

/// Bytes, from a number and a unit: `250kB`, `3.5MiB`.
///
/// # Errors
///
/// What to write instead, where it is none or less than one byte.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor = match text[digits.len()..].trim() {
        "B" => 1.0,
        "" => return Err("use a number and a unit, for example 250kB or 3.5MiB".to_owned()),
        "k" | "kB" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        unit => return Err(format!("'{unit}' is no unit: use B, kB, MB, KiB or MiB")),
    };
    match digits.parse::<f64>() {
        Ok(size) if size > 0.0 && size * factor >= 1.0 && size.is_finite() => {
            Ok((size * factor) as u64)
        }
        _ => Err("use a number and a unit, for example 250kB or 3.5MiB".to_owned()),
    }
}

/// A share from 0 to 1, from a percentage: `1%`.
///
/// # Errors
///
/// What to write instead, where it is none or not from 0 to 100.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').map(|number| number.trim().parse());
    match percent {
        Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("use a percentage, for example 1% or 0.5%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("250kB", 250_000),
            ("3.5MB", 3_500_000),
            ("2 MiB", 2 << 20),
            ("1KiB", 1024),
            ("1234B", 1234),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "60", "3.5", "kB", "-3kB", "3 bits", "0MB", "infMB", "nan",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn drops_are_percentages() {
        assert_eq!(parse_percent("1%"), Ok(0.01));
        assert_eq!(parse_percent("0.5 %"), Ok(0.005));
        for text in ["1", "0.01", "-1%", "101%", "%", "nan%"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
