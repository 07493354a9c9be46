//! How many threads a job may have.

use std::num::NonZeroUsize;

/// The most threads that a job takes: more than any machine's cores are of no
/// use, and systems refuse them in ways of their own.
pub const MAX_THREADS: usize = 1024;

/// A number of threads, if a job can have so many.
///
/// # Errors
///
/// What to give instead, where it is not from 1 to [`MAX_THREADS`].
pub fn check_threads(threads: i64) -> Result<NonZeroUsize, String> {
    usize::try_from(threads)
        .ok()
        .filter(|&threads| threads <= MAX_THREADS)
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| {
            format!("threads must be a whole number from 1 to {MAX_THREADS}, not {threads}")
        })
}

/// A number of threads from text.
///
/// # Errors
///
/// As [`check_threads`], and where it is no number.
pub fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text.parse().map_err(|_| {
        format!("threads must be a whole number from 1 to {MAX_THREADS}, not '{text}'")
    })?;
    check_threads(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_1_to_the_maximum() {
        for threads in ["1", "7", "1024"] {
            assert_eq!(parse_threads(threads).unwrap().to_string(), threads);
        }
        for threads in [
            "0",
            "-1",
            "1025",
            "100000",
            "many",
            "",
            "99999999999999999999",
        ] {
            let error = parse_threads(threads).unwrap_err();
            assert!(
                error.contains("1 to 1024") && error.contains(threads),
                "{error}"
            );
        }
    }
}
