//! Which layers runtimes can compute on integers: those between two rounded
//! activations.

use campana_ir::network::{Layer, Network};
use campana_ir::op::{Binary, Op, Unary};
use serde::Serialize;

/// How many layers lie between rounded activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntegerLayers {
    /// Layers whose inputs and outputs are rounded: runtimes that know
    /// QuantizeLinear compute these on integers.
    pub on_integers: usize,
    /// Convolutions, `Gemm` and `MatMul` with weights of the model.
    pub layers: usize,
    /// Layers of other kinds, of which this is not known: transposed convolutions,
    /// recurrent layers, and products whose weights stand first.
    pub others: usize,
}

impl IntegerLayers {
    /// Of a network in which `is_rounded` values are rounded to 8 bits. What
    /// moves elements of these is rounded too in a form that `rounds_moved`
    /// values, as that of [`Target::Int8`](campana_quantize::Target::Int8) does.
    pub fn of(
        network: &Network<'_>,
        rounds_moved: bool,
        is_rounded: impl Fn(&str) -> bool,
    ) -> Self {
        let mut found = Self::default();
        for (_, is_on_integers) in layers_on_integers(network, rounds_moved, is_rounded) {
            found.layers += 1;
            found.on_integers += usize::from(is_on_integers);
        }
        let nodes = 0..network.graph().nodes.len();
        found.others = nodes.filter(|&node| is_other_layer(network, node)).count();
        found
    }

    /// Whether all layers are computed on integers.
    pub fn all(&self) -> bool {
        self.on_integers == self.layers
    }
}

/// Whether a node is a layer of another kind than those that are counted.
fn is_other_layer(network: &Network<'_>, node: usize) -> bool {
    let inputs = &network.node(node).inputs;
    let is_parameter = |input: usize| {
        let name = inputs.get(input);
        name.is_some_and(|name| network.is_parameter(name))
    };
    match network.op(node) {
        Op::ConvTranspose(_) | Op::Recurrent(_) => !is_parameter(0) && is_parameter(1),
        Op::MatMul => is_parameter(0) && !is_parameter(1),
        _ => false,
    }
}

/// Each layer, and whether it lies between rounded activations; as
/// [`IntegerLayers::of`].
pub(crate) fn layers_on_integers<'g>(
    network: &Network<'g>,
    rounds_moved: bool,
    is_rounded: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (Layer<'g>, bool)> {
    network.layers().map(move |layer| {
        let from =
            is_rounded(layer.input) || rounds_moved && is_moved(network, layer.input, &is_rounded);
        let is_on_integers = from
            && !network.has_float_weights(layer.node)
            && is_rounded_behind(network, layer.output, &is_rounded);
        (layer, is_on_integers)
    })
}

/// Whether a value only moves elements of one that is rounded.
fn is_moved(network: &Network<'_>, name: &str, is_rounded: &impl Fn(&str) -> bool) -> bool {
    let mut name = name;
    while !is_rounded(name) {
        let Some(maker) = network.producer(name) else {
            return false;
        };
        match network.node(maker).inputs.first() {
            Some(input) if network.op(maker).moves_elements() => name = input,
            _ => return false,
        }
    }
    true
}

/// Whether a layer's output is rounded once its bias, normalization and
/// clamping are applied.
fn is_rounded_behind(
    network: &Network<'_>,
    output: &str,
    is_rounded: &impl Fn(&str) -> bool,
) -> bool {
    let mut name = output;
    while !is_rounded(name) {
        let Some((node, _)) = network.sole_use(name) else {
            return false;
        };
        let found = network.node(node);
        // Behind a clamp there is nothing to join.
        let is_unclamped = || network.layer_of(name).is_some();
        let joins = match network.op(node) {
            Op::Unary(Unary::Relu | Unary::Clip) => true,
            Op::BatchNormalization(_) => is_unclamped(),
            Op::Binary(Binary::Add) => {
                let mut inputs = found.inputs.iter();
                is_unclamped() && inputs.all(|input| input == name || network.is_parameter(input))
            }
            Op::Concat { .. } => true,
            op => op.moves_elements(),
        };
        match found.outputs.first() {
            Some(output) if joins => name = output,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Dim, Graph, Node, Value};
    use campana_tensor::{ElementType, Tensor, TensorData};

    use super::*;

    #[test]
    fn a_layer_without_rounding_behind_it_is_in_floats() {
        let weights = Tensor::new(vec![1, 1, 1, 1], TensorData::F32(vec![1.0])).unwrap();
        let graph = Graph {
            nodes: vec![
                Node::new("Conv", &["x", "w"], &["a"]),
                Node::new("Relu", &["a"], &["b"]),
                Node::new("Conv", &["b", "w"], &["c"]),
                Node::new("Sigmoid", &["c"], &["y"]),
            ],
            inputs: vec![Value {
                name: "x".into(),
                element_type: Some(ElementType::F32),
                shape: Some([1, 1, 4, 4].map(Dim::Fixed).to_vec()),
            }],
            constants: [("w".to_owned(), weights)].into(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        };
        let network = Network::new(&graph).unwrap();
        let of =
            |rounded: &[&str]| IntegerLayers::of(&network, true, |name| rounded.contains(&name));
        let found = of(&["x", "b"]);
        assert_eq!((found.on_integers, found.layers), (1, 2));
        assert!(of(&["x", "b", "c"]).all());
        assert_eq!(of(&["b"]).on_integers, 0);
    }

    #[test]
    fn a_normalization_behind_a_clamp_is_computed_in_floats() {
        let floats = |shape: Vec<usize>| {
            let len = shape.iter().product();
            Tensor::new(shape, TensorData::F32(vec![1.0; len])).unwrap()
        };
        let normalization = |input: &str, output: &str| {
            Node::new(
                "BatchNormalization",
                &[input, "p", "p", "p", "p"],
                &[output],
            )
        };
        for (is_behind, on_integers) in [(false, 1), (true, 0)] {
            let nodes = match is_behind {
                false => [normalization("a", "b"), Node::new("Relu", &["b"], &["c"])],
                true => [Node::new("Relu", &["a"], &["b"]), normalization("b", "c")],
            };
            let graph = Graph {
                nodes: [vec![Node::new("Conv", &["x", "w"], &["a"])], nodes.to_vec()].concat(),
                inputs: vec![Value {
                    name: "x".into(),
                    element_type: Some(ElementType::F32),
                    shape: Some([1, 1, 4, 4].map(Dim::Fixed).to_vec()),
                }],
                constants: [
                    ("w".to_owned(), floats(vec![1, 1, 1, 1])),
                    ("p".to_owned(), floats(vec![1])),
                ]
                .into(),
                opsets: [(String::new(), 17)].into(),
                ..Graph::default()
            };
            let network = Network::new(&graph).unwrap();
            let found = IntegerLayers::of(&network, true, |name| ["x", "c"].contains(&name));
            assert_eq!(found.on_integers, on_integers);
        }
    }
}
