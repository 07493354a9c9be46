//! What codes cost an entropy coder.

/// Bits of each code under their own frequencies; codes that do not occur
/// cost as if half of one did.
pub fn code_bits(codes: impl Iterator<Item = u8>, levels: usize) -> Vec<f32> {
    let mut counts = vec![0.5f64; levels];
    for code in codes {
        counts[usize::from(code)] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    counts
        .into_iter()
        .map(|count| (total / count).log2() as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rarer_codes_cost_more_and_missing_ones_most() {
        let codes = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1];
        let bits = code_bits(codes.into_iter(), 4);
        assert!(bits[0] < bits[1] && bits[1] < bits[2], "{bits:?}");
        assert_eq!(bits[2], bits[3]);
        let share: f32 = bits.iter().map(|bits| (-bits).exp2()).sum();
        assert!((share - 1.0).abs() < 1e-6, "{share}");
    }
}
