//! What the lines of a test run say.

/// Counts of tests, and what was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    /// Names of tests that failed.
    pub(crate) failures: Vec<String>,
    /// What tests did not check, once each, and how often they said so.
    pub(crate) skipped: Vec<(String, usize)>,
}

impl Transcript {
    /// Takes note of a line: a harness's results, or `SKIPPED: ...`.
    pub(crate) fn note(&mut self, line: &str, is_harness: bool) {
        if let Some((_, what)) = line.split_once("SKIPPED: ") {
            match self.skipped.iter_mut().find(|(known, _)| known == what) {
                Some((_, count)) => *count += 1,
                None => self.skipped.push((what.to_owned(), 1)),
            }
        }
        if !is_harness {
            return;
        }
        if let Some(results) = line.strip_prefix("test result: ") {
            self.passed += count(results, "passed");
            self.failed += count(results, "failed");
            self.ignored += count(results, "ignored");
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some(name) = test.strip_suffix(" ... FAILED")
        {
            self.failures.push(name.to_owned());
        }
    }
}

/// The number before a word: 12 of `ok. 12 passed; 0 failed`.
fn count(results: &str, word: &str) -> usize {
    let parts = results.split([';', '.']).map(str::trim);
    let mut counts = parts.filter_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    counts.next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_the_harness_are_summed() {
        let mut transcript = Transcript::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s",
            "test a::b ... FAILED",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "SKIPPED: no peers",
            "test x ... SKIPPED: no peers",
        ] {
            transcript.note(line, true);
        }
        let expected = Transcript {
            passed: 15,
            failed: 1,
            ignored: 1,
            failures: vec!["a::b".to_owned()],
            skipped: vec![("no peers".to_owned(), 2)],
        };
        assert_eq!(transcript, expected);
        let mut other = Transcript::default();
        other.note("test result: ok. 12 passed; 0 failed", false);
        assert_eq!(other, Transcript::default());
    }
}
