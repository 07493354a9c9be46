//! Random models, random edits and random damage.

use campana_onnx::{
    Attribute, AttributeValue, Content, Edits, Model, NewNode, NewTensor, ValueType, schema,
};
use campana_tensor::ElementType;
use proptest::prelude::*;

use crate::common::{floats, initializer, model_bytes, node, parse, written};

/// What a random node is made from.
#[derive(Clone, Debug)]
struct NodePlan {
    op_type: String,
    inputs: Vec<String>,
    ints: Vec<i64>,
    float: f32,
    text: String,
    weights: Vec<f32>,
    nested: Option<Box<NodePlan>>,
}

fn node_plan() -> impl Strategy<Value = NodePlan> {
    let leaf = (
        "\\PC{0,8}",
        prop::collection::vec("\\PC{0,40}", 0..4),
        prop::collection::vec(any::<i64>(), 0..5),
        any::<f32>().prop_filter("comparable", |value| !value.is_nan()),
        "\\PC{0,200}",
        prop::collection::vec(-1f32..1.0, 0..40),
    )
        .prop_map(|(op_type, inputs, ints, float, text, weights)| NodePlan {
            op_type,
            inputs,
            ints,
            float,
            text,
            weights,
            nested: None,
        });
    leaf.prop_recursive(4, 8, 1, |inner| {
        (inner.clone(), inner).prop_map(|(mut outer, inner)| {
            outer.nested = Some(Box::new(inner));
            outer
        })
    })
}

fn encoded(plan: &NodePlan) -> Content<'static> {
    let mut new = NewNode::new(&plan.op_type, &plan.inputs, [&plan.text])
        .attribute("ints", plan.ints.clone())
        .attribute("float", plan.float)
        .attribute("text", plan.text.as_str())
        .attribute("weights", floats(&plan.text, &plan.weights));
    if let Some(nested) = &plan.nested {
        let graph = campana_onnx::NewAttribute::Graph(encoded(nested));
        new = new.attribute("nested", graph);
    }
    node(new)
}

/// Compares what was read with what was written.
fn check(model: &Model, read: &campana_onnx::Node, plan: &NodePlan) {
    assert_eq!(read.op_type, plan.op_type);
    assert_eq!(read.inputs, plan.inputs);
    assert_eq!(read.outputs, [plan.text.as_str()]);
    let value = |name| &read.attribute(name).expect("an attribute").value;
    assert_eq!(value("ints"), &AttributeValue::Ints(plan.ints.clone()));
    assert_eq!(value("float"), &AttributeValue::Float(plan.float));
    let AttributeValue::String(text) = value("text") else {
        panic!("{read:?}");
    };
    assert_eq!(
        model.source().read(*text).expect("read"),
        plan.text.as_bytes()
    );
    let AttributeValue::Tensor(tensor) = value("weights") else {
        panic!("{read:?}");
    };
    assert_eq!(model.read_f32(tensor).expect("read"), plan.weights);
    match (read.attribute("nested"), &plan.nested) {
        (
            Some(Attribute {
                value: AttributeValue::Graph(graph),
                ..
            }),
            Some(plan),
        ) => {
            check(model, &graph.nodes[0], plan);
        }
        (None, None) => {}
        (read, plan) => panic!("{read:?}, expected {plan:?}"),
    }
}

/// One change to a list of nodes.
#[derive(Clone, Debug)]
enum Edit {
    Keep,
    Remove,
    Replace(NodePlan),
    Before(NodePlan),
    After(NodePlan),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Keep),
        Just(Edit::Remove),
        node_plan().prop_map(Edit::Replace),
        node_plan().prop_map(Edit::Before),
        node_plan().prop_map(Edit::After),
    ]
}

fn graph_of<'a>(plans: impl IntoIterator<Item = &'a NodePlan>) -> Content<'static> {
    let nodes = plans.into_iter().map(encoded);
    nodes.fold(Content::default(), Content::then)
}

