//! How long to learn, and what came of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Most steps of a time.
pub(super) const MOST_STEPS: u32 = 100_000;

/// How long to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistillBudget {
    /// So many steps: the same result on every machine.
    Steps(u32),
    /// As many steps as fit into this time on this machine.
    Time(Duration),
}

/// Units of a time, with their seconds.
const UNITS: [(char, u64); 3] = [('s', 1), ('m', 60), ('h', 3600)];

impl FromStr for DistillBudget {
    type Err = String;

    /// From a number of steps, or a time: `300`, `90s`, `5m`, `1h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let advice =
            || "use a number of steps or a time, for example 300, 90s, 5m or 1h".to_owned();
        let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
        let digits = &text[..text.len() - usize::from(unit.is_some())];
        let count: u32 = digits.parse().map_err(|_| advice())?;
        match unit {
            _ if count == 0 => Err(advice()),
            Some((_, seconds)) => Ok(Self::Time(Duration::from_secs(u64::from(count) * seconds))),
            None if count <= MOST_STEPS => Ok(Self::Steps(count)),
            None => Err(format!("use at most {MOST_STEPS} steps")),
        }
    }
}

impl fmt::Display for DistillBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

/// What distillation did.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DistillReport {
    /// Steps that were taken.
    pub steps: u32,
    /// The step whose state is kept; 0 for the state before.
    pub kept_step: u32,
    /// Samples that were learned from.
    pub samples: usize,
    /// Samples that judged; 0 where there were too few to hold any back, and all
    /// judged.
    pub held_back: usize,
    /// Numbers that were learned.
    pub parameters: usize,
    /// The mean divergence on the samples that judged, before.
    pub divergence_before: f64,
    /// The same of what is kept.
    pub divergence_after: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_steps_or_times() {
        for (text, budget) in [
            ("300", DistillBudget::Steps(300)),
            ("90s", DistillBudget::Time(Duration::from_secs(90))),
            ("5m", DistillBudget::Time(Duration::from_secs(300))),
            ("1h", DistillBudget::Time(Duration::from_secs(3600))),
        ] {
            assert_eq!(text.parse(), Ok(budget));
            assert_eq!(budget.to_string().parse(), Ok(budget));
        }
        for text in ["", "0", "m", "-3", "1.5h", "10 min", "1000000"] {
            assert!(text.parse::<DistillBudget>().is_err(), "{text}");
        }
    }
}
