//! What is read from sound files.

use campana_formats::{Format, TensorFile};
use zip::CompressionMethod;

use crate::support::{floats, npy, pytorch_legacy, pytorch_zip, safetensors, save, zip};

/// Names, shapes and values of the float tensors.
fn values(name: &str, bytes: &[u8]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let saved = save(name, bytes);
    let file = TensorFile::open(&saved.path).unwrap();
    let tensors = file.tensors().iter().filter(|tensor| tensor.is_float());
    tensors
        .map(|tensor| {
            let values = file.read_f32(tensor).unwrap();
            (tensor.name.clone(), tensor.shape.clone(), values)
        })
        .collect()
}

fn expected() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    vec![
        (
            "fc.weight".to_owned(),
            vec![2, 3],
            vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0],
        ),
        ("fc.bias".to_owned(), vec![2], vec![1.0, -2.0]),
    ]
}

#[test]
fn a_zipped_state_dict_is_read_views_and_all() {
    assert_eq!(values("model.pth", &pytorch_zip()), expected());
}

#[test]
fn a_legacy_state_dict_is_read_views_and_all() {
    assert_eq!(values("model.pt", &pytorch_legacy()), expected());
}

#[test]
fn safetensors_of_every_float_type_are_read() {
    let mut data = floats(&[1.5, -2.0]);
    data.extend_from_slice(&0x3e00_u16.to_le_bytes());
    data.extend_from_slice(&0x3fc0_u16.to_le_bytes());
    data.extend_from_slice(&1.5_f64.to_le_bytes());
    data.extend_from_slice(&7_i64.to_le_bytes());
    let header = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},
        "b":{"dtype":"F16","shape":[],"data_offsets":[8,10]},
        "c":{"dtype":"BF16","shape":[1],"data_offsets":[10,12]},
        "d":{"dtype":"F64","shape":[1],"data_offsets":[12,20]},
        "n":{"dtype":"I64","shape":[1],"data_offsets":[20,28]}}"#;
    let read = values("m.safetensors", &safetensors(header, &data));
    let read: Vec<_> = read.into_iter().map(|(.., values)| values).collect();
    assert_eq!(read, [vec![1.5, -2.0], vec![1.5], vec![1.5], vec![1.5]]);
}

#[test]
fn an_array_in_either_order_is_read_row_major() {
    let data = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let rows = npy("'<f4'", "False", "(2, 3)", &data);
    let columns = npy("'<f4'", "True", "(2, 3)", &data);
    assert_eq!(values("w.npy", &rows)[0].2, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(
        values("w.npy", &columns)[0].2,
        [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]
    );
}

#[test]
fn an_archive_of_arrays_is_read_compressed_or_not() {
    let array = npy("'<f4'", "False", "(3,)", &floats(&[1.0, 2.0, 3.0]));
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bytes = zip(&[("conv/w.npy", &array)], method);
        let read = values("m.npz", &bytes);
        assert_eq!(read, [("conv/w".to_owned(), vec![3], vec![1.0, 2.0, 3.0])]);
    }
}

#[test]
fn a_sharded_model_is_read_through_its_index() {
    let saved = save(
        "model.safetensors.index.json",
        br#"{"metadata":{},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
    );
    for (shard, name, value) in [("1", "a", 1.0), ("2", "b", 2.0)] {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        let path = saved.folder.path().join(format!("{shard}.safetensors"));
        std::fs::write(path, safetensors(&header, &floats(&[value]))).unwrap();
    }
    let file = TensorFile::open(&saved.path).unwrap();
    assert_eq!(file.format(), Format::SafetensorsIndex);
    let values: Vec<_> = file
        .tensors()
        .iter()
        .map(|tensor| file.read_f32(tensor).unwrap()[0])
        .collect();
    assert_eq!(values, [1.0, 2.0]);
}
