use super::*;
use crate::graph::Attribute;

fn node(op_type: &str, attributes: &[(&str, Attribute)]) -> Node {
    Node {
        op_type: op_type.into(),
        inputs: vec!["x".into(), "w".into()],
        outputs: vec!["y".into()],
        attributes: attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        ..Node::default()
    }
}

#[test]
fn windows_are_checked_where_they_are_parsed() {
    for (name, value) in [
        ("group", Attribute::Int(0)),
        ("group", Attribute::Int(i64::MAX)),
        ("strides", Attribute::Ints(vec![1, 0])),
        ("dilations", Attribute::Ints(vec![-1, 1])),
        ("pads", Attribute::Ints(vec![0, 0, 1 << 40, 0])),
        ("kernel_shape", Attribute::Float(3.0)),
        ("auto_pad", Attribute::String(b"SAME".to_vec())),
    ] {
        let error = Op::parse(&node("Conv", &[(name, value)]), 17).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn depthwise_is_one_input_channel_of_several() {
    let conv = |groups| match Op::parse(&node("Conv", &[("group", Attribute::Int(groups))]), 17) {
        Ok(Op::Conv(convolution)) => convolution,
        other => panic!("{other:?}"),
    };
    assert!(conv(8).is_depthwise(&[8, 1, 3, 3]));
    assert!(conv(8).is_depthwise(&[16, 1, 3, 3]), "a multiplier of 2");
    assert!(!conv(1).is_depthwise(&[16, 1, 3, 3]), "a grey image");
    assert!(!conv(32).is_depthwise(&[128, 4, 3, 3]), "grouped");
}

#[test]
fn training_is_told_at_every_opset() {
    let training = |node: &Node, opset| match Op::parse(node, opset) {
        Ok(Op::BatchNormalization(found)) => found.training,
        other => panic!("{other:?}"),
    };
    let plain = node("BatchNormalization", &[]);
    let mut five_outputs = plain.clone();
    five_outputs
        .outputs
        .extend(["a", "b", "c", "d"].map(String::from));
    let told = node(
        "BatchNormalization",
        &[("training_mode", Attribute::Int(1))],
    );
    assert!(!training(&plain, 9) && training(&five_outputs, 9));
    assert!(training(&told, 15) && !training(&plain, 15));
    assert!(training(&plain, 6), "is_test is 0 by default");
}

#[test]
fn other_domains_are_not_taken_for_onnx() {
    let mut own = node("Conv", &[("group", Attribute::Int(0))]);
    own.domain = "com.example".into();
    assert_eq!(Op::parse(&own, 17), Ok(Op::Other(ResultTypes::Unknown)));
}
