//! Elements of every type, in every place where a file can keep them.

use campana_onnx::{
    Content, DataLocation, Error, ErrorKind, Limits, Model, NewTensor, Result, Source, schema,
};
use campana_tensor::{ElementType, Tensor, TensorData};
use half::{bf16, f16};

use crate::common::{initializer, model_bytes};

use schema::tensor as field;

/// A model with this initializer, of any number of elements.
fn with<'a>(tensor: impl Into<Content<'a>>) -> Model {
    let limits = Limits {
        max_elements: usize::MAX,
        ..Limits::DEFAULT
    };
    let bytes = model_bytes(initializer(tensor));
    Model::parse_within(Source::from_bytes(bytes), &limits).expect("a valid model")
}

fn read(model: &Model) -> Result<Tensor> {
    model.read_tensor(&model.graph.initializers[0])
}

fn header(dims: &[i64], element_type: ElementType) -> Content<'static> {
    Content::default()
        .ints(field::DIMS, dims)
        .int(field::DATA_TYPE, element_type.to_onnx().into())
        .string(field::NAME, "t")
}

fn raw(dims: &[usize], element_type: ElementType, bytes: &[u8]) -> NewTensor<'static> {
    NewTensor::raw("t", dims, element_type, bytes.to_vec())
}

#[test]
fn raw_elements_of_every_type_are_read() {
    let all = (0..16u8).collect::<Vec<_>>();
    macro_rules! le {
        ($type:ty) => {
            all.chunks_exact(size_of::<$type>())
                .map(|bytes| <$type>::from_le_bytes(bytes.try_into().expect("a width")))
                .collect()
        };
    }
    let cases = [
        TensorData::F32(le!(f32)),
        TensorData::F64(le!(f64)),
        TensorData::F16(le!(f16)),
        TensorData::Bf16(le!(bf16)),
        TensorData::I8(le!(i8)),
        TensorData::U8(le!(u8)),
        TensorData::I16(le!(i16)),
        TensorData::U16(le!(u16)),
        TensorData::I32(le!(i32)),
        TensorData::U32(le!(u32)),
        TensorData::I64(le!(i64)),
        TensorData::U64(le!(u64)),
        TensorData::Bool(all.iter().map(|&byte| byte != 0).collect()),
    ];
    for data in cases {
        let dims = [2, data.len() / 2];
        let model = with(raw(&dims, data.element_type(), &all));
        let tensor = read(&model).expect("a tensor");
        assert_eq!(tensor.shape(), dims);
        assert_eq!(tensor.data(), &data);
    }
}

#[test]
fn four_bit_elements_come_one_a_byte() {
    let bytes = [0x21, 0xf8, 0x07];
    let model = with(raw(&[5], ElementType::U4, &bytes));
    let data = read(&model).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::U8(vec![1, 2, 8, 15, 7]));
    let model = with(raw(&[5], ElementType::I4, &bytes));
    let data = read(&model).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::I8(vec![1, 2, -8, -1, 7]));
    // In int32_data each integer holds a byte, too.
    let typed = header(&[3], ElementType::I4).ints(field::INT32_DATA, &[0xf8, 0x01]);
    let data = read(&with(typed)).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::I8(vec![-8, -1, 1]));
}

#[test]
fn typed_elements_are_read_packed_and_one_by_one() {
    let floats = header(&[3], ElementType::F32)
        .floats(field::FLOAT_DATA, &[1.0])
        .float(field::FLOAT_DATA, 2.0)
        .floats(field::FLOAT_DATA, &[3.0]);
    let model = with(floats);
    assert_eq!(
        model.graph.initializers[0].data,
        DataLocation::Typed(field::FLOAT_DATA)
    );
    let values = model.read_f32(&model.graph.initializers[0]);
    assert_eq!(values.expect("read"), [1.0, 2.0, 3.0]);

    let small = |element_type| {
        header(&[3], element_type)
            .int(field::INT32_DATA, -1)
            .ints(field::INT32_DATA, &[0, 100])
    };
    let cases = [
        TensorData::I8(vec![-1, 0, 100]),
        TensorData::I16(vec![-1, 0, 100]),
        TensorData::I32(vec![-1, 0, 100]),
    ];
    for data in cases {
        let model = with(small(data.element_type()));
        assert_eq!(read(&model).expect("a tensor").data(), &data);
    }
    let halves = [0x3c00, 0x8000];
    let typed = header(&[2], ElementType::F16).ints(field::INT32_DATA, &halves);
    let model = with(typed);
    let values = model.read_f32(&model.graph.initializers[0]).expect("read");
    assert_eq!(values, [1.0, -0.0]);
    let typed = header(&[2], ElementType::Bool).ints(field::INT32_DATA, &[1, 0]);
    let data = read(&with(typed)).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::Bool(vec![true, false]));
    let typed = header(&[2], ElementType::I64).ints(field::INT64_DATA, &[i64::MIN, 5]);
    let data = read(&with(typed)).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::I64(vec![i64::MIN, 5]));
    let typed = header(&[2], ElementType::U64).ints(field::UINT64_DATA, &[-1, 5]);
    let data = read(&with(typed)).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::U64(vec![u64::MAX, 5]));
    let typed = header(&[1], ElementType::U32).int(field::UINT64_DATA, 7);
    let data = read(&with(typed)).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::U32(vec![7]));
    let packed: Vec<u8> = [0.5f64, -2.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let typed = header(&[2], ElementType::F64).message(field::DOUBLE_DATA, packed);
    let data = read(&with(typed)).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::F64(vec![0.5, -2.0]));
    let typed = header(&[2], ElementType::String)
        .string(field::STRING_DATA, "a")
        .string(field::STRING_DATA, "");
    let data = read(&with(typed)).expect("a tensor").into_parts().1;
    assert_eq!(data, TensorData::String(vec!["a".into(), String::new()]));
}

