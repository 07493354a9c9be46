//! How long a network takes, and how sure that is.

use serde::{Deserialize, Serialize};

/// A time that 95 % of the runs stay within is no longer that of the network
/// alone where it is so many times the fastest: something else ran too.
const UNSTEADY_RATIO: f64 = 1.5;

/// Times of equal runs, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median time of a run.
    pub median_ms: f64,
    /// Times between which the middle half of the runs lies.
    pub quartiles_ms: [f64; 2],
    /// Time that 95 % of the runs stay within.
    pub p95_ms: f64,
    /// Time of the fastest run.
    pub min_ms: f64,
}

impl Latency {
    /// Of some runs, in any order; all NaN where there are none.
    ///
    /// ```
    /// use campana_eval::Latency;
    ///
    /// let latency = Latency::of(&[5.0, 1.0, 2.0, 3.0, 4.0]);
    /// assert_eq!(latency.median_ms, 3.0);
    /// assert_eq!(latency.quartiles_ms, [2.0, 4.0]);
    /// assert_eq!((latency.min_ms, latency.p95_ms), (1.0, 5.0));
    /// ```
    pub fn of(times_ms: &[f64]) -> Self {
        let mut times = times_ms.to_vec();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = times.len().saturating_sub(1) as f64;
            times
                .get((last * share).round() as usize)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            median_ms: at(0.5),
            quartiles_ms: [at(0.25), at(0.75)],
            p95_ms: at(0.95),
            min_ms: at(0.0),
        }
    }

    /// Whether nothing can be said of which is faster: the middle halves of the
    /// runs of both overlap.
    pub fn is_about(&self, other: &Self) -> bool {
        let [low, high] = self.quartiles_ms;
        let [other_low, other_high] = other.quartiles_ms;
        low <= other_high && other_low <= high
    }

    /// Whether the times vary so much that something else ran too.
    pub fn is_unsteady(&self) -> bool {
        self.p95_ms > UNSTEADY_RATIO * self.min_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_overlap_are_about_the_same() {
        let of = |times: [f64; 5]| Latency::of(&times);
        let slow = of([9.0, 10.0, 11.0, 12.0, 13.0]);
        assert!(slow.is_about(&of([8.0, 9.5, 10.0, 10.5, 30.0])));
        assert!(!slow.is_about(&of([8.0, 8.5, 9.0, 9.5, 30.0])));
        assert!(slow.is_about(&slow));
    }

    #[test]
    fn far_outliers_are_told() {
        assert!(!Latency::of(&[1.0, 1.1, 1.2, 1.3]).is_unsteady());
        assert!(Latency::of(&[1.0, 1.0, 1.0, 1.6]).is_unsteady());
        assert!(Latency::of(&[]).median_ms.is_nan());
        assert!(!Latency::of(&[]).is_unsteady());
    }
}
