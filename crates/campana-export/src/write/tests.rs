use campana_design::Method;
use campana_ir::decoder::encode::decoded_len_bytes;
use campana_onnx::{Dim, NewNode, Source, opset_import};
use campana_quantize::{MethodChoice, Options, Silent, quantize};
use campana_tensor::Granularity;

use super::*;

/// Longer than any short length that is stored in one byte, so that no change
/// of the graph changes the size of its own length.
const LONG_NAME: [u8; 200] = [b'n'; 200];

/// A convolution of 16 x 16 filters.
fn model() -> Model {
    let weights = (0..16 * 16 * 9).flat_map(|i| {
        let weight = (i as f32 * 0.7).sin().powi(3) * (1.0 + (i / 144) as f32);
        weight.to_le_bytes()
    });
    let weights = NewTensor::raw(
        "conv.weight",
        &[16, 16, 3, 3],
        ElementType::F32,
        weights.collect::<Vec<u8>>(),
    );
    let value = |name: &str| {
        let dims = [1, 16, 6, 6].map(Dim::Value);
        NewValueInfo::tensor(name, ElementType::F32, Some(&dims))
    };
    let name = String::from_utf8_lossy(&LONG_NAME);
    let graph = Content::default()
        .string(schema::graph::NAME, &name)
        .message(
            schema::graph::NODE,
            NewNode::new("Conv", ["x", "conv.weight"], ["y"]),
        )
        .message(schema::graph::INITIALIZER, weights)
        .message(schema::graph::INPUT, value("x"))
        .message(schema::graph::OUTPUT, value("y"));
    let bytes = Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(schema::model::GRAPH, graph)
        .message(
            schema::model::OPSET_IMPORT,
            opset_import("", Decoder::MIN_OPSET),
        )
        .into_bytes()
        .unwrap();
    Model::parse(Source::from_bytes(bytes)).unwrap()
}

/// What writing takes beyond the model without the weights and the price of
/// the quantized ones.
fn beyond_the_price(bits: u8, granularity: Granularity) -> u64 {
    let model = model();
    let options = Options {
        bits,
        method: MethodChoice::Fixed(Method::Minmax),
        granularity,
        ..Options::default()
    };
    let quantized = quantize(&model, &options, &Silent).unwrap();
    let outcome = &quantized.tensors[0];
    let tensor = outcome.quantized.as_ref().expect("quantized");
    let mut without = Edits::new(&model);
    without.remove(outcome.tensor.proto.message);
    let placement = Placement::of("in.onnx".as_ref(), "out.onnx".as_ref());
    let written = OutputModel::new(&model, &quantized, &[], Target::Lut, &placement).unwrap();
    let written = written.len_bytes().unwrap();
    let price = decoded_len_bytes(tensor, outcome.tensor.name);
    written - without.encoded_len().unwrap() - price
}

#[test]
fn the_price_of_a_tensor_is_what_is_written_of_it() {
    for bits in 1..=8 {
        let per_tensor = beyond_the_price(bits, Granularity::PerTensor);
        // The table of what a byte holds is for all tensors.
        assert_eq!(per_tensor == 0, bits == 8, "{bits} bits: {per_tensor}");
        for granularity in [Granularity::PerChannel, Granularity::PerGroup(36)] {
            let other = beyond_the_price(bits, granularity);
            assert_eq!(other, per_tensor, "{bits} bits, {granularity}");
        }
    }
}
