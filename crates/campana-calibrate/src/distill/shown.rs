//! What teacher and student are shown: samples in random order, images moved
//! and mirrored.
//!
//! Answers come from the teacher, so any input near the data is one to learn
//! from.

use campana_ir::graph::{Dim, Graph};
use campana_tensor::{SplitMix64, Tensor, TensorData};

use crate::samples::Batches;

/// Of so many batches one is held back, where there are enough.
const HELD_BACK: usize = 8;
const FEWEST_BATCHES: usize = 4;

/// Most channels of an image.
const MOST_CHANNELS: usize = 4;

/// Images are moved by up to one of so many parts of their extents.
const MOVED_PART: usize = 8;

/// The inputs of one pass, by name.
pub(super) type Inputs = Vec<(String, Tensor)>;

/// Samples to learn from, and those that judge. The correction sees none of those
/// that are held back either: else what it made would look better than it is.
#[derive(Clone, Debug)]
pub(crate) struct Parted {
    /// Samples to learn from.
    pub(crate) learned: Batches,
    /// Samples that judge.
    pub(crate) judging: Batches,
    /// How many of these are not learned from; 0 where there are too few to hold
    /// any back, and all judge.
    pub(crate) held_back: usize,
}

impl Parted {
    /// Of samples in batches.
    pub(crate) fn of(batches: &Batches) -> Self {
        if batches.len() < FEWEST_BATCHES {
            return Self {
                learned: batches.clone(),
                judging: batches.clone(),
                held_back: 0,
            };
        }
        // In the middle of each eight, or of all where these are fewer.
        let first = batches.len().min(HELD_BACK) / 2;
        let is_judging = |batch: usize| batch % HELD_BACK == first;
        let judging = batches.filtered(is_judging);
        Self {
            learned: batches.filtered(|batch| !is_judging(batch)),
            held_back: judging.samples(),
            judging,
        }
    }
}

/// What teacher and student are shown.
pub(super) struct Shown {
    samples: Parted,
    /// Samples of a pass that are drawn one by one; `None` where a network takes
    /// batches as they are.
    drawn: Option<usize>,
    random: SplitMix64,
}

impl Shown {
    /// Of samples whose number a graph may leave open.
    pub(super) fn new(graph: &Graph, mut samples: Parted) -> Self {
        let is_open = is_open(graph, &samples.learned);
        if !is_open {
            // All of the same extents.
            let learned = &samples.learned;
            samples.learned = learned.filtered(|batch| learned.are_alike(0, batch));
        }
        Self {
            drawn: is_open.then_some(1),
            samples,
            random: SplitMix64::new(0xd157),
        }
    }

    /// Whether samples are drawn one by one.
    pub(super) fn can_draw(&self) -> bool {
        self.drawn.is_some()
    }

    /// Samples in a pass from now on, where that can be chosen.
    pub(super) fn set_samples(&mut self, samples: usize) {
        if let Some(drawn) = &mut self.drawn {
            *drawn = samples.max(1);
        }
    }

    /// Samples in a pass.
    pub(super) fn samples(&self) -> usize {
        self.drawn
            .unwrap_or(self.samples.learned.samples() / self.samples.learned.len().max(1))
            .max(1)
    }

    /// Samples to learn from.
    pub(super) fn learned(&self) -> usize {
        self.samples.learned.samples()
    }

    /// Samples that judge and are not learned from.
    pub(super) fn held_back(&self) -> usize {
        self.samples.held_back
    }

    /// The batches that judge.
    pub(super) fn judging(&self) -> &Batches {
        &self.samples.judging
    }

    /// The inputs of the next pass.
    pub(super) fn draw(&mut self) -> Inputs {
        let batches = self.samples.learned.len();
        let Some(count) = self.drawn else {
            let batch = self.below(batches);
            return owned(&self.samples.learned, batch);
        };
        let mut chosen: Vec<[usize; 2]> = Vec::with_capacity(count);
        for _ in 0..count {
            let batch = self.below(batches);
            let sample = self.below(self.samples.learned.batch_len(batch));
            chosen.push([batch, sample]);
        }
        let learned = &self.samples.learned;
        let inputs = learned
            .names()
            .filter_map(|name| Some((name.to_owned(), learned.gathered(name, &chosen)?)));
        let mut inputs: Inputs = inputs.collect();
        if let [(_, only)] = &mut *inputs {
            self.augment(only);
        }
        inputs
    }

    fn below(&mut self, count: usize) -> usize {
        (self.random.next_u64() % count.max(1) as u64) as usize
    }

    /// Mirrors and moves each image of a batch; what is no batch of images stays.
    fn augment(&mut self, tensor: &mut Tensor) {
        let shape = tensor.shape().to_vec();
        let (TensorData::F32(values), Some(lies)) = (tensor.data(), Lies::of(&shape)) else {
            return;
        };
        let mut changed = Vec::with_capacity(values.len());
        for image in values.chunks_exact(values.len() / shape[0].max(1)) {
            let is_mirrored = self.random.next_u64() & 1 == 1;
            let moved = lies.extents.map(|extent| {
                let most = extent / MOVED_PART;
                self.below(2 * most + 1) as isize - most as isize
            });
            changed.extend(lies.changed(image, is_mirrored, moved));
        }
        if let Some(other) = Tensor::new(shape, TensorData::F32(changed)) {
            *tensor = other;
        }
    }
}

