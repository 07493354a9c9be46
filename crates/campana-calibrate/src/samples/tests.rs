use half::f16;

use super::*;

fn value(name: &str, element_type: ElementType, dims: &[Option<usize>]) -> Value {
    let dims = dims.iter().map(|dim| match dim {
        Some(extent) => Dim::Fixed(*extent),
        None => Dim::Symbol("N".into()),
    });
    Value {
        name: name.into(),
        element_type: Some(element_type),
        shape: Some(dims.collect()),
    }
}

fn synthetic_of(inputs: &[Value], scale: InputScale) -> Batches {
    Batches::new(inputs, &Samples::Synthetic { size: None, scale }).unwrap()
}

#[test]
fn inputs_of_any_rank_type_and_number_are_made() {
    use ElementType::{Bool, F16, F32, I64};
    let inputs = [
        value("image", F32, &[None, Some(3), Some(20), Some(30)]),
        value("last", F32, &[None, Some(20), Some(30), Some(3)]),
        value("volume", F16, &[None, Some(1), Some(4), Some(8), Some(8)]),
        value("signal", F32, &[None, Some(2), Some(100)]),
        value("features", F32, &[None, Some(7)]),
        value("state", F32, &[Some(2), None, Some(16)]),
        value("rate", I64, &[]),
        value("mask", Bool, &[None]),
    ];
    let batches = synthetic_of(&inputs, InputScale::Unknown);
    for (name, tensor) in batches.batch(0) {
        let input = inputs.iter().find(|input| input.name == name).unwrap();
        assert_eq!(
            Some(tensor.data().element_type()),
            input.element_type,
            "{name}"
        );
        let dims = input.shape.as_ref().unwrap();
        let expected: Vec<usize> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(extent) => *extent,
                Dim::Symbol(_) => BATCH,
            })
            .collect();
        assert_eq!(tensor.shape(), expected, "{name}");
    }
    assert_eq!(batches.samples(), batches.len() * BATCH);
}

#[test]
fn no_two_inputs_get_the_same_values() {
    let image = |name| value(name, ElementType::F32, &[None, Some(3), Some(16), Some(16)]);
    let index = |name| value(name, ElementType::I64, &[None, Some(40)]);
    let inputs = [image("left"), image("right"), index("user"), index("item")];
    let mut batches = synthetic_of(&inputs, InputScale::Unknown);
    batches.draw_indices("user", 1000);
    batches.draw_indices("item", 1000);
    let of: Vec<&Tensor> = batches.batch(0).map(|(_, tensor)| tensor).collect();
    assert_ne!(of[0], of[1]);
    assert_ne!(of[2], of[3]);
}

#[test]
fn of_large_samples_there_are_less_than_a_batch() {
    let size = [None, Some(1), Some(500), Some(400)];
    let inputs = [value("x", ElementType::F32, &size)];
    let batches = synthetic_of(&inputs, InputScale::Unknown);
    assert_eq!((batches.len(), batches.samples()), (1, 10));
    let (_, tensor) = batches.batch(0).next().unwrap();
    assert_eq!(tensor.shape(), [10, 1, 500, 400]);
}

