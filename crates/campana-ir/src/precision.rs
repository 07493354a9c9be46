//! Networks of half precision computed in single precision.

use campana_tensor::{ElementType, Tensor, TensorData};

use crate::graph::{Attribute, Graph};

/// Attributes that name the type of an operator's output.
const TYPE_ATTRIBUTES: [&str; 3] = ["to", "dtype", "output_dtype"];

impl Graph {
    /// The same network where all that is float16 or bfloat16 (inputs,
    /// constants, casts, subgraphs) is float32: float32 holds every value of
    /// both, so that constants stay what they are, and results differ by the
    /// rounding that is left out.
    #[must_use]
    pub fn in_single_precision(mut self) -> Self {
        self.widen();
        self
    }

    fn widen(&mut self) {
        self.constants.values_mut().for_each(widen);
        for value in self.inputs.iter_mut().chain(&mut self.outputs) {
            if value.element_type.is_some_and(is_half) {
                value.element_type = Some(ElementType::F32);
            }
        }
        for node in &mut self.nodes {
            for (name, attribute) in &mut node.attributes {
                match attribute {
                    Attribute::Tensor(tensor) => widen(tensor),
                    Attribute::Graph(body) => body.widen(),
                    Attribute::Int(number) if TYPE_ATTRIBUTES.contains(&name.as_str()) => {
                        let named = i32::try_from(*number).map(ElementType::from_onnx);
                        if named.is_ok_and(is_half) {
                            *number = ElementType::F32.to_onnx().into();
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

fn is_half(element_type: ElementType) -> bool {
    matches!(element_type, ElementType::F16 | ElementType::Bf16)
}

fn widen(tensor: &mut Tensor) {
    let values: Vec<f32> = match tensor.data() {
        TensorData::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
        TensorData::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        _ => return,
    };
    let shape = tensor.shape().to_vec();
    if let Some(wide) = Tensor::new(shape, TensorData::F32(values)) {
        *tensor = wide;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use half::f16;

    use super::*;
    use crate::graph::{Node, Value};

    #[test]
    fn inputs_constants_casts_and_subgraphs_become_float32() {
        let halves = || {
            let data = TensorData::F16(vec![f16::from_f32(0.1), f16::from_f32(-65504.0)]);
            Tensor::new(vec![2], data).expect("two values")
        };
        let value = |name: &str, element_type| Value {
            name: name.to_owned(),
            element_type: Some(element_type),
            shape: None,
        };
        let body = Graph {
            constants: BTreeMap::from([("b".to_owned(), halves())]),
            ..Graph::default()
        };
        let attributes = BTreeMap::from([
            ("to".to_owned(), Attribute::Int(10)),
            ("axis".to_owned(), Attribute::Int(10)),
            ("then_branch".to_owned(), Attribute::Graph(Box::new(body))),
        ]);
        let graph = Graph {
            nodes: vec![Node {
                attributes,
                ..Node::default()
            }],
            inputs: vec![value("x", ElementType::F16), value("i", ElementType::I64)],
            outputs: vec![value("y", ElementType::Bf16)],
            constants: BTreeMap::from([("w".to_owned(), halves())]),
            ..Graph::default()
        }
        .in_single_precision();
        let wide = TensorData::F32(vec![f16::from_f32(0.1).to_f32(), -65504.0]);
        assert_eq!(*graph.constants["w"].data(), wide);
        assert_eq!(graph.inputs[0].element_type, Some(ElementType::F32));
        assert_eq!(graph.inputs[1].element_type, Some(ElementType::I64));
        assert_eq!(graph.outputs[0].element_type, Some(ElementType::F32));
        let attributes = &graph.nodes[0].attributes;
        assert_eq!(attributes["to"], Attribute::Int(1));
        assert_eq!(attributes["axis"], Attribute::Int(10));
        let Attribute::Graph(body) = &attributes["then_branch"] else {
            panic!("no graph");
        };
        assert_eq!(*body.constants["b"].data(), wide);
    }
}