/// How the pixels of an image lie in memory.
struct Lies {
    channels: usize,
    /// Rows and columns.
    extents: [usize; 2],
    /// From one channel, row and column to the next.
    strides: [usize; 3],
}

impl Lies {
    /// Of a batch of images of few channels, which are its second or last axis.
    fn of(shape: &[usize]) -> Option<Self> {
        let &[_, a, b, c] = shape else { return None };
        if a <= MOST_CHANNELS {
            Some(Self {
                channels: a,
                extents: [b, c],
                strides: [b * c, c, 1],
            })
        } else if c <= MOST_CHANNELS {
            Some(Self {
                channels: c,
                extents: [a, b],
                strides: [1, b * c, c],
            })
        } else {
            None
        }
    }

    /// The image mirrored and moved; its nearest pixel where it does not reach.
    fn changed(&self, image: &[f32], is_mirrored: bool, moved: [isize; 2]) -> Vec<f32> {
        let mut changed = vec![0.0; image.len()];
        let [height, width] = self.extents;
        let from = |at: usize, moved: isize, extent: usize| {
            at.saturating_add_signed(moved)
                .min(extent.saturating_sub(1))
        };
        for y in 0..height {
            for x in 0..width {
                let from_y = from(y, moved[0], height);
                let from_x = from(x, moved[1], width);
                let from_x = if is_mirrored {
                    width - 1 - from_x
                } else {
                    from_x
                };
                for channel in 0..self.channels {
                    let place = |y: usize, x: usize| {
                        channel * self.strides[0] + y * self.strides[1] + x * self.strides[2]
                    };
                    changed[place(y, x)] = image[place(from_y, from_x)];
                }
            }
        }
        changed
    }
}

/// The inputs of a batch.
pub(super) fn owned(batches: &Batches, batch: usize) -> Inputs {
    let inputs = batches.batch(batch);
    inputs
        .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
        .collect()
}

/// Whether samples may be drawn one by one: all inputs are float32 with a first
/// axis, and no other, that counts them.
fn is_open(graph: &Graph, batches: &Batches) -> bool {
    let counts_samples = |input: &campana_ir::graph::Value| {
        let dims = input.shape.as_deref().unwrap_or_default();
        matches!(dims.first(), Some(Dim::Symbol(_))) && !dims[1..].contains(&dims[0])
    };
    graph.inputs.iter().all(counts_samples)
        && (0..batches.len()).all(|batch| {
            let len = batches.batch_len(batch);
            batches.batch(batch).all(|(_, tensor)| {
                let is_float = matches!(tensor.data(), TensorData::F32(_));
                is_float && tensor.shape().first() == Some(&len)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Samples;

    #[test]
    fn of_enough_batches_some_always_judge() {
        let value = campana_ir::graph::Value {
            name: "x".to_owned(),
            element_type: Some(campana_tensor::ElementType::F32),
            shape: Some(vec![Dim::Symbol("N".to_owned()), Dim::Fixed(2)]),
        };
        for batches in 1..20 {
            // The last one is smaller.
            let count = 16 * batches - 5;
            let samples = Samples::Images {
                shape: vec![count, 2],
                data: vec![0.0; 2 * count],
            };
            let batches = Batches::new(std::slice::from_ref(&value), &samples).unwrap();
            let parted = Parted::of(&batches);
            assert!(!parted.judging.is_empty());
            let are_enough = batches.len() >= FEWEST_BATCHES;
            assert_eq!(parted.held_back > 0, are_enough, "{count} samples");
            if are_enough {
                let all = parted.learned.samples() + parted.judging.samples();
                assert_eq!(all, count);
            }
        }
    }

    #[test]
    fn images_are_mirrored_and_moved_alike_in_both_layouts() {
        let planar = Lies::of(&[1, 2, 8, 6]).unwrap();
        let interleaved = Lies::of(&[1, 8, 6, 2]).unwrap();
        let image: Vec<f32> = (0..96).map(|i| i as f32).collect();
        let turned =
            |image: &[f32]| -> Vec<f32> { (0..96).map(|i| image[i % 2 * 48 + i / 2]).collect() };
        let changed = planar.changed(&image, true, [1, -2]);
        assert_eq!(
            turned(&changed),
            interleaved.changed(&turned(&image), true, [1, -2])
        );
        // Row 0 shows row 1, column 5 shows column 3 of the mirrored image.
        assert_eq!(changed[5], image[6 + 2]);
        assert_eq!(planar.changed(&image, false, [0, 0]), image);
        assert!(Lies::of(&[1, 8, 6, 8]).is_none());
    }
}
