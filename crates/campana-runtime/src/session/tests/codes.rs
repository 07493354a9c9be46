//! Weights that stay codes.

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage};
use campana_tensor::{Granularity, Partition};

use super::*;

/// What a quantized tensor has beside codes and one table.
#[derive(Clone, Copy, Default)]
struct Parts {
    own_tables: bool,
    scale: bool,
    shift: bool,
}

impl Builder {
    /// A quantized tensor with codes and parameters without a pattern.
    fn codes(
        &mut self,
        shape: &[usize],
        channel_axis: usize,
        granularity: Granularity,
        levels: usize,
        parts: Parts,
    ) -> String {
        self.seed += 1;
        let partition = Partition::new(shape, Some(channel_axis), granularity);
        let groups = partition.group_count();
        let random = noise(&[partition.len() + 3 * groups + 512], self.seed);
        let mut random = floats(&random).iter().copied();
        let mut next = || random.next().unwrap_or(0.5);
        let codes: Vec<u8> = (0..partition.len())
            .map(|_| ((next() + 1.0) / 2.0 * levels as f32).clamp(0.0, levels as f32 - 1.0) as u8)
            .collect();
        let packing = Packing::densest(levels);
        let mut packed = vec![0; packing.len_bytes(codes.len())];
        packing.pack(&codes, &mut packed);
        let tables = if parts.own_tables { groups } else { 1 };
        let (storage, unit) = if parts.own_tables {
            (Storage::I8, 100.0)
        } else {
            (Storage::F32, 0.5)
        };
        let values = (0..tables * levels).map(|i| next_level(i) * unit).collect();
        let tensor = QuantizedTensor {
            shape: shape.to_vec(),
            packing,
            packed,
            tables: LevelTables::new(values, levels, storage),
            table_of_group: parts
                .own_tables
                .then(|| (0..groups).map(|group| group as u16).collect()),
            scale: (parts.scale || parts.own_tables)
                .then(|| ((0..groups).map(|_| next().abs()).collect(), Storage::F32)),
            scale_unit: parts.own_tables.then_some(0.01),
            shift: parts
                .shift
                .then(|| ((0..groups).map(|_| next() * 0.1).collect(), Storage::F32)),
            partition,
        };
        assert_eq!(tensor.check(), Ok(()));
        let name = format!("q{}", self.graph.quantized.len());
        self.graph.quantized.insert(name.clone(), tensor);
        name
    }
}

fn next_level(position: usize) -> f32 {
    (position * 7919 % 1013) as f32 / 506.5 - 1.0
}

const AFFINE: Parts = Parts {
    own_tables: false,
    scale: true,
    shift: true,
};

const SCALED: Parts = Parts {
    shift: false,
    ..AFFINE
};

const OWN_TABLES: Parts = Parts {
    own_tables: true,
    scale: true,
    shift: false,
};

