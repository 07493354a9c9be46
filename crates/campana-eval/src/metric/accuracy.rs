//! How often a network is right, and how sure that is.

use super::answer::{argmax, in_top};

/// The 97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals.
const NORMAL_QUANTILE_975: f64 = 1.959_963_984_540_054;

/// An interval of fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end, at least 0.
    pub low: f64,
    /// The upper end, at most 1.
    pub high: f64,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proportion {
    /// How many were right, at most `total`.
    pub right: u64,
    /// How many were counted.
    pub total: u64,
}

impl Proportion {
    /// The fraction of 1, `None` of nothing.
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        (self.total > 0).then(|| self.right as f64 / self.total as f64)
    }

    /// Wilson's score interval at 95 %; the whole of 0 to 1 of nothing.
    ///
    /// It says how far the fraction may be from that of the population which the pictures were
    /// drawn from. Two models on the same pictures differ by less than two such intervals suggest:
    /// compare those by their agreement.
    ///
    /// # References
    ///
    /// E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    /// J. Am. Stat. Assoc. 22 (1927), doi:10.1080/01621459.1927.10502953.
    #[must_use]
    pub fn wilson_95(&self) -> Interval {
        if self.total == 0 {
            return Interval {
                low: 0.0,
                high: 1.0,
            };
        }
        let total = self.total as f64;
        let fraction = self.right as f64 / total;
        let z2 = NORMAL_QUANTILE_975 * NORMAL_QUANTILE_975;
        let scale = 1.0 / (1.0 + z2 / total);
        let center = scale * (fraction + z2 / (2.0 * total));
        let half_width = scale
            * NORMAL_QUANTILE_975
            * (fraction * (1.0 - fraction) / total + z2 / (4.0 * total * total)).sqrt();
        // At the ends the two terms are equal but for rounding.
        Interval {
            low: if self.right == 0 {
                0.0
            } else {
                (center - half_width).max(0.0)
            },
            high: if self.right == self.total {
                1.0
            } else {
                (center + half_width).min(1.0)
            },
        }
    }

    fn count(&mut self, right: bool) {
        self.right += u64::from(right);
        self.total += 1;
    }

    fn merge(&mut self, other: Self) {
        self.right += other.right;
        self.total += other.total;
    }
}

/// A running count of a model's right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccuracyTally {
    images: u64,
    top1: Proportion,
    top5: Proportion,
    agreement: Proportion,
}

impl AccuracyTally {
    /// A count of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one picture: the scores of its classes, its label where it is known, and the class
    /// that the reference model answered where there is one.
    ///
    /// Scores that tie are ranked by index; see [`argmax`].
    pub fn add(&mut self, scores: &[f32], label: Option<usize>, reference: Option<usize>) {
        self.images += 1;
        if let Some(label) = label {
            self.top1.count(in_top(scores, label, 1));
            self.top5.count(in_top(scores, label, 5));
        }
        if let Some(reference) = reference {
            self.agreement.count(argmax(scores) == Some(reference));
        }
    }

    /// Adds the count of other pictures.
    pub fn merge(&mut self, other: &Self) {
        self.images += other.images;
        self.top1.merge(other.top1);
        self.top5.merge(other.top5);
        self.agreement.merge(other.agreement);
    }

    /// How many pictures were counted, with or without a label.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.images
    }

    /// How often the label had the greatest score.
    #[must_use]
    pub fn top1(&self) -> Proportion {
        self.top1
    }

    /// How often the label was among the five greatest scores.
    #[must_use]
    pub fn top5(&self) -> Proportion {
        self.top5
    }

    /// How often the answer was that of the reference model.
    #[must_use]
    pub fn agreement(&self) -> Proportion {
        self.agreement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the interval's ends against published values of as many digits.
    const MAX_INTERVAL_ERROR: f64 = 1e-9;

    #[test]
    fn wilson_interval_equals_an_independent_solution() {
        // statsmodels.stats.proportion.proportion_confint(right, total, 0.05, "wilson"), 0.15
        struct Case {
            right: u64,
            total: u64,
            low: f64,
            high: f64,
        }
        let cases = [
            Case {
                right: 9173,
                total: 10_000,
                low: 0.911_740_121_686_308_6,
                high: 0.922_539_393_273_524_6,
            },
            Case {
                right: 0,
                total: 10,
                low: 0.0,
                high: 0.277_532_799_862_889_26,
            },
            Case {
                right: 10,
                total: 10,
                low: 0.722_467_200_137_110_6,
                high: 1.0,
            },
            Case {
                right: 1,
                total: 3,
                low: 0.061_491_944_720_396_26,
                high: 0.792_340_399_197_952_3,
            },
        ];
        for case in cases {
            let proportion = Proportion {
                right: case.right,
                total: case.total,
            };
            let interval = proportion.wilson_95();
            assert!(
                (interval.low - case.low).abs() < MAX_INTERVAL_ERROR,
                "{interval:?}"
            );
            assert!(
                (interval.high - case.high).abs() < MAX_INTERVAL_ERROR,
                "{interval:?}"
            );
        }
    }

    #[test]
    fn of_nothing_there_is_no_fraction() {
        let nothing = Proportion::default();
        assert_eq!(nothing.fraction(), None);
        assert_eq!(
            nothing.wilson_95(),
            Interval {
                low: 0.0,
                high: 1.0
            }
        );
    }

    #[test]
    fn labels_and_reference_are_counted_apart() {
        let mut tally = AccuracyTally::new();
        tally.add(&[0.0, 1.0, 0.5], Some(1), Some(1));
        tally.add(&[0.0, 1.0, 0.5], Some(2), None);
        tally.add(&[0.0, 1.0, 0.5], None, Some(0));
        let proportion = |right, total| Proportion { right, total };
        assert_eq!(tally.images(), 3);
        assert_eq!(tally.top1(), proportion(1, 2));
        assert_eq!(tally.top5(), proportion(2, 2));
        assert_eq!(tally.agreement(), proportion(1, 2));

        let mut twice = tally;
        twice.merge(&tally);
        assert_eq!(twice.images(), 6);
        assert_eq!(twice.top1(), proportion(2, 4));
        assert_eq!(twice.agreement(), proportion(2, 4));
    }
}
