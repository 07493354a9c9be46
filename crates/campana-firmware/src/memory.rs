//! Where values lie while a network runs, and in which parts it runs so that they
//! fit.

use campana_runtime::integer::IntegerNetwork;

use crate::arena::{self, Arena};
use crate::error::{Error, ErrorKind};
use crate::layer::{Kernel, Layer, layer};
use crate::strips::{self, Segment, Split};

/// Where a value lies while the network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What the caller gives.
    Input(usize),
    /// Where the caller wants an output.
    Output(usize),
    /// From here on in the arena.
    Arena(usize),
}

/// A network as calls of kernels.
#[derive(Clone, Debug)]
pub(crate) struct Firmware {
    pub(crate) network: IntegerNetwork,
    pub(crate) layers: Vec<Layer>,
    pub(crate) places: Vec<Place>,
    /// Where the scratch of each layer begins in the arena.
    pub(crate) scratch: Vec<usize>,
    pub(crate) arena_bytes: usize,
    /// Bytes of the arena that each layer's values and scratch take.
    pub(crate) live_bytes: Vec<usize>,
}

impl Firmware {
    /// # Errors
    ///
    /// Where a step has no kernel; names its node.
    pub(crate) fn new(mut network: IntegerNetwork) -> Result<Self, Error> {
        let steps = std::mem::take(&mut network.steps);
        let layers = steps.into_iter().enumerate().map(|(at, step)| {
            let (node, op_type) = (step.node.clone(), step.op_type.clone());
            layer(&network, at, step).map_err(|reason| {
                let message = format!("node '{node}' ({op_type}) {reason}");
                Error::new(ErrorKind::Unsupported, message)
            })
        });
        let layers: Vec<Layer> = layers.collect::<Result<_, _>>()?;
        let mut firmware = Self {
            network,
            layers,
            places: Vec::new(),
            scratch: Vec::new(),
            arena_bytes: 0,
            live_bytes: Vec::new(),
        };
        firmware.place_values();
        Ok(firmware)
    }

    /// Runs layers in strips of rows until the arena is not larger than this, or
    /// nothing makes it smaller any more.
    pub(crate) fn fit_arena(&mut self, limit_bytes: usize) {
        let whole = self.clone();
        let mut segments: Vec<Segment> = Vec::new();
        while self.arena_bytes > limit_bytes {
            let peak = (0..self.layers.len()).max_by_key(|&at| self.live_bytes[at]);
            let Some(peak) = peak.map(|at| self.layers[at].step) else {
                return;
            };
            let candidates = strips::segments(&whole.layers, &whole.network.outputs, peak);
            let tried = candidates.into_iter().filter_map(|candidate| {
                let kept = segments
                    .iter()
                    .copied()
                    .filter(|other| !other.meets(candidate));
                let segments: Vec<Segment> = kept.chain([candidate]).collect();
                Some((whole.with_strips(&segments)?, segments))
            });
            // The fewest operations among those that fit, else the least memory.
            let best = tried.min_by_key(|(split, _)| {
                let products: u64 = split.layers.iter().map(|l| l.multiply_accumulates).sum();
                let excess = split.arena_bytes.saturating_sub(limit_bytes);
                (excess, products)
            });
            match best.filter(|(best, _)| best.arena_bytes < self.arena_bytes) {
                Some((best, chosen)) => (*self, segments) = (best, chosen),
                None => return,
            }
        }
    }

