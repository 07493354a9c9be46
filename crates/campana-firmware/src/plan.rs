//! What a network takes: flash, RAM and multiply-accumulates of each layer, and
//! what would make it fit.

use crate::layer::{Kernel, Layer};
use crate::memory::Firmware;

/// Weights of more bits are those of filters and outer layers, which `quantize`
/// gives 8 bits at any width.
const LOOKED_UP_BITS: u8 = 4;

/// What a network takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Each layer, in the order in which they run.
    pub layers: Vec<LayerCost>,
    /// Bytes of the arena, which all layers share.
    pub arena_bytes: usize,
    /// Bytes of the kernels' code, about: as `arm-none-eabi-gcc -Os` makes it for
    /// a Cortex-M4.
    pub code_bytes: usize,
}

/// What one layer takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCost {
    /// The node: its name, or its first output's.
    pub node: String,
    /// The node's operator.
    pub op_type: String,
    /// Bits of a weight's code; `None` where there are no weights.
    pub weight_bits: Option<u8>,
    /// Number of weights.
    pub weights: usize,
    /// Strips of rows in which it runs; 1 for the whole image at once.
    pub strips: usize,
    /// Bytes of constants in flash.
    pub flash_bytes: usize,
    /// Bytes of the arena that are in use while it runs.
    pub ram_bytes: usize,
    /// Multiplications of weights with codes, those that strips do twice included.
    pub multiply_accumulates: u64,
}

/// What a device has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of flash for code and constants.
    pub flash_bytes: Option<u64>,
    /// Bytes of RAM for the arena.
    pub ram_bytes: Option<u64>,
}

/// What a network lacks on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// By how many bytes it is too large, and for what: `flash` or `RAM`.
    pub excess_bytes: u64,
    /// Which memory.
    pub memory: &'static str,
    /// The layer that takes most of it.
    pub layer: String,
    /// What would make it fit, as a sentence.
    pub advice: String,
}

impl MemoryPlan {
    pub(crate) fn of(firmware: &Firmware) -> Self {
        let mut layers: Vec<(usize, LayerCost)> = Vec::new();
        for (layer, &live) in firmware.layers.iter().zip(&firmware.live_bytes) {
            match layers.iter_mut().find(|(step, _)| *step == layer.step) {
                Some((_, cost)) => cost.add_strip(layer, live),
                None => layers.push((layer.step, LayerCost::of(layer, live))),
            }
        }
        Self {
            layers: layers.into_iter().map(|(_, cost)| cost).collect(),
            arena_bytes: firmware.arena_bytes,
            code_bytes: code_bytes(firmware),
        }
    }

    /// Bytes of flash: constants and code.
    pub fn flash_bytes(&self) -> usize {
        let constants: usize = self.layers.iter().map(|layer| layer.flash_bytes).sum();
        constants + self.code_bytes
    }

    /// Multiply-accumulates of all layers.
    pub fn multiply_accumulates(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| layer.multiply_accumulates)
            .sum()
    }

    /// What is too large for a device; empty where the network fits.
    pub fn shortfalls(&self, budget: Budget) -> Vec<Shortfall> {
        let mut found = Vec::new();
        let flash = self.flash_bytes() as u64;
        if let Some(limit) = budget.flash_bytes.filter(|&limit| flash > limit) {
            let largest = self.layers.iter().max_by_key(|layer| layer.flash_bytes);
            found.push(Shortfall {
                excess_bytes: flash - limit,
                memory: "flash",
                layer: largest.map_or_else(String::new, |layer| layer.node.clone()),
                advice: self.flash_advice(limit),
            });
        }
        let ram = self.arena_bytes as u64;
        if let Some(limit) = budget.ram_bytes.filter(|&limit| ram > limit) {
            let largest = self.layers.iter().max_by_key(|layer| layer.ram_bytes);
            found.push(Shortfall {
                excess_bytes: ram - limit,
                memory: "RAM",
                layer: largest.map_or_else(String::new, |layer| layer.node.clone()),
                advice:
                    "Smaller inputs help (--shape, where the network leaves its size open); bits \
                         of weights do not change RAM."
                        .to_owned(),
            });
        }
        found
    }

    /// Bytes of flash, about, where weights had this many bits, but for those
    /// that have more than kernels look up in any case.
    fn flash_bytes_at(&self, bits: u8) -> u64 {
        let changed = self.layers.iter().map(|layer| {
            let own = i64::from(layer.weight_bits.unwrap_or(0));
            let is_coded = own <= i64::from(LOOKED_UP_BITS);
            let more = if is_coded { i64::from(bits) - own } else { 0 };
            layer.weights as i64 * more / 8
        });
        (self.flash_bytes() as i64 + changed.sum::<i64>()).max(0) as u64
    }

    fn flash_advice(&self, limit: u64) -> String {
        let fitting = (1..=LOOKED_UP_BITS)
            .rev()
            .find(|&bits| self.flash_bytes_at(bits) <= limit);
        match fitting {
            Some(bits) => format!(
                "With {bits} bits a weight it takes about {} bytes: campana quantize --bits {bits}.",
                self.flash_bytes_at(bits)
            ),
            None => format!(
                "Bits alone do not help: with 1 bit a weight it takes about {} bytes.",
                self.flash_bytes_at(1)
            ),
        }
    }
}