#[test]
fn many_halves_are_widened_block_by_block() {
    let halves: Vec<f16> = (0..40_001)
        .map(|i| f16::from_f32(i as f32 / 64.0))
        .collect();
    let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let model = with(raw(&[halves.len()], ElementType::F16, &bytes));
    let widened = model.read_f32(&model.graph.initializers[0]).expect("read");
    let expected: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
    assert_eq!(widened, expected);
}

#[test]
fn tensors_without_elements_are_read() {
    for data in [
        header(&[0, 3], ElementType::F32),
        header(&[0, 3], ElementType::F32).message(field::RAW_DATA, vec![]),
        header(&[0, 3], ElementType::String),
        header(&[i64::MAX, i64::MAX, 0], ElementType::U4).message(field::RAW_DATA, vec![]),
    ] {
        let model = with(data);
        let count = model.graph.initializers[0].count();
        assert_eq!(count.expect("a count"), 0);
    }
    let model = with(header(&[0, 3], ElementType::F32));
    assert_eq!(read(&model).expect("a tensor").shape(), [0, 3]);
}

fn error<'a>(tensor: impl Into<Content<'a>>) -> Error {
    read(&with(tensor)).expect_err("an error")
}

#[test]
fn shapes_that_do_not_fit_the_data_name_the_tensor() {
    let f32s = |dims: &[i64]| header(dims, ElementType::F32);
    let cases: Vec<(Content<'_>, &str)> = vec![
        (f32s(&[3]).message(field::RAW_DATA, vec![0; 11]), "11 bytes"),
        (f32s(&[3]).message(field::RAW_DATA, vec![]), "0 bytes"),
        (f32s(&[3]), "0 bytes"),
        (
            f32s(&[3]).floats(field::FLOAT_DATA, &[1.0; 4]),
            "4 elements",
        ),
        (
            f32s(&[3]).message(field::FLOAT_DATA, vec![0; 13]),
            "13 bytes, not a multiple",
        ),
        (
            f32s(&[1]).int(field::FLOAT_DATA, 1),
            "a varint where an element is due",
        ),
        (f32s(&[1]).ints(field::INT32_DATA, &[1]), "field 4"),
        (
            f32s(&[1 << 60]).message(field::RAW_DATA, vec![0; 4]),
            "4 bytes",
        ),
        (
            f32s(&[1 << 62]).message(field::RAW_DATA, vec![0; 4]),
            "a shape of",
        ),
        (
            f32s(&[1 << 60]).floats(field::FLOAT_DATA, &[1.0]),
            "1 elements",
        ),
        (
            header(&[1 << 60], ElementType::I8).ints(field::INT32_DATA, &[1]),
            "1 elements",
        ),
        (
            header(&[1], ElementType::I8).ints(field::INT32_DATA, &[1, 2]),
            "2 elements",
        ),
        (
            header(&[2], ElementType::I8).ints(field::INT32_DATA, &[300]),
            "an element of 300",
        ),
        (
            header(&[1], ElementType::F16).ints(field::INT32_DATA, &[-1]),
            "an element of -1",
        ),
        (
            header(&[1 << 60], ElementType::String).string(field::STRING_DATA, "a"),
            "1 elements",
        ),
        (
            header(&[1], ElementType::String).message(field::STRING_DATA, vec![0xff]),
            "UTF-8",
        ),
        (
            header(&[1], ElementType::String).message(field::RAW_DATA, vec![0xff]),
            "string_data",
        ),
        (
            header(&[1 << 60], ElementType::F16).message(field::RAW_DATA, vec![0]),
            "1 bytes",
        ),
        (
            header(&[1 << 62], ElementType::F16).message(field::RAW_DATA, vec![0]),
            "shape",
        ),
        (
            header(&[1 << 60], ElementType::U4).message(field::RAW_DATA, vec![0]),
            "1 bytes",
        ),
    ];
    for (tensor, words) in cases {
        let error = error(tensor);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("tensor \"t\"") && text.contains(words),
            "{words} in: {text}"
        );
    }
}

#[test]
fn unsupported_types_and_segments_name_the_tensor() {
    for number in [0, 14, 17, 99] {
        let complex = ElementType::from_onnx(number);
        let error = error(header(&[1], complex).message(field::RAW_DATA, vec![0; 8]));
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("\"t\""), "{error}");
    }
    let segment = Content::default().int(1, 0).int(2, 1);
    let error = error(header(&[1], ElementType::F32).message(field::SEGMENT, segment));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let model = with(raw(&[1], ElementType::I32, &[0; 4]));
    let error = model.read_f32(&model.graph.initializers[0]);
    assert_eq!(error.expect_err("integers").kind(), ErrorKind::Unsupported);
}