/// A model with some of everything, for damage.
fn varied_model() -> Vec<u8> {
    let plan = |nested| NodePlan {
        op_type: "Conv".to_owned(),
        inputs: vec!["x".to_owned(), "w".to_owned()],
        ints: vec![1, -1],
        float: 0.5,
        text: "t".to_owned(),
        weights: vec![1.0, 2.0],
        nested,
    };
    let typed = Content::default()
        .ints(schema::tensor::DIMS, &[3])
        .int(schema::tensor::DATA_TYPE, 7)
        .ints(schema::tensor::INT64_DATA, &[1, 2, 3]);
    let dims = [
        campana_onnx::Dim::Value(1),
        campana_onnx::Dim::Symbol("n".to_owned()),
    ];
    let value = campana_onnx::NewValueInfo::tensor("x", ElementType::F32, Some(&dims));
    let sparse = Content::default()
        .message(schema::sparse_tensor::VALUES, floats("s", &[1.0]))
        .ints(schema::sparse_tensor::DIMS, &[4]);
    let graph = graph_of([&plan(Some(Box::new(plan(None))))])
        .then(initializer(floats("w", &[1.0, 2.0, 3.0])))
        .then(initializer(typed))
        .then(initializer(NewTensor::raw(
            "u",
            &[3],
            ElementType::U4,
            vec![1, 2],
        )))
        .message(schema::graph::INPUT, value)
        .message(schema::graph::SPARSE_INITIALIZER, sparse);
    model_bytes(graph)
}

/// Whatever the bytes: reading ends, and what was read can be read in full.
fn survives(bytes: Vec<u8>) {
    let Ok(model) = parse(bytes.clone()) else {
        return;
    };
    assert_eq!(written(Edits::new(&model)), bytes);
    visit(&model, &model.graph);
}

fn visit(model: &Model, graph: &campana_onnx::Graph) {
    for tensor in &graph.initializers {
        let _ = model.read_tensor(tensor);
        let _ = model.read_f32(tensor);
    }
    for attribute in graph.nodes.iter().flat_map(|node| &node.attributes) {
        match &attribute.value {
            AttributeValue::Graph(graph) => visit(model, graph),
            AttributeValue::Tensor(tensor) => drop(model.read_tensor(tensor)),
            AttributeValue::String(span) => drop(model.source().read(*span)),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(plans in prop::collection::vec(node_plan(), 0..6)) {
        let bytes = model_bytes(graph_of(&plans));
        let model = parse(bytes.clone()).expect("a valid model");
        prop_assert_eq!(model.graph.nodes.len(), plans.len());
        for (read, plan) in model.graph.nodes.iter().zip(&plans) {
            check(&model, read, plan);
        }
        prop_assert_eq!(written(Edits::new(&model)), bytes);
    }

    #[test]
    fn edited_models_equal_those_built_anew(
        plans in prop::collection::vec((node_plan(), edit()), 0..6),
    ) {
        let before = model_bytes(graph_of(plans.iter().map(|(plan, _)| plan)));
        let model = parse(before).expect("a valid model");
        let mut edits = Edits::new(&model);
        let mut expected = Vec::new();
        for (node, (plan, edit)) in model.graph.nodes.iter().zip(&plans) {
            let at = node.message;
            match edit {
                Edit::Keep => expected.push(plan),
                Edit::Remove => edits.remove(at),
                Edit::Replace(new) => {
                    edits.replace(at, encoded(new));
                    expected.push(new);
                }
                Edit::Before(new) => {
                    edits.insert_before(at, encoded(new));
                    expected.extend([new, plan]);
                }
                Edit::After(new) => {
                    edits.insert_after(at, encoded(new));
                    expected.extend([plan, new]);
                }
            }
        }
        prop_assert_eq!(written(edits), model_bytes(graph_of(expected)));
    }

    #[test]
    fn shapes_of_values_are_read_back(dims in prop::collection::vec(any::<i64>(), 0..6)) {
        let dims: Vec<_> = dims.into_iter().map(campana_onnx::Dim::Value).collect();
        let value = campana_onnx::NewValueInfo::tensor("x", ElementType::I8, Some(&dims));
        let graph = Content::default().message(schema::graph::OUTPUT, value);
        let model = parse(model_bytes(graph)).expect("a valid model");
        let Some(ValueType::Tensor(read)) = &model.graph.outputs[0].value_type else {
            panic!("a tensor");
        };
        prop_assert_eq!(read.element_type, ElementType::I8);
        prop_assert_eq!(read.shape.as_ref(), Some(&dims));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn damaged_models_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = varied_model();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(bytes);
    }
}
