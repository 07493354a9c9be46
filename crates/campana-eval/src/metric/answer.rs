//! What a network answers: the order of its classes and their probabilities.

use std::cmp::Ordering;

/// The better score first; NaN after every number.
fn better_first(left: f32, right: f32) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (false, false) => right.partial_cmp(&left).unwrap_or(Ordering::Equal),
        (left_nan, right_nan) => left_nan.cmp(&right_nan),
    }
}

/// The index of the greatest score, the lowest of those that tie, `None` of no scores.
///
/// NaN is below every number, so that a network that yields some is still ranked; of scores that
/// are all NaN the index is 0.
#[must_use]
pub fn argmax(scores: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate().skip(1) {
        if better_first(*score, scores[best]).is_lt() {
            best = index;
        }
    }
    (!scores.is_empty()).then_some(best)
}

/// The indices of the `count` greatest scores, greatest first, the lower index first where scores
/// tie; fewer when there are fewer scores. NaN comes last.
#[must_use]
pub fn top(scores: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score = |left: &usize, right: &usize| {
        better_first(scores[*left], scores[*right]).then(left.cmp(right))
    };
    if count < order.len() {
        order.select_nth_unstable_by(count, by_score);
        order.truncate(count);
    }
    order.sort_unstable_by(by_score);
    order
}

/// Whether `label` is among the first `count` of [`top`], found without ordering the scores.
///
/// False when `label` is no index of `scores`.
#[must_use]
pub fn in_top(scores: &[f32], label: usize, count: usize) -> bool {
    let Some(own) = scores.get(label) else {
        return false;
    };
    let ahead = scores
        .iter()
        .enumerate()
        .filter(|(index, score)| better_first(**score, *own).then(index.cmp(&label)).is_lt())
        .count();
    ahead < count
}

/// The probabilities `exp(x_i) / sum_j exp(x_j)`, computed in `f64` from the greatest down, so that
/// no finite score overflows.
///
/// Scores of +infinity share the probability equally; of scores that are all -infinity, every class
/// has the same. NaN anywhere makes every probability NaN.
#[must_use]
pub fn softmax(scores: &[f32]) -> Vec<f32> {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = scores
        .iter()
        .map(|score| {
            if score == &greatest {
                1.0
            } else {
                (f64::from(*score) - f64::from(greatest)).exp()
            }
        })
        .collect();
    let total: f64 = exponentials.iter().sum();
    exponentials
        .iter()
        .map(|exponential| (exponential / total) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rounding of one f32 division per class.
    const MAX_PROBABILITY_SUM_ERROR: f32 = 1e-5;

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(top(&[1.0, 3.0, 3.0, 2.0], 3), [1, 2, 3]);
        assert!(in_top(&[1.0, 1.0, 1.0], 0, 1));
        assert!(!in_top(&[1.0, 1.0, 1.0], 1, 1));
    }

    #[test]
    fn nan_is_below_every_number() {
        let scores = [f32::NAN, f32::NEG_INFINITY, f32::NAN, 0.0];
        assert_eq!(argmax(&scores), Some(3));
        assert_eq!(top(&scores, 9), [3, 1, 0, 2]);
        assert!(!in_top(&scores, 0, 2));
        assert_eq!(argmax(&[f32::NAN, f32::NAN]), Some(0));
    }

    #[test]
    fn no_scores_have_no_answer() {
        assert_eq!(argmax(&[]), None);
        assert!(top(&[], 5).is_empty());
        assert!(!in_top(&[], 0, 5));
        assert!(softmax(&[]).is_empty());
    }

    #[test]
    fn a_label_beyond_the_scores_is_never_right() {
        assert!(!in_top(&[1.0, 2.0], 2, 5));
    }

    #[test]
    fn softmax_survives_great_and_infinite_scores() {
        assert_eq!(softmax(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(softmax(&[f32::MAX, f32::MIN]), [1.0, 0.0]);
        assert_eq!(
            softmax(&[f32::INFINITY, 0.0, f32::INFINITY]),
            [0.5, 0.0, 0.5]
        );
        assert_eq!(softmax(&[f32::NEG_INFINITY; 2]), [0.5, 0.5]);
        assert!(softmax(&[f32::NAN, 0.0]).iter().all(|p| p.is_nan()));
    }

    fn reference_top(scores: &[f32], count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|left, right| better_first(scores[*left], scores[*right]));
        order.truncate(count);
        order
    }

    proptest! {
        #[test]
        fn top_argmax_and_in_top_agree(
            scores in prop::collection::vec((-4i8..4).prop_map(f32::from), 1..40),
            count in 0usize..12,
        ) {
            let best = reference_top(&scores, count);
            prop_assert_eq!(&top(&scores, count), &best);
            prop_assert_eq!(argmax(&scores), reference_top(&scores, 1).first().copied());
            for label in 0..scores.len() {
                prop_assert_eq!(in_top(&scores, label, count), best.contains(&label));
            }
        }

        #[test]
        fn probabilities_sum_to_one(scores in prop::collection::vec(-90f32..90.0, 1..40)) {
            let sum: f32 = softmax(&scores).iter().sum();
            prop_assert!((sum - 1.0).abs() < MAX_PROBABILITY_SUM_ERROR);
        }
    }
}
