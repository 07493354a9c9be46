//! Values that no image makes, shapes that are computed, and outputs without a
//! batch.

use super::*;

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), TensorData::F32(values.to_vec())).unwrap()
}

fn run(builder: &Builder, inputs: &[(&str, &Tensor)], threads: usize) -> Vec<Tensor> {
    let plan = Plan::new(&builder.graph, PlanOptions::default()).unwrap();
    let session = Session::new(plan, threads);
    let named: Vec<(&str, Input<'_>)> = inputs.iter().map(|(n, t)| (*n, (*t).into())).collect();
    session.run(&named).unwrap()
}

#[test]
fn an_output_from_parameters_alone_is_the_same_at_any_batch() {
    let mut b = Builder::new();
    let x = b.input("x");
    let y = b.conv(&x, &[4, 3, 3, 3], &[]);
    let scalar = b.constant(tensor(&[], &[0.5]));
    let z = b.node("Tanh", &[&scalar], &[]);
    let c = b.constant(tensor(&[5, 4], &[1.0; 20]));
    let c = b.node("Identity", &[&c], &[]);
    for name in [&y, &z, &c] {
        b.output(name);
    }
    for batch in [1, 2, 5] {
        let outputs = run(&b, &[("x", &noise(&[batch, 3, 6, 6], 1))], 2);
        assert_eq!(outputs[0].shape(), [batch, 4, 4, 4]);
        assert_eq!(outputs[1].shape(), [] as [usize; 0]);
        assert_eq!(outputs[2].shape(), [5, 4]);
        b.check(&[("x", noise(&[batch, 3, 6, 6], 1))]);
    }
}

#[test]
fn an_output_may_be_a_scalar() {
    let mut b = Builder::new();
    let x = b.input("x");
    let y = b.conv(&x, &[4, 3, 3, 3], &[]);
    let y = b.node("ReduceSum", &[&y], &[("keepdims", Attribute::Int(0))]);
    b.output(&y);
    for batch in [1, 3] {
        let outputs = run(&b, &[("x", &noise(&[batch, 3, 6, 6], 2))], 1);
        assert_eq!(outputs[0].shape(), [] as [usize; 0]);
        b.check(&[("x", noise(&[batch, 3, 6, 6], 2))]);
    }
}

/// Whether the batch is run image by image.
fn is_split(builder: &Builder, input: &Tensor) -> bool {
    let plan = Plan::new(&builder.graph, PlanOptions::default()).unwrap();
    let session = Session::new(plan, 1);
    session.prepare(&[input.into()]).unwrap().images.is_some()
}

/// Adds nodes behind a value.
type Make<'a> = &'a dyn Fn(&mut Builder, &str) -> String;

#[test]
fn what_moves_images_runs_on_the_whole_batch() {
    // Each of these gives the shapes of single images but mixes them.
    let images = noise(&[2, 2, 2, 2], 3);
    let reversed = |b: &mut Builder, x: &str| {
        let integer = b.node("Cast", &[x], &[("to", Attribute::Int(7))]);
        let (start, end) = (b.ints(&[-1]), b.ints(&[i64::MIN]));
        let (axis, step) = (b.ints(&[0]), b.ints(&[-1]));
        let turned = b.node("Slice", &[&integer, &start, &end, &axis, &step], &[]);
        b.node("Cast", &[&turned], &[("to", Attribute::Int(1))])
    };
    let summed = |b: &mut Builder, x: &str| {
        let axis = b.ints(&[0]);
        let sum = b.node("ReduceSum", &[x, &axis], &[]);
        b.node("Add", &[x, &sum], &[])
    };
    let softmax =
        |b: &mut Builder, x: &str| b.node("Softmax", &[x], &[("axis", Attribute::Int(-4))]);
    let shaped = |b: &mut Builder, x: &str| {
        let shape = b.node("Shape", &[x], &[("end", Attribute::Int(1))]);
        let batch = b.node("Cast", &[&shape], &[("to", Attribute::Int(1))]);
        b.node("Div", &[x, &batch], &[])
    };
    let makers: [Make<'_>; 4] = [&reversed, &summed, &softmax, &shaped];
    for (i, make) in makers.into_iter().enumerate() {
        let mut b = Builder::new();
        let x = b.input("x");
        let y = b.conv(&x, &[2, 2, 1, 1], &[]);
        let y = make(&mut b, &y);
        b.output(&y);
        assert!(!is_split(&b, &images), "case {i}");
        b.check(&[("x", images.clone())]);
    }
}

#[test]
fn places_of_maxima_count_over_the_whole_batch() {
    let mut b = Builder::new();
    let x = b.input("x");
    let kernel = [("kernel_shape", Attribute::Ints(vec![2, 2]))];
    let y = b.node("MaxPool", &[&x], &kernel);
    b.graph.nodes[0].outputs.push("places".into());
    let places = b.node("Cast", &["places"], &[("to", Attribute::Int(1))]);
    b.output(&y);
    b.output(&places);
    b.check(&[("x", noise(&[3, 2, 5, 5], 4))]);
}

#[test]
fn attention_and_computed_shapes_run_image_by_image() {
    let mut b = Builder::new();
    let x = b.input("x");
    let y = b.conv(&x, &[4, 3, 3, 3], &[]);
    let shape = b.node("Shape", &[&y], &[]);
    let zero = b.constant(Tensor::new(vec![], TensorData::I64(vec![0])).unwrap());
    let batch = b.node("Gather", &[&shape, &zero], &[]);
    let axes = b.ints(&[0]);
    let batch = b.node("Unsqueeze", &[&batch, &axes], &[]);
    let rest = b.ints(&[4, -1]);
    let target = b.node("Concat", &[&batch, &rest], &[("axis", Attribute::Int(0))]);
    let tokens = b.node("Reshape", &[&y, &target], &[]);
    let perm = Attribute::Ints(vec![0, 2, 1]);
    let turned = b.node("Transpose", &[&tokens], &[("perm", perm)]);
    let scores = b.node("MatMul", &[&turned, &tokens], &[]);
    let scores = b.node("Softmax", &[&scores], &[]);
    let mixed = b.node("MatMul", &[&scores, &turned], &[]);
    let axes = b.ints(&[1]);
    let pooled = b.node(
        "ReduceMean",
        &[&mixed],
        &[("axes", Attribute::Ints(vec![1]))],
    );
    let flat = b.node("Squeeze", &[&pooled, &axes], &[]);
    b.output(&flat);
    let images = noise(&[3, 3, 6, 6], 5);
    assert!(is_split(&b, &images));
    b.check(&[("x", images)]);
}

#[test]
fn what_follows_a_value_dependent_shape_is_compiled_when_it_is_known() {
    // Rows that are kept depend on the data; a layer follows.
    let mut b = Builder::new();
    let x = b.input("x");
    let y = b.conv(&x, &[4, 3, 3, 3], &[]);
    let flat = b.node("Flatten", &[&y], &[("axis", Attribute::Int(2))]);
    let axes = b.ints(&[1]);
    let sums = b.node(
        "ReduceSum",
        &[&flat, &axes],
        &[("keepdims", Attribute::Int(0))],
    );
    let zero = b.constant(tensor(&[], &[0.0]));
    let kept = b.node("Greater", &[&sums, &zero], &[]);
    let rows = b.node("Compress", &[&flat, &kept], &[("axis", Attribute::Int(0))]);
    let weights = b.noise(&[16, 5]);
    let result = b.node("MatMul", &[&rows, &weights], &[]);
    let result = b.node("Relu", &[&result], &[]);
    b.output(&result);
    for seed in 6..9 {
        b.check(&[("x", noise(&[3, 3, 6, 6], seed))]);
    }
}

#[test]
fn convolutions_over_three_axes_keep_what_was_fused_into_them() {
    let mut b = Builder::new();
    let x = b.input("x");
    let pads = [("pads", Attribute::Ints(vec![1; 6]))];
    let y = b.conv(&x, &[4, 3, 3, 3, 3], &pads);
    let y = b.normalize(&y, 4);
    let other = b.conv(&x, &[4, 3, 3, 3, 3], &pads);
    let sum = b.node("Add", &[&y, &other], &[]);
    let result = b.node("Relu", &[&sum], &[]);
    let pool = [("kernel_shape", Attribute::Ints(vec![2, 2, 2]))];
    let result = b.node("MaxPool", &[&result], &pool);
    b.output(&result);
    b.check(&[("x", noise(&[2, 3, 4, 5, 6], 9))]);
}

#[test]
fn a_mean_over_pixels_is_a_global_pool() {
    for keeps_axes in [0, 1] {
        let mut b = Builder::new();
        let x = b.input("x");
        let y = b.conv(&x, &[5, 3, 3, 3], &[]);
        let attributes = [
            ("axes", Attribute::Ints(vec![-1, 2])),
            ("keepdims", Attribute::Int(keeps_axes)),
        ];
        let y = b.node("ReduceMean", &[&y], &attributes);
        b.output(&y);
        let images = noise(&[3, 3, 6, 6], 5);
        assert!(is_split(&b, &images));
        b.check(&[("x", images)]);
    }
}

#[test]
fn shapes_that_exporters_compute_need_no_stages() {
    let Some(folder) = campana_testing::shared("cases/files") else {
        return;
    };
    for name in [
        "flatten_by_shape",
        "torch_chunk",
        "torch_chunk_dynamo",
        "torch_layer_norm",
        "torch_layer_norm_dynamo",
        "torch_layer_scale",
        "torch_layer_scale_dynamo",
        "torch_pad",
        "torch_pad_dynamo",
        "torch_shuffle",
        "torch_shuffle_dynamo",
        "parameter_unsqueeze",
    ] {
        let graph = campana_ir::format::load(folder.join(format!("{name}.onnx"))).unwrap();
        let shape: Vec<usize> = graph.inputs[0]
            .shape
            .iter()
            .flatten()
            .map(|dim| match dim {
                Dim::Fixed(extent) => *extent,
                Dim::Symbol(_) => 3,
            })
            .collect();
        let input = noise(&shape, 1);
        let session = Session::new(Plan::new(&graph, PlanOptions::default()).unwrap(), 1);
        let prepared = session.prepare(&[(&input).into()]).unwrap();
        assert!(!prepared.program.staged, "{name}");
        let builder = Builder { graph, seed: 0 };
        let name = builder.graph.inputs[0].name.clone();
        builder.check(&[(&name, input)]);
    }
}

#[test]
fn image_networks_run_image_by_image() {
    let Some(folder) = campana_testing::shared("models") else {
        return;
    };
    for (name, size) in [
        ("cifar10_resnet20", 32),
        ("cifar10_resnet8_mlperf", 32),
        ("imagenet_mobilenetv1_025", 224),
        ("imagenet_efficientnet_lite0_bn", 224),
    ] {
        let path = folder.join(format!("{name}.onnx"));
        let graph = campana_ir::format::load(path).unwrap();
        let builder = Builder { graph, seed: 0 };
        let input = noise(&[2, 3, size, size], 1);
        assert!(is_split(&builder, &input), "{name}");
    }
}
