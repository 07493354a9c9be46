//! Files written again with other values.

use std::io::Cursor;

use campana_formats::{Error, TensorFile, encode_f32};
use zip::CompressionMethod;

use crate::support::{floats, npy, pytorch_legacy, pytorch_zip, safetensors, save, zip};

/// Doubles the values of the first tensor; returns all values before and
/// after, and the new file.
fn doubled(name: &str, bytes: &[u8]) -> [Vec<Vec<f32>>; 2] {
    let saved = save(name, bytes);
    let read = |file: &TensorFile| -> Vec<Vec<f32>> {
        let tensors = file.tensors().iter();
        tensors
            .map(|tensor| file.read_f32(tensor).unwrap())
            .collect()
    };
    let file = TensorFile::open(&saved.path).unwrap();
    let before = read(&file);
    let first = file.tensors()[0].name.clone();
    let mut out = Cursor::new(Vec::new());
    file.rewrite::<Error>(&mut out, &mut |tensor| {
        if tensor.name != first {
            return Ok(None);
        }
        let values: Vec<f32> = before[0].iter().map(|value| 2.0 * value).collect();
        Ok(Some(encode_f32(&values, tensor.element_type)))
    })
    .unwrap();
    let written = save(name, &out.into_inner());
    [before, read(&TensorFile::open(&written.path).unwrap())]
}

#[test]
fn every_format_is_written_again_with_other_values() {
    let array = npy("'<f4'", "True", "(2, 2)", &floats(&[1.0, 2.0, 3.0, 4.0]));
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    let files = [
        ("m.pt", pytorch_zip()),
        ("m.pt", pytorch_legacy()),
        ("m.npy", array.clone()),
        (
            "m.npz",
            zip(
                &[("a.npy", &array), ("b.npy", &array)],
                CompressionMethod::Deflated,
            ),
        ),
        (
            "m.safetensors",
            safetensors(header, &floats(&[1.0, 2.0, 3.0])),
        ),
    ];
    for (name, bytes) in files {
        let [mut before, after] = doubled(name, &bytes);
        for value in &mut before[0] {
            *value *= 2.0;
        }
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn what_is_between_the_elements_of_a_view_stays() {
    let saved = save("m.pt", &pytorch_legacy());
    let file = TensorFile::open(&saved.path).unwrap();
    let mut out = Cursor::new(Vec::new());
    file.rewrite::<Error>(&mut out, &mut |tensor| {
        let zeros = vec![0; tensor.len_bytes as usize];
        Ok(Some(zeros))
    })
    .unwrap();
    let (before, after) = (pytorch_legacy(), out.into_inner());
    assert_eq!(before.len(), after.len());
    // The storage of eight values, of which the view holds six, and 4 bytes
    // of the other, of whose halves two high bytes are not zero.
    let changed: Vec<usize> = (0..before.len())
        .filter(|&index| before[index] != after[index])
        .collect();
    let storage = before.len() - 4 - 8 - 32;
    assert!(changed.iter().all(|&index| index >= storage + 4));
    assert_eq!(before[storage + 28..][..4], after[storage + 28..][..4]);
}
