//! Pixels by class: intersection over union.

use crate::Proportion;

/// The value of a mask's pixel that counts for no class.
pub(super) const VOID: u16 = 255;

/// Pixels of each class, over all images.
#[derive(Clone, Debug, Default)]
pub struct SegmentationTally {
    /// For each class: labelled and found as it, labelled as it, found as it.
    classes: Vec<[u64; 3]>,
    agreement: Proportion,
}

impl SegmentationTally {
    /// Adds an image; pixels labelled 255 (void) count nothing.
    pub(super) fn add(&mut self, found: &[u16], labels: &[u16]) {
        for (&found, &label) in found.iter().zip(labels) {
            if label == VOID {
                continue;
            }
            let (found, label) = (usize::from(found), usize::from(label));
            let needed = found.max(label) + 1;
            if self.classes.len() < needed {
                self.classes.resize(needed, [0; 3]);
            }
            self.classes[label][0] += u64::from(found == label);
            self.classes[label][1] += 1;
            self.classes[found][2] += 1;
        }
    }

    /// Adds an image's pixels beside those of a reference.
    pub(super) fn add_agreement(&mut self, found: &[u16], expected: &[u16]) {
        self.agreement.total += found.len() as u64;
        let pairs = found.iter().zip(expected);
        self.agreement.right += pairs.filter(|(found, expected)| found == expected).count() as u64;
    }

    /// Intersection over union of each class: pixels labelled and found as it, as a share of those
    /// labelled or found as it. `None` for a class that occurs in neither.
    #[must_use]
    pub fn class_iou(&self) -> Vec<Option<f64>> {
        let iou = |&[both, labelled, found]: &[u64; 3]| {
            let union = labelled + found - both;
            (union > 0).then(|| both as f64 / union as f64)
        };
        self.classes.iter().map(iou).collect()
    }

    /// The mean of [`class_iou`](Self::class_iou) over the classes that occur; `None` without pixels.
    #[must_use]
    pub fn mean_iou(&self) -> Option<f64> {
        let known: Vec<f64> = self.class_iou().into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Share of the labelled pixels that are found as what they are.
    #[must_use]
    pub fn pixel_accuracy(&self) -> Proportion {
        Proportion {
            right: self.classes.iter().map(|counts| counts[0]).sum(),
            total: self.classes.iter().map(|counts| counts[1]).sum(),
        }
    }

    /// Share of all pixels with the reference's class; of nothing without a reference.
    #[must_use]
    pub fn agreement(&self) -> Proportion {
        self.agreement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_classes_that_occur() {
        let mut tally = SegmentationTally::default();
        tally.add(&[0, 0, 1, 1, 4], &[0, 1, 1, VOID, 1]);
        // Class 0: 1 of 2; class 1: 1 of 3; class 4: 0 of 1; 2 and 3 do not occur.
        let expected = [Some(0.5), Some(1.0 / 3.0), None, None, Some(0.0)];
        assert_eq!(tally.class_iou(), expected);
        assert_eq!(tally.mean_iou(), Some((0.5 + 1.0 / 3.0) / 3.0));
        assert_eq!(tally.pixel_accuracy().fraction(), Some(0.5));
    }

    #[test]
    fn nothing_has_no_mean() {
        assert_eq!(SegmentationTally::default().mean_iou(), None);
    }
}
