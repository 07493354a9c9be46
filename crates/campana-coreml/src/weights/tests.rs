use campana_codebook::{Storage, VectorCodes};
use campana_tensor::{Granularity, SplitMix64};

use super::*;

/// Rows of so many weights, in a shape of four axes.
const SHAPE: [usize; 4] = [32, 16, 3, 3];

fn partition(shape: &[usize], granularity: Granularity) -> Partition {
    Partition::new(shape, Some(0), granularity)
}

fn drawn_codes(count: usize, levels: usize) -> Vec<u8> {
    let mut random = SplitMix64::new(1);
    (0..count)
        .map(|_| (random.next_u64() % levels as u64) as u8)
        .collect()
}

/// A tensor of drawn codes into one table, or into one for each group.
fn tensor(shape: &[usize], granularity: Granularity, tables: LevelTables) -> QuantizedTensor {
    let partition = partition(shape, granularity);
    let packing = Packing::densest(tables.levels());
    let codes = drawn_codes(partition.len(), tables.levels());
    let mut packed = vec![0; packing.len_bytes(codes.len())];
    packing.pack(&codes, &mut packed);
    let groups = partition.group_count();
    let own = (tables.count() > 1).then(|| (0..groups as u16).collect());
    QuantizedTensor {
        shape: shape.to_vec(),
        partition,
        packing,
        packed,
        tables,
        table_of_group: own,
        scale: None,
        scale_unit: None,
        shift: None,
    }
}

fn integer_tables(count: usize, levels: usize) -> LevelTables {
    let level = |i: usize| (i * 37 % 255) as f32 - 127.0;
    let values = (0..count * levels).map(level).collect();
    LevelTables::new(values, levels, Storage::I8)
}

/// Scales that no 16-bit float is.
fn odd_scales(groups: usize) -> Option<(Vec<f32>, Storage)> {
    let scale = |i: usize| 0.001 + i as f32 * 1.234e-5;
    Some(((0..groups).map(scale).collect(), Storage::F32))
}

