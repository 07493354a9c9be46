//! Rows and columns for networks that leave them open.

use campana_ir::graph::{Dim, Graph, Value};
use campana_ir::network::{Layer, Network};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor};

use crate::samples::{run_shapes, typed_values};

/// Sizes that are tried: of classifiers and detectors, then of lines of text.
const SIZES: [[usize; 2]; 10] = [
    [224, 224],
    [256, 256],
    [320, 320],
    [640, 640],
    [48, 320],
    [32, 320],
    [32, 128],
    [64, 256],
    [64, 64],
    [32, 32],
];

/// A small image, for networks that see each weight at most of the pixels.
const SMALL: [usize; 2] = [96, 96];

/// Places at which a network sees a weight, in the mean of the weights and on the first
/// of the usual sizes, from which a small image shows enough of them. Those for
/// classification have below 500, detectors below 1,000, what works at full resolution
/// (denoising, super-resolution) tens of thousands.
const MANY_PLACES: f64 = 5_000.0;

/// Whether rows or columns of an image are left open.
pub fn has_open_size(inputs: &[Value]) -> bool {
    inputs.iter().any(is_open)
}

/// The first of the usual sizes that a network runs on, where these inputs of it
/// leave rows or columns of an image open; `None` where they do not, or it runs
/// on none.
pub fn open_size(graph: &Graph, inputs: &[Value]) -> Option<[usize; 2]> {
    if !has_open_size(inputs) {
        return None;
    }
    let plan = Plan::new(graph, PlanOptions::default()).ok()?;
    let session = Session::new(plan, 1);
    let small = has_many_places(graph, SIZES[0]).then_some(SMALL);
    let mut sizes = small.into_iter().chain(SIZES);
    sizes.find(|size| runs(&session, inputs, *size))
}

/// Whether a network on an image of this size sees weights at [many](MANY_PLACES)
/// places.
fn has_many_places(graph: &Graph, size: [usize; 2]) -> bool {
    let mut graph = graph.clone();
    let Ok(shapes) = run_shapes(&graph.inputs, 1, Some(size)) else {
        return false;
    };
    for (input, shape) in graph.inputs.iter_mut().zip(shapes) {
        input.shape = Some(shape.into_iter().map(Dim::Fixed).collect());
    }
    let Ok(network) = Network::new(&graph) else {
        return false;
    };
    let of = |layer: Layer<'_>| {
        let weights = network.constant_shape(layer.weights).unwrap_or(&[]);
        let weights: usize = weights.iter().product();
        [network.multiply_accumulates(&layer), weights as f64]
    };
    let sums = network.layers().map(of);
    let [work, weights] = sums.fold([0.0; 2], |sums, own| [sums[0] + own[0], sums[1] + own[1]]);
    work > MANY_PLACES * weights
}

/// Whether rows or columns of images are open: axes behind the first two, or
/// the second and third where channels are the last.
fn is_open(input: &Value) -> bool {
    let dims = input.shape.as_deref().unwrap_or_default();
    let open = dims
        .iter()
        .skip(1)
        .filter(|dim| matches!(dim, Dim::Symbol(_)));
    dims.len() == 4 && open.count() > 0
}

/// Whether the network runs on one sample of this size.
fn runs(session: &Session, inputs: &[Value], size: [usize; 2]) -> bool {
    let Ok(shapes) = run_shapes(inputs, 1, Some(size)) else {
        return false;
    };
    let tensors = inputs.iter().zip(shapes).map(|(input, shape)| {
        let element_type = input.element_type.unwrap_or(ElementType::F32);
        let alike = |len, [low, high]: [f32; 2]| vec![low + 0.75 * (high - low); len];
        let values = typed_values(element_type, shape.iter().product(), alike)?;
        Tensor::new(shape, values)
    });
    let Some(tensors) = tensors.collect::<Option<Vec<Tensor>>>() else {
        return false;
    };
    let given: Vec<(&str, Input<'_>)> = inputs
        .iter()
        .zip(&tensors)
        .map(|(input, tensor)| (input.name.as_str(), Input::Tensor(tensor)))
        .collect();
    session.run(&given).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::graph::{Attribute, Node};
    use campana_tensor::TensorData;

    /// Rows are reshaped away, as recognizers of text do: 48 of them alone fit.
    fn recognizer(rows: i64) -> Graph {
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        let value = |name: &str, shape| Value {
            name: name.into(),
            element_type: Some(ElementType::F32),
            shape,
        };
        let node = |op_type: &str, inputs: &[&str], output: &str| Node {
            op_type: op_type.into(),
            inputs: inputs.iter().map(ToString::to_string).collect(),
            outputs: vec![output.into()],
            ..Node::default()
        };
        let shape = Tensor::new(vec![3], TensorData::I64(vec![1, 3 * rows, -1])).unwrap();
        let filters = Tensor::new(
            vec![1, 3 * rows as usize],
            TensorData::F32(vec![0.1; 3 * rows as usize]),
        );
        let product = node("MatMul", &["filters", "columns"], "y");
        let dims = vec![symbol("N"), Dim::Fixed(3), symbol("H"), symbol("W")];
        Graph {
            nodes: vec![node("Reshape", &["x", "shape"], "columns"), product],
            inputs: vec![value("x", Some(dims))],
            outputs: vec![value("y", None)],
            constants: [
                ("shape".to_owned(), shape),
                ("filters".to_owned(), filters.unwrap()),
            ]
            .into(),
            ..Graph::default()
        }
    }

    fn size_of(graph: &Graph) -> Option<[usize; 2]> {
        open_size(graph, &graph.inputs)
    }

    #[test]
    fn what_works_at_full_resolution_is_shown_small_images() {
        let mut graph = recognizer(224);
        let strided = |stride: i64| {
            let mut conv = Node::new("Conv", &["x", "w"], &["y"]);
            let strides = Attribute::Ints(vec![stride; 2]);
            conv.attributes.insert("strides".into(), strides);
            conv
        };
        let weights = Tensor::new(vec![8, 3, 3, 3], TensorData::F32(vec![0.1; 216]));
        graph.constants.insert("w".into(), weights.unwrap());
        graph.nodes = vec![strided(1)];
        assert_eq!(size_of(&graph), Some(SMALL));
        graph.nodes = vec![strided(4)];
        assert_eq!(size_of(&graph), Some([224, 224]));
    }

    #[test]
    fn a_size_that_the_network_runs_on_is_found() {
        assert_eq!(size_of(&recognizer(224)), Some([224, 224]));
        let mut line = recognizer(48);
        line.nodes.push(Node {
            op_type: "Add".into(),
            inputs: vec!["y".into(), "positions".into()],
            outputs: vec!["z".into()],
            ..Node::default()
        });
        line.outputs[0].name = "z".into();
        let positions = Tensor::new(vec![320], TensorData::F32(vec![0.0; 320])).unwrap();
        line.constants.insert("positions".into(), positions);
        assert_eq!(size_of(&line), Some([48, 320]));
        let mut fixed = recognizer(224);
        let dims = fixed.inputs[0].shape.as_mut().unwrap();
        dims[2] = Dim::Fixed(224);
        dims[3] = Dim::Fixed(224);
        assert_eq!(size_of(&fixed), None);
    }
}
