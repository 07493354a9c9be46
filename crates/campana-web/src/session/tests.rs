use super::*;
use crate::prepare_picture;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(campana_testing::fixture(name)).expect("the fixture")
}

#[test]
fn a_network_says_what_it_takes_and_runs() {
    let session = Session::open(fixture("cifar10_resnet8.onnx")).expect("a network");
    let inputs = session.inputs();
    assert_eq!(inputs[0].element_type, "float32");
    let dims = inputs[0].dims.as_ref().expect("a shape");
    assert_eq!(dims[1..], [3, 32, 32]);
    let zeros = vec![0; 4 * 3 * 32 * 32];
    let input = tensor("float32", vec![1, 3, 32, 32], &zeros).expect("a tensor");
    let name = inputs[0].name.clone();
    let outputs = session.run(&[(name, input)]).expect("logits");
    assert_eq!(outputs[0].shape(), [1, 10]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let session = Session::open(fixture("cifar10_resnet8.onnx")).expect("a network");
    let input = || tensor("float32", vec![1], &[0; 4]).expect("a tensor");
    let error = session
        .run(&[("nowhere".to_owned(), input())])
        .expect_err("no such input");
    assert!(error.to_string().contains("nowhere"), "{error}");
    let name = session.inputs()[0].name.clone();
    session.run(&[(name, input())]).expect_err("another shape");
    tensor("float32", vec![2], &[0; 4]).expect_err("too few");
    tensor("float33", vec![1], &[0; 4]).expect_err("no type");
    Session::open(b"no network".to_vec()).expect_err("no network");
}

#[test]
fn a_picture_that_is_none_is_refused_by_name() {
    let sidecar = fixture("cifar10_resnet8.json");
    let sidecar = String::from_utf8(sidecar).expect("text");
    let error = prepare_picture(&sidecar, "a.png", b"no picture").expect_err("no picture");
    assert!(error.to_string().contains("a.png"), "{error}");
}