/// All that a plan does with convolutions, every kind of groups.
fn network() -> Builder {
    let mut b = Builder::new();
    let x = b.input("x");
    let per_channel = Granularity::PerChannel;
    let same = ("pads", ints(&[1, 1, 1, 1]));
    let w = b.codes(&[16, 3, 3, 3], 0, per_channel, 16, SCALED);
    let y = b.node("Conv", &[&x, &w], std::slice::from_ref(&same));
    let y = b.normalize(&y, 16);
    let y = b.node("Relu", &[&y], &[]);
    let bias = b.noise(&[16]);
    let w = b.codes(&[16, 1, 3, 3], 0, per_channel, 64, AFFINE);
    let groups = ("group", Attribute::Int(16));
    let depthwise = [groups, same.clone()];
    let z = b.node("Conv", &[&y, &w, &bias], &depthwise);
    let z = b.normalize(&z, 16);
    let w = b.codes(&[16, 16, 1, 1], 0, Granularity::PerGroup(4), 8, AFFINE);
    let z = b.node("Conv", &[&z, &w, &bias], &[]);
    let z = b.normalize(&z, 16);
    let sum = b.node("Add", &[&z, &y], &[]);
    let sum = b.node("Relu", &[&sum], &[]);
    let w = b.codes(&[24, 8, 3, 3], 0, per_channel, 16, OWN_TABLES);
    let two_groups = [("group", Attribute::Int(2)), same];
    let y = b.node("Conv", &[&sum, &w], &two_groups);
    let y = b.normalize(&y, 24);
    let y = b.node("GlobalAveragePool", &[&y], &[]);
    let y = b.node("Flatten", &[&y], &[]);
    let w = b.codes(&[40, 24], 0, per_channel, 5, SCALED);
    let bias = b.noise(&[40]);
    let gemm = [
        ("transB", Attribute::Int(1)),
        ("alpha", Attribute::Float(0.7)),
    ];
    let y = b.node("Gemm", &[&y, &w, &bias], &gemm);
    let w = b.codes(&[40, 9], 1, per_channel, 256, SCALED);
    let y = b.node("MatMul", &[&y, &w], &[]);
    let w = b.codes(&[9, 30], 1, Granularity::PerTensor, 3, Parts::default());
    let y = b.node("MatMul", &[&y, &w], &[]);
    b.output(&y);
    b
}

#[test]
fn a_network_of_codes_equals_its_decoded_plain_form() {
    let b = network();
    for batch in [1, 3] {
        b.check(&[("x", noise(&[batch, 3, 7, 6], 77))]);
    }
}

#[test]
fn layers_may_share_codes() {
    let mut b = Builder::new();
    let x = b.input("x");
    let w = b.codes(&[24, 24], 1, Granularity::PerChannel, 16, SCALED);
    let y = b.node("MatMul", &[&x, &w], &[]);
    let y = b.node("Relu", &[&y], &[]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    b.output(&y);
    b.check(&[("x", noise(&[5, 24], 3))]);
}

#[test]
fn no_weight_is_decoded_when_the_plan_is_made() {
    let b = network();
    let plan = Plan::new(&b.graph, PlanOptions::default()).unwrap();
    assert_eq!(plan.nodes.len(), 9, "normalizations and sums are fused");
    let names = plan.constants.keys().collect::<Vec<_>>();
    assert!(
        names.is_empty(),
        "constants beside packed weights: {names:?}"
    );
}

#[test]
fn four_bit_weights_take_about_an_eighth_of_float() {
    let weight_bytes = |coded: bool| {
        let mut b = Builder::new();
        let x = b.input("x");
        let shape = [64, 64, 3, 3];
        let w = if coded {
            b.codes(&shape, 0, Granularity::PerChannel, 16, SCALED)
        } else {
            b.noise(&shape)
        };
        let y = b.node("Conv", &[&x, &w], &[]);
        let y = b.normalize(&y, 64);
        b.output(&y);
        Plan::new(&b.graph, PlanOptions::default())
            .unwrap()
            .weight_bytes()
    };
    let share = weight_bytes(true) as f64 / weight_bytes(false) as f64;
    assert!((0.12..0.135).contains(&share), "{share}");
}

#[test]
fn codes_that_no_kernel_reads_are_decoded() {
    let mut b = Builder::new();
    let x = b.input("x");
    let shape = [6, 4, 3, 3];
    let w = b.codes(&shape, 1, Granularity::PerChannel, 16, AFFINE);
    let y = b.node("ConvTranspose", &[&x, &w], &[]);
    let w = b.codes(&[4, 4, 1, 1], 0, Granularity::PerChannel, 16, AFFINE);
    let z = b.node("Conv", &[&y, &w], &[]);
    let z = b.normalize(&z, 4);
    // The same weights as a value.
    let sum = b.node("ReduceSum", &[&w], &[("keepdims", Attribute::Int(0))]);
    let z = b.node("Mul", &[&z, &sum], &[]);
    b.output(&z);
    b.check(&[("x", noise(&[2, 6, 5, 5], 5))]);
}
