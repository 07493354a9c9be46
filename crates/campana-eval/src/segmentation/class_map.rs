//! The class of each pixel, from a network's output.

use campana_tensor::{Tensor, TensorData};

use crate::Output;

/// Classes of an image's pixels, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClassMap {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) classes: Vec<u16>,
    /// How many classes there are scores for; `None` where the output has class numbers.
    pub(super) class_count: Option<usize>,
}

impl ClassMap {
    /// The likeliest class of each pixel of one image of `size` (rows, columns).
    ///
    /// Floats `[1, C, H, W]` or `[1, H, W, C]` are scores; the class axis is the one without which
    /// the extents have the proportions of `size`, the first of both where each would do. One score
    /// a pixel tells class 1 from class 0: above one half where all are probabilities, else above
    /// 0. Integers `[1, H, W]`, with or without an axis of one, are class numbers. `None` for any
    /// other output.
    pub(super) fn of_output(output: &Tensor, size: [usize; 2]) -> Option<Self> {
        match output.data() {
            TensorData::F32(scores) => Self::of_scores(output.shape(), scores, size),
            _ => Self::of_numbers(Output::new("", output.clone())?),
        }
    }

    fn of_scores(shape: &[usize], scores: &[f32], size: [usize; 2]) -> Option<Self> {
        let is_map = |height: usize, width: usize| height * size[1] == width * size[0];
        let (height, width, count, is_last) = match *shape {
            [1, count, height, width] if is_map(height, width) => (height, width, count, false),
            [1, height, width, count] if is_map(height, width) => (height, width, count, true),
            [1, height, width] if is_map(height, width) => (height, width, 1, false),
            _ => return None,
        };
        let pixels = height * width;
        if count == 0 || pixels == 0 || count > usize::from(u16::MAX) {
            return None;
        }
        let classes = if count == 1 {
            let are_probabilities = scores.iter().all(|score| (0.0..=1.0).contains(score));
            let threshold = if are_probabilities { 0.5 } else { 0.0 };
            scores
                .iter()
                .map(|&score| u16::from(score > threshold))
                .collect()
        } else {
            let [class_step, pixel_step] = if is_last { [1, count] } else { [pixels, 1] };
            let score =
                |pixel: usize, class: usize| scores[class * class_step + pixel * pixel_step];
            (0..pixels)
                .map(|pixel| {
                    let better = |best, class| {
                        if score(pixel, class) > score(pixel, best) {
                            class
                        } else {
                            best
                        }
                    };
                    (1..count).fold(0, better) as u16
                })
                .collect()
        };
        Some(Self {
            height,
            width,
            classes,
            class_count: Some(count.max(2)),
        })
    }

    fn of_numbers(output: Output) -> Option<Self> {
        let extents: Vec<usize> = match *output.shape.as_slice() {
            [1, 1, height, width]
            | [1, height, width, 1]
            | [1, height, width]
            | [height, width] => {
                vec![height, width]
            }
            _ => return None,
        };
        let is_class = |value: &f32| (0.0..=f32::from(u16::MAX)).contains(value);
        if output.is_float || !output.values.iter().all(is_class) {
            return None;
        }
        Some(Self {
            height: extents[0],
            width: extents[1],
            classes: output.values.iter().map(|&value| value as u16).collect(),
            class_count: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(shape: &[usize], scores: &[f32], size: [usize; 2]) -> Option<ClassMap> {
        let tensor = Tensor::new(shape.to_vec(), TensorData::F32(scores.to_vec())).unwrap();
        ClassMap::of_output(&tensor, size)
    }

    #[test]
    fn scores_are_read_in_both_layouts() {
        // Two pixels beside each other, three classes: 2 and 0.
        let first = [0.1, 0.9, 0.2, 0.3, 0.7, 0.4];
        let last = [0.1, 0.2, 0.7, 0.9, 0.3, 0.4];
        let planes = map(&[1, 3, 1, 2], &first, [8, 16]).unwrap();
        assert_eq!(planes.classes, [2, 0]);
        assert_eq!(planes.class_count, Some(3));
        let pixels = map(&[1, 1, 2, 3], &last, [8, 16]).unwrap();
        assert_eq!(pixels, planes);
    }

    #[test]
    fn one_score_tells_two_classes_apart() {
        let probabilities = map(&[1, 1, 1, 2], &[0.4, 0.6], [1, 2]).unwrap();
        assert_eq!(probabilities.classes, [0, 1]);
        let logits = map(&[1, 1, 1, 2], &[-0.4, 1.6], [1, 2]).unwrap();
        assert_eq!(logits.classes, [0, 1]);
    }

    #[test]
    fn integers_are_class_numbers() {
        let data = TensorData::I64(vec![3, 0]);
        let tensor = Tensor::new(vec![1, 1, 2], data).unwrap();
        let map = ClassMap::of_output(&tensor, [1, 2]).unwrap();
        assert_eq!((map.classes, map.class_count), (vec![3, 0], None));
    }

    #[test]
    fn lists_of_scores_are_no_map() {
        assert_eq!(map(&[1, 6], &[0.0; 6], [8, 16]), None);
        assert_eq!(map(&[1, 1, 2, 3], &[0.0; 6], [5, 7]), None);
    }
}
