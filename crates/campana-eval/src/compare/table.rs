//! The table that a comparison fills, and its cells.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a row of the table is asked about: one way to quantize.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CompareCell {
    /// The method's name, and `+free` or `+calibrated` where it is corrected.
    pub method: String,
    /// Bits of a code.
    pub bits: u8,
    /// `tensor`, `channel` or `group=N`.
    pub granularity: String,
}

impl fmt::Display for CompareCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            bits,
            granularity,
        } = self;
        write!(f, "{method}, {bits} bits, per {granularity}")
    }
}

/// All that is known of a comparison before its rows are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompareTable {
    /// File of the float model.
    pub model: String,
    /// File or folder of the images.
    pub data: String,
    /// Images that every design sees.
    pub images: u64,
    /// Images that could not be read.
    pub skipped: Vec<String>,
    /// Share of the float model's right answers, 0 to 1; `None` without labels.
    pub reference_top1: Option<f64>,
    /// The rows that it will have, in their order.
    pub cells: Vec<CompareCell>,
}
