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
