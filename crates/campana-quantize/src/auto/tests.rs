use super::*;

const SHAPE: [usize; 2] = [2048, 1024];

/// A large tensor: rows of their own spread, or of their own shape.
fn weights(spread: impl Fn(usize) -> f32, power: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut state = 7u64;
    let mut uniform = move || {
        // xorshift64*, Vigna 2016.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        bits as f32 / (1 << 24) as f32 - 0.5
    };
    (0..SHAPE[0])
        .flat_map(|row| {
            let (spread, power) = (spread(row), power(row));
            let mut weight = || {
                let sum: f32 = (0..4).map(|_| uniform()).sum();
                spread * sum.signum() * sum.abs().powf(power)
            };
            (0..SHAPE[1]).map(|_| weight()).collect::<Vec<_>>()
        })
        .collect()
}

/// What choosing on some channels may lose of the least cost.
const MAX_EXCESS: f64 = 0.01;

#[test]
fn a_large_tensor_gets_the_design_that_it_would_get_in_full() {
    let alike = weights(|_| 0.1, |_| 1.0);
    let spread = weights(|row| 0.01 * (1 + row % 9) as f32, |_| 1.0);
    let shaped = weights(|_| 0.1, |row| [0.3, 3.0][row % 2]);
    let prices = Prices::new(1, SHAPE[0] * SHAPE[1]).with_corrected_mean();
    for (weights, has_own) in [(alike, false), (spread, false), (shaped, true)] {
        let full = Subject::new(
            &weights,
            &SHAPE,
            Some(0),
            Granularity::PerChannel,
            16,
            Tables::Any,
        );
        let (design, in_full) = full.best(prices);
        assert_eq!(design == Design::Own, has_own, "{design:?}");
        let stored = best_design(
            &weights,
            &SHAPE,
            Some(0),
            Granularity::PerChannel,
            16,
            prices,
            Tables::Any,
        );
        let energy: f64 = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
        let cost = |stored: &Stored| {
            let bytes = decoded_len_bytes(&stored.tensor, "") as f64;
            stored.squared_error / energy + prices.byte(16) * bytes
        };
        assert!(
            cost(&stored) <= cost(&in_full) * (1.0 + MAX_EXCESS),
            "{design:?}: {} {}",
            cost(&stored),
            cost(&in_full)
        );
    }
}

#[test]
fn stored_integers_have_a_scale_for_each_channel() {
    let shape = [16, 72];
    let weights = &weights(|row| 0.1 * (1 + row % 2) as f32, |_| 3.0)[..16 * 72];
    let prices = Prices::new(1, weights.len()).with_corrected_mean();
    let design = |tables| {
        let per_channel = Granularity::PerChannel;
        let subject = Subject::new(weights, &shape, Some(0), per_channel, 256, tables);
        subject.best(prices).0
    };
    // 256 levels fit all channels at once, as long as they are floats.
    assert_eq!(design(Tables::Any), Design::Whole);
    let scaled = Design::Shared(GroupParameters::Scale);
    assert_eq!(design(Tables::Scaled), scaled);
}

#[test]
fn channels_beside_a_loud_one_keep_integers_of_their_own() {
    let shape = [64, 1, 3, 3];
    let spread = |row| if row == 5 { 30.0 } else { 0.1 };
    let rows = weights(|_| 1.0, |_| 1.0);
    let weights: Vec<f32> = (0..64 * 9).map(|i| spread(i / 9) * rows[i]).collect();
    let prices = Prices::new(20, 20_000).with_corrected_mean();
    let stored = |prices| {
        let per_channel = Granularity::PerChannel;
        let mut tensor = best_design(
            &weights,
            &shape,
            Some(0),
            per_channel,
            256,
            prices,
            Tables::Any,
        )
        .tensor;
        round_to_integers(&mut tensor, 64.0);
        tensor.dequantize()
    };
    let quiet = |decoded: &[f32]| {
        let rows = decoded.chunks_exact(9);
        rows.filter(|row| row.iter().all(|&weight| weight == 0.0))
            .count()
    };
    assert_eq!(quiet(&stored(prices.on_integers(64.0))), 0);
    assert_eq!(quiet(&stored(prices)), 63);
}
