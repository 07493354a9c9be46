//! Functions of single elements, as steps and by their reference fallback.

use super::*;

/// `x` at every scale where a function may change what it does.
fn arguments() -> Tensor {
    let values =
        (0..2 * 6 * 5 * 7).map(|i| (i as f32 * 0.37).sin() * [0.01, 1.0, 5.0, 30.0][i % 4]);
    Tensor::new(vec![2, 6, 5, 7], TensorData::F32(values.collect())).unwrap()
}

#[test]
fn functions_of_one_element_equal_their_plain_form() {
    let float = |name, value| vec![(name, Attribute::Float(value))];
    let cases = [
        ("Tanh", vec![]),
        ("Erf", vec![]),
        ("Softplus", vec![]),
        ("Mish", vec![]),
        ("Elu", float("alpha", 0.7)),
        ("Selu", vec![]),
        ("Celu", float("alpha", 0.5)),
        ("Celu", float("alpha", -0.5)),
        ("Swish", vec![]),
        ("Swish", float("alpha", 1.7)),
        ("Gelu", vec![]),
        (
            "Gelu",
            vec![("approximate", Attribute::String(b"tanh".to_vec()))],
        ),
    ];
    for (op_type, attributes) in cases {
        let mut b = Builder::new();
        let x = b.input("x");
        let y = b.node(op_type, &[&x], &attributes);
        b.output(&y);
        b.check(&[("x", arguments())]);
    }
}

#[test]
fn slopes_of_every_shape_equal_the_plain_form() {
    for slope in [
        &[6, 1, 1][..],
        &[1],
        &[2, 6, 5, 7],
        &[1, 6, 1, 1],
        &[5, 1],
        &[7],
    ] {
        for behind_a_convolution in [false, true] {
            let mut b = Builder::new();
            let mut x = b.input("x");
            if behind_a_convolution {
                x = b.conv(&x, &[6, 6, 1, 1], &[]);
            }
            let slope = b.noise(slope);
            let y = b.node("PRelu", &[&x, &slope], &[]);
            b.output(&y);
            b.check(&[("x", arguments())]);
        }
    }
}

#[test]
fn slopes_that_are_not_finite_or_not_known_equal_the_plain_form() {
    let mut b = Builder::new();
    let (x, slope) = (b.input("x"), b.input("slope"));
    let infinite = b.constant(scalar(f32::INFINITY));
    let y = b.node("PRelu", &[&x, &slope], &[]);
    b.output(&y);
    let square = b.node("Abs", &[&x], &[]);
    let z = b.node("PRelu", &[&square, &infinite], &[]);
    b.output(&z);
    b.check(&[("x", arguments()), ("slope", noise(&[6, 1, 1], 3))]);
}

#[test]
fn any_number_of_operands_is_combined_as_by_the_plain_form() {
    for op_type in ["Max", "Min", "Sum", "Mean"] {
        for count in [1, 2, 4] {
            let mut b = Builder::new();
            let x = b.input("x");
            let y = b.conv(&x, &[6, 6, 1, 1], &[]);
            let (channels, one) = (b.noise(&[6, 1, 1]), b.noise(&[1]));
            let result = b.node(op_type, &[&*y, &channels, &x, &one][..count], &[]);
            b.output(&result);
            b.check(&[("x", arguments())]);
        }
    }
}

#[test]
fn powers_by_one_number_equal_their_plain_form() {
    for exponent in [2.0, 3.0, 0.5, -1.0, 1.5] {
        for shape in [vec![], vec![1, 1], vec![1; 5]] {
            let mut b = Builder::new();
            let x = b.input("x");
            let positive = b.node("Sigmoid", &[&x], &[]);
            let exponent = Tensor::new(shape, TensorData::F32(vec![exponent])).unwrap();
            let exponent = b.constant(exponent);
            let y = b.node("Pow", &[&positive, &exponent], &[]);
            b.output(&y);
            b.check(&[("x", noise(&[2, 6, 5, 7], 9))]);
        }
    }
    let mut b = Builder::new();
    let x = b.input("x");
    let exponent = b.constant(Tensor::new(vec![], TensorData::I64(vec![2])).unwrap());
    let y = b.node("Pow", &[&x, &exponent], &[]);
    b.output(&y);
    b.check(&[("x", arguments())]);
}
