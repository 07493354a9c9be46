//! If, Loop and Scan.

use super::*;

fn int(value: i64) -> Tensor {
    Tensor::new(vec![], TensorData::I64(vec![value])).unwrap()
}

fn bool(value: bool) -> Tensor {
    Tensor::new(vec![], TensorData::Bool(vec![value])).unwrap()
}

fn graph(builder: Builder) -> Attribute {
    Attribute::Graph(Box::new(builder.graph))
}

/// A branch that multiplies `x` of the graph around it with a factor.
fn scaling(factor: f32) -> Attribute {
    let mut b = Builder::new();
    let data = TensorData::F32(vec![factor]);
    let factor = b.constant(Tensor::new(vec![1], data).unwrap());
    let y = b.node("Mul", &["features", &factor], &[]);
    b.output(&y);
    graph(b)
}

/// A convolution `features` and an If that scales it by 2 or by 3.
fn branching(condition: &str, b: &mut Builder) {
    let features = b.conv("x", &[2, 3, 1, 1], &[]);
    b.node("Identity", &[&features], &[]);
    b.graph.nodes[1].outputs[0] = "features".into();
    let branches = [("then_branch", scaling(2.0)), ("else_branch", scaling(3.0))];
    let y = b.node("If", &[condition], &branches);
    let y = b.node("Relu", &[&y], &[]);
    b.output(&y);
}

#[test]
fn a_branch_is_chosen_by_a_value_and_reads_what_is_around_it() {
    let mut b = Builder::new();
    b.input("x");
    let condition = b.input("condition");
    branching(&condition, &mut b);
    for value in [true, false] {
        b.check(&[("x", noise(&[2, 3, 4, 4], 1)), ("condition", bool(value))]);
    }
}

#[test]
fn a_branch_with_a_constant_condition_takes_the_place_of_its_node() {
    for value in [true, false] {
        let mut b = Builder::new();
        b.input("x");
        let condition = b.constant(bool(value));
        branching(&condition, &mut b);
        let plan = Plan::new(&b.graph, PlanOptions::default()).unwrap();
        assert!(
            plan.nodes
                .iter()
                .all(|planned| planned.node.op_type != "If")
        );
        b.check(&[("x", noise(&[2, 3, 4, 4], 2))]);
    }
}

#[test]
fn a_loop_carries_values_and_collects_others() {
    let mut body = Builder::new();
    body.input("pass");
    body.input("goes_on");
    let state = body.input("state");
    let sum = body.node("Add", &[&state, "x"], &[]);
    let limit = Tensor::new(vec![], TensorData::I64(vec![2])).unwrap();
    let limit = body.constant(limit);
    let goes_on = body.node("Less", &["pass", &limit], &[]);
    for name in [&goes_on, &sum, &sum] {
        body.output(name);
    }
    let mut b = Builder::new();
    let x = b.input("x");
    let count = b.constant(int(10));
    let condition = b.constant(bool(true));
    let zero = b.constant(Tensor::new(vec![2], TensorData::F32(vec![0.0; 2])).unwrap());
    let last = b.node(
        "Loop",
        &[&count, &condition, &zero],
        &[("body", graph(body))],
    );
    b.graph.nodes[0].outputs.push("all".into());
    b.output(&last);
    b.output("all");
    let session = Session::new(Plan::new(&b.graph, PlanOptions::default()).unwrap(), 1);
    let input = Tensor::new(vec![2], TensorData::F32(vec![1.0, 10.0])).unwrap();
    let outputs = session.run(&[(&x, (&input).into())]).unwrap();
    // The third pass, number 2, says that it is the last.
    assert_eq!(outputs[0].data(), &TensorData::F32(vec![3.0, 30.0]));
    assert_eq!(outputs[1].shape(), [3, 2]);
    let all = vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
    assert_eq!(outputs[1].data(), &TensorData::F32(all));
}

#[test]
fn a_body_without_its_inputs_is_an_error() {
    let mut body = Builder::new();
    let y = body.node("Add", &["nowhere", "nowhere"], &[]);
    body.output(&y);
    let mut b = Builder::new();
    let condition = b.input("condition");
    let attributes = [("then_branch", graph(body)), ("else_branch", scaling(1.0))];
    let y = b.node("If", &[&condition], &attributes);
    b.output(&y);
    let error = Plan::new(&b.graph, PlanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("features"), "{error}");
}
