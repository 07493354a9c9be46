//! Which cells of a table are measured where, when several machines share them.

use std::fmt;
use std::str::FromStr;

/// One of several shares of a table's cells: `I/N` on the command line.
///
/// ```
/// use campana_eval::Shard;
///
/// let shards: Vec<Shard> = (1..=3).map(|i| format!("{i}/3").parse().unwrap()).collect();
/// for position in 0..100 {
///     assert_eq!(shards.iter().filter(|shard| shard.takes(position)).count(), 1);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    index: usize,
    count: usize,
}

impl Shard {
    /// The only share, which has all cells.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether the cell at this position of the table is in the share.
    ///
    /// Of each run of `count` cells every share has one, one further in each
    /// run: a table is periodic in its methods, and no share shall have the
    /// slow one at every width.
    pub fn takes(self, position: usize) -> bool {
        let turn = position / self.count;
        (position + turn) % self.count == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            let (index, count): (usize, usize) = (index.parse().ok()?, count.parse().ok()?);
            (1..=count).contains(&index).then_some((index, count))
        });
        let Some((index, count)) = parts else {
            return Err("expected I/N with I from 1 to N, for example 2/7".to_owned());
        };
        Ok(Self {
            index: index - 1,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_equal_size_and_meet_every_method() {
        // Seven methods at four widths, as a table has them.
        for count in [1, 2, 3, 4, 7] {
            for index in 0..count {
                let shard = Shard { index, count };
                let own: Vec<usize> = (0..28).filter(|&at| shard.takes(at)).collect();
                assert!(own.len().abs_diff(28 / count) <= 1, "{shard:?}: {own:?}");
                let slow = own.iter().filter(|&&at| at % 7 == 6).count();
                assert!(slow <= 4usize.div_ceil(count) + 1, "{shard:?}: {own:?}");
            }
        }
    }

    #[test]
    fn other_texts_are_no_shard() {
        for text in ["0/3", "4/3", "1", "1/0", "a/b", "1/2/3", "-1/2", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert_eq!("1/1".parse(), Ok(Shard::WHOLE));
    }
}