/// What a form decodes to in 32-bit floats, factors included, by the definition of
/// Core ML's operators.
fn reference_decode(weights: &Weights, channel_axis: usize) -> Vec<f32> {
    let shape = weights.matrix.map_or(weights.shape.clone(), Vec::from);
    let coded = match &weights.values {
        Values::Dense(values) => return values.clone(),
        Values::Coded(coded) => coded,
    };
    let table = |group: usize, code: usize, part: usize| {
        let len = (1 << coded.bits) * coded.vector;
        let at = group * len + code * coded.vector + part;
        match &coded.tables {
            Tables::Floats(values) => values[at],
            Tables::Integers(values, scales) => {
                f32::from(values[at]) * scales[group.min(scales.len() - 1)]
            }
        }
    };
    let mut indices = shape.clone();
    indices[coded.axis] /= coded.vector;
    let inner: usize = weights.shape[channel_axis + 1..].iter().product();
    let values = (0..shape.iter().product()).map(|at: usize| {
        let (mut rest, mut group, mut index, mut part) = (at, 0, 0, 0);
        let mut place = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            place[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        for axis in 0..shape.len() {
            let mut own = place[axis];
            if axis == coded.axis {
                part = own % coded.vector;
                own /= coded.vector;
            }
            index = index * indices[axis] + own;
            group = group * coded.counts[axis] + own / (indices[axis] / coded.counts[axis]);
        }
        let value = table(group, usize::from(coded.codes[index]), part);
        match &weights.factors {
            None => value,
            Some(factors) => value * factors[at / inner % factors.len()],
        }
    });
    values.collect()
}

fn is_scaled_behind(weights: &Weights) -> bool {
    weights.factors.is_some()
}

#[test]
fn every_form_decodes_to_the_weights() {
    let groups = SHAPE[0];
    let mut shared = tensor(&SHAPE, Granularity::PerChannel, integer_tables(1, 16));
    shared.scale = odd_scales(groups);
    let mut own = tensor(&SHAPE, Granularity::PerChannel, integer_tables(groups, 8));
    own.scale = odd_scales(groups);
    let mut shifted = shared.clone();
    shifted.shift = Some(((0..groups).map(|i| i as f32 / 8.0).collect(), Storage::F32));
    let mut blocks = tensor(&SHAPE, Granularity::PerGroup(36), integer_tables(1, 4));
    blocks.scale = odd_scales(blocks.partition.group_count());
    let mut crooked = tensor(&SHAPE, Granularity::PerGroup(16), integer_tables(1, 4));
    crooked.scale = odd_scales(crooked.partition.group_count());
    let whole = tensor(&SHAPE, Granularity::PerTensor, integer_tables(1, 32));
    for (name, tensor) in [
        ("shared", shared),
        ("own", own),
        ("shifted", shifted),
        ("blocks", blocks),
        ("crooked", crooked),
        ("whole", whole),
    ] {
        assert_eq!(tensor.check(), Ok(()), "{name}");
        for axis in [None, Some(0)] {
            let weights = Weights::coded(&tensor, axis, Precision::Float32);
            assert_eq!(reference_decode(&weights, 0), tensor.dequantize(), "{name}");
        }
    }
}

#[test]
fn one_table_and_scales_stand_behind_the_layer() {
    let mut tensor = tensor(&SHAPE, Granularity::PerChannel, integer_tables(1, 16));
    tensor.scale = odd_scales(SHAPE[0]);
    for precision in [Precision::Float16, Precision::Float32] {
        assert!(is_scaled_behind(&Weights::coded(
            &tensor,
            Some(0),
            precision
        )));
        assert!(!is_scaled_behind(&Weights::coded(&tensor, None, precision)));
    }
}

#[test]
fn few_weights_stay_floats() {
    let mut tensor = tensor(
        &[32, 1, 3, 3],
        Granularity::PerChannel,
        integer_tables(32, 16),
    );
    tensor.scale = odd_scales(32);
    let weights = Weights::coded(&tensor, Some(0), Precision::Float16);
    assert!(matches!(weights.values, Values::Dense(_)));
}

#[test]
fn vectors_lie_along_an_axis_or_make_a_matrix() {
    for (shape, matrix) in [([64, 256, 1, 1], None), ([64, 64, 3, 3], Some([64, 576]))] {
        let table: Vec<u8> = (0..256)
            .flat_map(|i: u16| [0, 1, 2, 3].map(|j| (i * 7 + j) as u8 % 16))
            .collect();
        let vectors = VectorCodes::new(table, 4).unwrap();
        let mut tensor = tensor(&shape, Granularity::PerChannel, integer_tables(1, 16));
        tensor.packing = Packing::Vectors(vectors);
        tensor.packed = drawn_codes(tensor.partition.len() / 4, 256);
        tensor.scale = odd_scales(64);
        let weights = Weights::coded(&tensor, Some(0), Precision::Float32);
        assert_eq!(weights.matrix, matrix);
        assert_eq!(
            reference_decode(&weights, 0),
            tensor.dequantize(),
            "{shape:?}"
        );
        let constant = weights.into_constant(Some(&tensor));
        assert_eq!(constant.matrix, None);
        assert_eq!(reference_decode(&constant, 0), tensor.dequantize());
    }
}

#[test]
fn exchanged_axes_hold_the_same_weights() {
    for tables in [1, 64] {
        let mut tensor = tensor(
            &[96, 64],
            Granularity::PerTensor,
            integer_tables(tables, 16),
        );
        tensor.partition = Partition::new(&[96, 64], Some(1), Granularity::PerChannel);
        tensor.table_of_group = (tables > 1).then(|| (0..64).collect());
        tensor.scale = odd_scales(64);
        let weights = Weights::coded(&tensor, Some(1), Precision::Float32).transposed();
        let expected = transposed(&tensor.dequantize(), [96, 64]);
        assert_eq!(weights.shape, [64, 96]);
        assert_eq!(reference_decode(&weights, 0), expected, "{tables} tables");
    }
}

#[test]
fn levels_become_small_by_a_power_of_two() {
    assert_eq!(small_factor(3.0), 1.0);
    assert_eq!(small_factor(0.3), 1.0);
    assert_eq!(small_factor(0.125), 0.125);
    assert_eq!(small_factor(0.01), 1.0 / 64.0);
    assert_eq!(small_factor(0.0), 2f32.powi(LEAST_EXPONENT));
}