#[test]
fn synthetic_images_have_the_scale_that_is_known() {
    let inputs = [value(
        "x",
        ElementType::F32,
        &[None, Some(3), Some(32), Some(32)],
    )];
    let bytes = InputScale::Normalized {
        mean: vec![0.0; 3],
        std: vec![1.0 / 255.0; 3],
    };
    for scale in [bytes, InputScale::Range([0.0, 255.0])] {
        let batches = synthetic_of(&inputs, scale);
        let (_, tensor) = batches.batch(0).next().unwrap();
        let TensorData::F32(values) = tensor.data() else {
            panic!("{tensor:?}")
        };
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((80.0..150.0).contains(&mean), "{mean}");
        let most = values.iter().copied().fold(0.0, f32::max);
        assert!((200.0..400.0).contains(&most), "{most}");
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused_by_name() {
    let inputs = [value("x", ElementType::F32, &[None, Some(3)])];
    let array = |shape: &[usize], data| Tensor::new(shape.to_vec(), data).unwrap();
    let refused = |name: &str, array: Tensor| {
        let samples = Samples::Arrays(vec![(name.into(), array)]);
        Batches::new(&inputs, &samples).unwrap_err().to_string()
    };
    let floats = || TensorData::F32(vec![0.0; 12]);
    assert!(refused("y", array(&[4, 3], floats())).contains("no data for the input 'x'"));
    assert!(refused("x", array(&[3, 4], floats())).contains("[N, 3], the data [3, 4]"));
    let integers = array(&[4, 3], TensorData::I64(vec![0; 12]));
    assert!(refused("x", integers).contains("is float32, the data are int64"));
}

#[test]
fn arrays_of_floats_get_the_type_of_the_input() {
    let inputs = [value("x", ElementType::F16, &[None, Some(2)])];
    let array = Tensor::new(vec![1, 2], TensorData::F32(vec![0.1, 2.0])).unwrap();
    let batches = Batches::new(&inputs, &Samples::Arrays(vec![("x".into(), array)])).unwrap();
    let (_, tensor) = batches.batch(0).next().unwrap();
    let halves = [0.1, 2.0].map(f16::from_f32).to_vec();
    assert_eq!(*tensor.data(), TensorData::F16(halves));
}

#[test]
fn arrays_are_cut_into_batches() {
    let inputs = [value("x", ElementType::F32, &[Some(2), Some(3)])];
    let values: Vec<f32> = (0..15).map(|i| i as f32).collect();
    let array = Tensor::new(vec![5, 3], TensorData::F32(values)).unwrap();
    let batches = Batches::new(&inputs, &Samples::Arrays(vec![("x".into(), array)])).unwrap();
    assert_eq!((batches.len(), batches.samples()), (2, 4));
    let (_, second) = batches.batch(1).next().unwrap();
    assert_eq!(second.shape(), [2, 3]);
    assert_eq!(
        second.data(),
        &TensorData::F32((6..12).map(|i| i as f32).collect())
    );
}

/// A signal and the state of a recurrent layer with one sample in it.
fn with_state(state: &[Option<usize>]) -> [Value; 2] {
    let signal = value("x", ElementType::F32, &[None, Some(4)]);
    [signal, value("state", ElementType::F32, state)]
}

fn counting(shape: &[usize]) -> Tensor {
    let values = (0..shape.iter().product()).map(|i: usize| i as f32);
    Tensor::new(shape.to_vec(), TensorData::F32(values.collect())).unwrap()
}

#[test]
fn inputs_fixed_beside_open_ones_are_for_one_sample() {
    let inputs = with_state(&[Some(2), Some(1), Some(3)]);
    let batches = synthetic_of(&inputs, InputScale::Unknown);
    let shapes: Vec<&[usize]> = batches.batch(0).map(|(_, tensor)| tensor.shape()).collect();
    assert_eq!(shapes, [&[1, 4][..], &[2, 1, 3]]);
    let unnamed = |axis: usize, shape: &mut Value| {
        shape.shape.as_mut().unwrap()[axis] = Dim::Symbol(String::new());
    };
    let mut inputs = with_state(&[Some(2), None, Some(3)]);
    unnamed(0, &mut inputs[0]);
    unnamed(1, &mut inputs[1]);
    let batches = synthetic_of(&inputs, InputScale::Unknown);
    let shapes: Vec<&[usize]> = batches.batch(0).map(|(_, tensor)| tensor.shape()).collect();
    assert_eq!(shapes, [&[BATCH, 4][..], &[2, BATCH, 3]]);
}

#[test]
fn states_are_cut_as_their_arrays_are_laid_out() {
    let fixed = with_state(&[Some(2), Some(1), Some(3)]);
    let open = with_state(&[Some(2), None, Some(3)]);
    // The state of all runs, of each run one after another, stacked, along its own axis.
    // Inputs, the state's shape, runs, and the state of the second run.
    type Case<'c> = (&'c [Value; 2], &'c [usize], usize, &'c [f32]);
    let cases: [Case<'_>; 6] = [
        (&fixed, &[2, 1, 3], 5, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        (&fixed, &[10, 1, 3], 5, &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
        (&fixed, &[5, 2, 1, 3], 5, &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
        (&open, &[10, 1, 3], 5, &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
        (&open, &[2, 1, 3], 5, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        (&open, &[2, 20, 3], 2, &[48.0, 49.0, 50.0]),
    ];
    for (inputs, shape, runs, state) in cases {
        let signals = if runs == 2 { 20 } else { 5 };
        let arrays = vec![
            ("x".to_owned(), counting(&[signals, 4])),
            ("state".to_owned(), counting(shape)),
        ];
        let batches = Batches::new(inputs, &Samples::Arrays(arrays.clone())).unwrap();
        assert_eq!(
            (batches.len(), batches.samples()),
            (runs, signals),
            "{shape:?}"
        );
        let (_, tensor) = batches.batch(1).nth(1).unwrap();
        let TensorData::F32(values) = tensor.data() else {
            panic!("{tensor:?}")
        };
        assert_eq!(&values[..state.len()], state, "{shape:?}");
        let few = Samples::arrays(inputs, arrays, 3).unwrap();
        assert_eq!(
            Batches::new(inputs, &few).unwrap().samples(),
            3,
            "{shape:?}"
        );
    }
}

#[test]
fn few_of_many_samples_are_evenly_spread() {
    let inputs = [value("x", ElementType::I64, &[None, Some(2)])];
    let array = Tensor::new(vec![6, 2], TensorData::I64((0..12).collect())).unwrap();
    let Samples::Arrays(few) = Samples::arrays(&inputs, vec![("x".into(), array)], 3).unwrap()
    else {
        panic!("arrays stay arrays")
    };
    assert_eq!(few[0].1.shape(), [3, 2]);
    assert_eq!(few[0].1.data(), &TensorData::I64(vec![0, 1, 4, 5, 8, 9]));
}

#[test]
fn data_that_would_spoil_all_statistics_are_refused() {
    let inputs = [
        value("x", ElementType::F32, &[None, Some(2)]),
        value("y", ElementType::F32, &[None, Some(2)]),
    ];
    let array = |rows: usize, odd: f32| {
        let mut values = vec![0.5; 2 * rows];
        values[7] = odd;
        Tensor::new(vec![rows, 2], TensorData::F32(values)).unwrap()
    };
    let refusal = |x: Tensor, y: Tensor| {
        let arrays = vec![("x".to_owned(), x), ("y".to_owned(), y)];
        let found = Batches::new(&inputs, &Samples::Arrays(arrays));
        found.err().map(|error| error.to_string())
    };
    assert_eq!(refusal(array(40, 1.0), array(40, 1.0)), None);
    for odd in [f32::NAN, f32::INFINITY] {
        let message = refusal(array(40, 1.0), array(40, odd)).unwrap();
        assert!(message.contains("'y' are not finite"), "{message}");
        assert!(message.contains("row 3 of 40"), "{message}");
    }
    let message = refusal(array(40, 1.0), array(39, 1.0)).unwrap();
    assert!(
        message.contains("40 samples of 'x' and 39 of 'y'"),
        "{message}"
    );
}

#[test]
fn a_graph_and_its_edges_are_one_sample() {
    let edges = Value {
        name: "edges".into(),
        element_type: Some(ElementType::I64),
        shape: Some(vec![Dim::Fixed(2), Dim::Symbol("e".into())]),
    };
    let inputs = [value("x", ElementType::F32, &[None, Some(4)]), edges];
    let nodes = Tensor::new(vec![6, 4], TensorData::F32(vec![0.5; 24])).unwrap();
    let ends = (0..10).map(|at| at % 6).collect();
    let ends = Tensor::new(vec![2, 5], TensorData::I64(ends)).unwrap();
    let arrays = vec![("x".to_owned(), nodes), ("edges".to_owned(), ends)];
    let batches = Batches::new(&inputs, &Samples::Arrays(arrays)).unwrap();
    assert_eq!((batches.len(), batches.samples()), (1, 1));
    let shapes: Vec<&[usize]> = batches.batch(0).map(|(_, tensor)| tensor.shape()).collect();
    assert_eq!(shapes, [&[6, 4][..], &[2, 5]]);
}