    /// The same network with segments in strips, where that can be.
    fn with_strips(&self, segments: &[Segment]) -> Option<Self> {
        let mut firmware = self.clone();
        let mut segments = segments.to_vec();
        // From the last on, so that those before stay where they are.
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.first));
        for segment in segments {
            let split = strips::split(&firmware.layers, &firmware.network.values, segment);
            let Split { layers, values } = split.ok()??;
            (firmware.layers, firmware.network.values) = (layers, values);
        }
        firmware.place_values();
        Some(firmware)
    }

    /// Bytes of a value.
    pub(crate) fn value_bytes(&self, value: usize) -> usize {
        let value = &self.network.values[value];
        match value.codes {
            Some(_) => value.len(),
            None => value.len() * size_of::<f32>(),
        }
    }

    /// Where the caller's memory is used as it is: inputs, and outputs that no
    /// step reads.
    fn fixed_place(&self, value: usize) -> Option<Place> {
        let network = &self.network;
        if let Some(input) = network.inputs.iter().position(|&found| found == value) {
            return Some(Place::Input(input));
        }
        let output = network.outputs.iter().position(|&found| found == value)?;
        let is_read = self.layers.iter().any(|layer| layer.reads.contains(&value));
        (!is_read).then_some(Place::Output(output))
    }

    /// The value whose memory a layer may write its result over.
    fn overwritten(&self, layer: usize) -> Option<usize> {
        let Layer {
            kernel,
            reads,
            writes,
            ..
        } = &self.layers[layer];
        if self.layers[layer].strip.is_some() {
            return None;
        }
        let candidates = match kernel {
            Kernel::Sum(..) | Kernel::Map(_) => &reads[..],
            Kernel::Product(_) => reads.get(1..).unwrap_or_default(),
            _ => &[],
        };
        let later = &self.layers[layer + 1..];
        let is_free = |&&value: &&usize| {
            let is_read = later.iter().any(|layer| layer.reads.contains(&value));
            let is_output = self.network.outputs.contains(&value);
            let others = reads.iter().filter(|&&read| read == value).count();
            let is_product = matches!(kernel, Kernel::Product(_));
            !is_read
                && !is_output
                && (others == 1 || !is_product)
                && self.fixed_place(value).is_none()
                && self.value_bytes(value) == self.value_bytes(*writes)
        };
        candidates.iter().find(is_free).copied()
    }

    fn place_values(&mut self) {
        let count = self.network.values.len();
        // Values that share memory, by the block that they are part of.
        let mut blocks: Vec<arena::Block> = Vec::new();
        let mut block_of: Vec<Option<usize>> = vec![None; count];
        let last_read = |value: usize| {
            let is_output = self.network.outputs.contains(&value);
            let read = self.layers.iter().rposition(|l| l.reads.contains(&value));
            match is_output {
                true => Some(self.layers.len()),
                false => read,
            }
        };
        for (at, layer) in self.layers.iter().enumerate() {
            let written = layer.writes;
            if self.fixed_place(written).is_some() || block_of[written].is_some() {
                continue;
            }
            let last = last_read(written).unwrap_or(at).max(at);
            let shared = self.overwritten(at).and_then(|value| block_of[value]);
            block_of[written] = Some(match shared {
                Some(block) => {
                    blocks[block].last = last;
                    block
                }
                None => {
                    blocks.push(arena::Block {
                        len_bytes: self.value_bytes(written),
                        first: at,
                        last,
                    });
                    blocks.len() - 1
                }
            });
        }
        let values = blocks.len();
        blocks.extend(
            self.layers
                .iter()
                .enumerate()
                .map(|(at, layer)| arena::Block {
                    len_bytes: layer.scratch_bytes,
                    first: at,
                    last: at,
                }),
        );
        let Arena { offsets, len_bytes } = arena::place(&blocks);
        let places = (0..count).map(|value| match (self.fixed_place(value), block_of[value]) {
            (Some(place), _) => place,
            (None, block) => Place::Arena(block.map_or(0, |block| offsets[block])),
        });
        self.places = places.collect();
        self.scratch = offsets[values..].to_vec();
        self.arena_bytes = len_bytes;
        let live = (0..self.layers.len()).map(|at| {
            let blocks = blocks
                .iter()
                .filter(|block| block.first <= at && at <= block.last);
            blocks.map(|block| block.len_bytes).sum()
        });
        self.live_bytes = live.collect();
    }
}
