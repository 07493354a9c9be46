//! What a few bytes may ask for, and how it is stopped.

use std::time::{Duration, Instant};

use super::*;
use crate::{Interrupt, Limits};

fn error_of(builder: &Builder) -> crate::PlanError {
    Plan::new(&builder.graph, PlanOptions::default()).unwrap_err()
}

#[test]
fn values_from_constants_have_a_limit() {
    let scalar = |b: &mut Builder, value: i64| {
        b.constant(Tensor::new(vec![], TensorData::I64(vec![value])).unwrap())
    };
    for (i, len) in [1 << 30, (1i64 << 31) - 1, 1 << 40, i64::MAX]
        .into_iter()
        .enumerate()
    {
        let mut b = Builder::new();
        b.input("x");
        let shape = b.ints(&[len]);
        let filled = b.node("ConstantOfShape", &[&shape], &[]);
        b.output(&filled);
        let error = error_of(&b);
        let expected = if i < 2 {
            PlanErrorKind::Limit
        } else {
            PlanErrorKind::Unsupported
        };
        assert_eq!(error.kind(), expected, "{error}");
        assert!(error.to_string().contains("node0"), "{error}");

        let mut b = Builder::new();
        b.input("x");
        let (first, last, step) = (scalar(&mut b, 0), scalar(&mut b, len), scalar(&mut b, 1));
        let range = b.node("Range", &[&first, &last, &step], &[]);
        b.output(&range);
        let error = error_of(&b);
        assert_eq!(error.kind(), expected, "{error}");
    }
}

#[test]
fn the_limit_can_be_set() {
    let mut b = Builder::new();
    b.input("x");
    let shape = b.ints(&[1000]);
    let filled = b.node("ConstantOfShape", &[&shape], &[]);
    b.output(&filled);
    for (max_value_bytes, fits) in [(3999, false), (4000, true)] {
        let options = PlanOptions {
            limits: Limits {
                max_value_bytes,
                ..Limits::default()
            },
            ..PlanOptions::default()
        };
        assert_eq!(Plan::new(&b.graph, options).is_ok(), fits);
    }
}

#[test]
fn attributes_of_convolutions_that_make_no_sense_are_errors() {
    for (name, value) in [
        ("group", Attribute::Int(0)),
        ("group", Attribute::Int(i64::MAX)),
        ("group", Attribute::Int(-1)),
        ("strides", Attribute::Ints(vec![0, 0])),
        ("dilations", Attribute::Ints(vec![i64::MAX, 1])),
        ("pads", Attribute::Ints(vec![i64::MAX; 4])),
    ] {
        for op_type in ["Conv", "ConvTranspose"] {
            let mut b = Builder::new();
            let x = b.input("x");
            let weights = b.noise(&[3, 3, 3, 3]);
            let y = b.node(op_type, &[&x, &weights], &[(name, value.clone())]);
            b.output(&y);
            let input = noise(&[1, 3, 8, 8], 1);
            let result = Plan::new(&b.graph, PlanOptions::default())
                .map_err(|error| error.to_string())
                .and_then(|plan| {
                    let session = Session::new(plan, 1);
                    let result = session.run(&[("x", (&input).into())]);
                    result.map_err(|error| error.to_string())
                });
            let error = result.expect_err("an error");
            assert!(error.contains("node0"), "{op_type} {name}: {error}");
        }
    }
}

#[test]
fn windows_that_no_input_fits_are_refused_before_anything_runs() {
    for (name, value) in [
        ("group", Attribute::Int(0)),
        ("group", Attribute::Int(i64::MAX)),
        ("strides", Attribute::Ints(vec![0, 0])),
        ("dilations", Attribute::Ints(vec![1, -1])),
    ] {
        let mut b = Builder::new();
        let x = b.input("x");
        let y = b.conv(&x, &[3, 3, 3, 3], &[(name, value)]);
        b.output(&y);
        let error = error_of(&b);
        assert_eq!(error.kind(), PlanErrorKind::Invalid);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn batch_normalization_in_training_is_refused_at_every_opset() {
    for (opset, outputs, attribute) in [
        (6, 1, Some(("is_test", 0))),
        (6, 1, None),
        (7, 5, None),
        (9, 5, None),
        (13, 5, None),
        (14, 3, Some(("training_mode", 1))),
        (15, 1, Some(("training_mode", 1))),
    ] {
        let mut b = Builder::new();
        let x = b.input("x");
        let y = b.normalize(&x, 3);
        b.output(&y);
        b.graph.opsets.insert(String::new(), opset);
        let node = &mut b.graph.nodes[0];
        node.outputs
            .extend((1..outputs).map(|i| format!("more{i}")));
        if let Some((name, value)) = attribute {
            node.attributes.insert(name.into(), Attribute::Int(value));
        }
        let error = error_of(&b);
        assert_eq!(error.kind(), PlanErrorKind::Unsupported);
        assert!(error.to_string().contains("training mode"), "{error}");
    }
}

/// A pool of 25 million windows over an image of 16 x 16.
fn slow() -> (Builder, Tensor) {
    let mut b = Builder::new();
    let x = b.input("x");
    let attributes = [
        ("kernel_shape", Attribute::Ints(vec![5000, 5000])),
        ("pads", Attribute::Ints(vec![4999; 4])),
    ];
    let y = b.node("AveragePool", &[&x], &attributes);
    b.output(&y);
    (b, noise(&[1, 1, 16, 16], 1))
}

#[test]
fn a_run_that_takes_long_can_be_stopped() {
    /// Far below what the run would take, far above what stopping does.
    const MAX_WAIT: Duration = Duration::from_secs(20);
    let (b, input) = slow();
    let mut session = Session::new(Plan::new(&b.graph, PlanOptions::default()).unwrap(), 2);
    let flag = Interrupt::new();
    session.set_interrupt(flag.clone());
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            flag.set();
        });
        let error = session.run(&[("x", (&input).into())]).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::Interrupted);
    });
    assert!(start.elapsed() < MAX_WAIT);
}

#[test]
fn planning_can_be_stopped() {
    let mut b = Builder::new();
    b.input("x");
    let constant = b.noise(&[4]);
    let y = b.node("Relu", &[&constant], &[]);
    b.output(&y);
    let interrupt = Interrupt::new();
    interrupt.set();
    let options = PlanOptions {
        interrupt: Some(interrupt),
        ..PlanOptions::default()
    };
    let error = Plan::new(&b.graph, options).unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Interrupted);
}

#[test]
fn a_pool_cut_into_rows_gives_what_the_whole_gives() {
    let mut b = Builder::new();
    let x = b.input("x");
    let attributes = [
        ("kernel_shape", Attribute::Ints(vec![90, 90])),
        ("pads", Attribute::Ints(vec![60, 10, 89, 10])),
        ("strides", Attribute::Ints(vec![2, 1])),
    ];
    let y = b.node("AveragePool", &[&x], &attributes);
    let y = b.node(
        "MaxPool",
        &[&y],
        &[("kernel_shape", Attribute::Ints(vec![2, 2]))],
    );
    b.output(&y);
    b.check(&[("x", noise(&[1, 4, 100, 100], 3))]);
}