impl LayerCost {
    /// Another strip of rows, which has the weights of the first.
    fn add_strip(&mut self, layer: &Layer, live_bytes: usize) {
        self.strips += 1;
        self.flash_bytes += PRODUCT_BYTES;
        self.ram_bytes = self.ram_bytes.max(live_bytes);
        self.multiply_accumulates += layer.multiply_accumulates;
    }

    fn of(layer: &Layer, live_bytes: usize) -> Self {
        let (weight_bits, weights) = match &layer.kernel {
            Kernel::Product(packed) => (
                Some(packed.rows.weight_bits()),
                packed.product.weights.len(),
            ),
            _ => (None, 0),
        };
        Self {
            node: layer.node.clone(),
            op_type: layer.op_type.clone(),
            weight_bits,
            weights,
            strips: 1,
            flash_bytes: flash_bytes(&layer.kernel),
            ram_bytes: live_bytes,
            multiply_accumulates: layer.multiply_accumulates,
        }
    }
}

/// Bytes of the structures of `campana_kernels.h` on a processor of 32 bits.
const WINDOWS_BYTES: usize = 28;
const CHANNEL_BYTES: usize = 20;
const PRODUCT_BYTES: usize = 108;
const SUM_BYTES: usize = 40;
const AVERAGE_BYTES: usize = 48;
const BLOCK_BYTES: usize = 80;
const COMBINATION_BYTES: usize = 96;

/// Bytes of a layer's constants.
fn flash_bytes(kernel: &Kernel) -> usize {
    match kernel {
        Kernel::Product(packed) => {
            let channels = packed.rounding.channels.len() * CHANNEL_BYTES;
            PRODUCT_BYTES + packed.rows.len_bytes() + channels
        }
        Kernel::Sum(..) => SUM_BYTES,
        Kernel::Map(_) => 256,
        Kernel::Decode(_) => 1024,
        Kernel::MaxPool(_) => WINDOWS_BYTES,
        Kernel::Average(_, fixed) => AVERAGE_BYTES + 8 * fixed.multipliers.len(),
        Kernel::Copy { blocks, .. } => BLOCK_BYTES * blocks.len(),
        Kernel::Combine(_) => COMBINATION_BYTES + 2 * 1024,
    }
}

/// Bytes of code, as `arm-none-eabi-size` finds them (gcc 12.2, Cortex-M4, `-Os`).
const BASE_CODE_BYTES: usize = 1250;
const PRODUCT_CODE_BYTES: usize = 1520;
const DEPTHWISE_CODE_BYTES: usize = 650;
const OTHER_CODE_BYTES: usize = 400;
/// Bytes of the run function for a call.
const CALL_BYTES: usize = 24;

/// Bytes of the code of the kernels that a network needs.
fn code_bytes(firmware: &Firmware) -> usize {
    let has = |is_one: fn(&Kernel) -> bool| firmware.layers.iter().any(|l| is_one(&l.kernel));
    let parts = [
        (
            has(|k| matches!(k, Kernel::Product(p) if !p.is_depthwise)),
            PRODUCT_CODE_BYTES,
        ),
        (
            has(|k| matches!(k, Kernel::Product(p) if p.is_depthwise)),
            DEPTHWISE_CODE_BYTES,
        ),
        (has(|k| matches!(k, Kernel::Sum(..))), OTHER_CODE_BYTES),
        (
            has(|k| matches!(k, Kernel::MaxPool(_) | Kernel::Average(..))),
            OTHER_CODE_BYTES,
        ),
        (
            has(|k| matches!(k, Kernel::Copy { .. })),
            OTHER_CODE_BYTES / 2,
        ),
        (has(|k| matches!(k, Kernel::Combine(_))), OTHER_CODE_BYTES),
    ];
    let kernels: usize = parts
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, bytes)| bytes)
        .sum();
    BASE_CODE_BYTES + kernels + CALL_BYTES * firmware.layers.len()
}
