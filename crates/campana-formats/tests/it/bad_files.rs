//! Damaged and hostile files: an error that says what is wrong, whatever the
//! bytes.

use campana_formats::{ErrorKind, TensorFile};
use zip::CompressionMethod;

use crate::support::{
    Pickled, TENSORS, floats, npy, pytorch_legacy, pytorch_zip, safetensors, save, state_dict,
    storages, zip,
};

/// The kind and the words of the error.
fn fails(name: &str, bytes: &[u8]) -> (ErrorKind, String) {
    let saved = save(name, bytes);
    let error = TensorFile::open(&saved.path).unwrap_err();
    (error.kind(), error.to_string())
}

#[track_caller]
fn says(name: &str, bytes: &[u8], kind: ErrorKind, words: &str) {
    let (found, message) = fails(name, bytes);
    assert_eq!(found, kind, "{message}");
    assert!(message.contains(words), "{message}");
    assert!(message.contains(name), "{message}");
}

fn two_tensors(first: [u64; 2], second: [u64; 2], data: usize) -> Vec<u8> {
    let header = format!(
        r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{first:?}}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{second:?}}}}}"#
    );
    safetensors(&header, &vec![0; data])
}

#[test]
fn safetensors_that_overlap_are_refused() {
    let bytes = two_tensors([0, 8], [4, 12], 12);
    says(
        "m.safetensors",
        &bytes,
        ErrorKind::Malformed,
        "'a' and 'b' overlap",
    );
}

#[test]
fn safetensors_with_holes_are_refused() {
    let bytes = two_tensors([0, 8], [12, 20], 20);
    says(
        "m.safetensors",
        &bytes,
        ErrorKind::Malformed,
        "hole between",
    );
}

#[test]
fn safetensors_out_of_range_are_refused() {
    for second in [[8, 16], [16, 8], [u64::MAX - 7, u64::MAX]] {
        let bytes = two_tensors([0, 8], second, 12);
        says(
            "m.safetensors",
            &bytes,
            ErrorKind::Malformed,
            "tensor 'b' has the bytes",
        );
    }
}

#[test]
fn safetensors_of_another_length_than_their_shape_are_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
    let bytes = safetensors(header, &[0; 8]);
    says(
        "m.safetensors",
        &bytes,
        ErrorKind::Malformed,
        "8 bytes, but 3 elements",
    );
    let header = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,8]}}"#;
    let bytes = safetensors(header, &[0; 8]);
    says(
        "m.safetensors",
        &bytes,
        ErrorKind::Malformed,
        "too many elements",
    );
}

#[test]
fn safetensors_with_a_wrong_header_are_refused() {
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend_from_slice(b"{}");
    says("m.safetensors", &huge, ErrorKind::LimitExceeded, "header");
    let mut long = 1000_u64.to_le_bytes().to_vec();
    long.extend_from_slice(b"{}");
    says("m.safetensors", &long, ErrorKind::Malformed, "truncated");
    let twice = r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
    says(
        "m.safetensors",
        &safetensors(twice, b""),
        ErrorKind::Malformed,
        "'a' is there twice",
    );
    says("m.safetensors", b"abc", ErrorKind::Malformed, "3 bytes");
}

#[test]
fn an_index_that_names_a_missing_shard_is_refused() {
    let index = br#"{"weight_map":{"a":"gone-00001.safetensors"}}"#;
    says(
        "m.safetensors.index.json",
        index,
        ErrorKind::Malformed,
        "'gone-00001.safetensors', which is not there",
    );
}

#[test]
fn an_index_that_leaves_its_folder_is_refused() {
    for shard in ["../a.safetensors", "/etc/passwd", ""] {
        let index = format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#);
        says(
            "m.json",
            index.as_bytes(),
            ErrorKind::Malformed,
            "expected a file beside it",
        );
    }
}

#[test]
fn an_index_that_promises_a_tensor_its_shard_lacks_is_refused() {
    let saved = save(
        "m.json",
        br#"{"weight_map":{"a":"s.safetensors","b":"s.safetensors"}}"#,
    );
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let shard = saved.folder.path().join("s.safetensors");
    std::fs::write(shard, safetensors(header, &[0; 4])).unwrap();
    let message = TensorFile::open(&saved.path).unwrap_err().to_string();
    assert!(message.contains("tensor 'b' is in the shard"), "{message}");
}

#[test]
fn a_pickle_with_anything_but_tensors_is_refused_by_name() {
    let pickle = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00lsq\x00\x85R.";
    let archive = zip(&[("m/data.pkl", pickle)], CompressionMethod::Stored);
    says("m.pt", &archive, ErrorKind::Unsupported, "`os.system`");
    says("m.pth", pickle, ErrorKind::Unsupported, "`os.system`");
    let module = b"\x80\x02ctorchvision.models.resnet\nResNet\n)\x81.";
    let archive = zip(&[("m/data.pkl", module)], CompressionMethod::Stored);
    says(
        "m.pt",
        &archive,
        ErrorKind::Unsupported,
        "`torchvision.models.resnet.ResNet`",
    );
}

#[test]
fn a_truncated_zip_is_refused_at_every_length() {
    let bytes = pytorch_zip();
    for len in (4..bytes.len()).step_by(7) {
        let (kind, message) = fails("m.pt", &bytes[..len]);
        assert_eq!(kind, ErrorKind::Malformed, "{message}");
        assert!(message.contains("zip"), "{message}");
    }
}

#[test]
fn a_truncated_legacy_file_is_refused_at_every_length() {
    let bytes = pytorch_legacy();
    for len in 2..bytes.len() {
        let (kind, message) = fails("m.pt", &bytes[..len]);
        assert_eq!(kind, ErrorKind::Malformed, "{len}: {message}");
    }
}

#[test]
fn any_changed_byte_is_an_error_or_a_file() {
    for (name, bytes) in [("m.pt", pytorch_zip()), ("m.pt", pytorch_legacy())] {
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 0x55;
            let saved = save(name, &changed);
            if let Ok(file) = TensorFile::open(&saved.path) {
                for tensor in file.tensors() {
                    let _ = file.read_bytes(tensor);
                }
            }
        }
    }
}

#[test]
fn a_tensor_that_leaves_its_storage_is_refused() {
    let [first, second] = storages();
    let tensor = |offset, shape, strides| {
        let tensor = Pickled {
            offset,
            shape,
            strides,
            ..TENSORS[0]
        };
        let pickle = state_dict(&[tensor], false);
        let members: [(&str, &[u8]); 3] = [
            ("m/data.pkl", &pickle),
            ("m/data/0", &first),
            ("m/data/1", &second),
        ];
        zip(&members, CompressionMethod::Stored)
    };
    let bytes = tensor(7, &[2, 1], &[1, 1]);
    says("m.pt", &bytes, ErrorKind::Malformed, "leaves its storage");
    let bytes = tensor(0, &[1 << 30, 1 << 30], &[0, 0]);
    says("m.pt", &bytes, ErrorKind::LimitExceeded, "only 8 elements");
}

#[test]
fn a_storage_that_is_missing_or_short_is_refused() {
    let pickle = state_dict(&TENSORS[..1], false);
    let missing = zip(&[("m/data.pkl", &pickle)], CompressionMethod::Stored);
    says(
        "m.pt",
        &missing,
        ErrorKind::Malformed,
        "storage '0', which is not there",
    );
    let short = zip(
        &[("m/data.pkl", pickle.as_slice()), ("m/data/0", &[0; 31])],
        CompressionMethod::Stored,
    );
    says("m.pt", &short, ErrorKind::Malformed, "has only 31 bytes");
}

#[test]
fn a_zip_of_something_else_is_refused() {
    let bytes = zip(&[("readme.txt", b"hello")], CompressionMethod::Stored);
    says("m.pt", &bytes, ErrorKind::Malformed, "data.pkl");
}

#[test]
fn arrays_of_objects_are_refused() {
    let bytes = npy("'|O'", "False", "(1,)", b"\x80\x02cos\nsystem\n.");
    says("w.npy", &bytes, ErrorKind::Unsupported, "Python objects");
    let archive = zip(&[("w.npy", &bytes)], CompressionMethod::Deflated);
    says("w.npz", &archive, ErrorKind::Unsupported, "Python objects");
}

#[test]
fn arrays_that_are_not_numbers_or_too_short_are_refused() {
    let fields = npy("[('a', '<f4')]", "False", "(1,)", &[0; 4]);
    says(
        "w.npy",
        &fields,
        ErrorKind::Unsupported,
        "type [('a', '<f4')]",
    );
    let big = npy("'>f4'", "False", "(1,)", &[0; 4]);
    says("w.npy", &big, ErrorKind::Unsupported, "big-endian");
    let short = npy("'<f4'", "False", "(5,)", &floats(&[0.0; 4]));
    says("w.npy", &short, ErrorKind::Malformed, "only 16 bytes");
    let endless = npy("'<f4'", "False", "(4294967296, 4294967296, 4)", &[]);
    says("w.npy", &endless, ErrorKind::Malformed, "too many elements");
    says(
        "w.npy",
        b"\x93NUMPY\x01\x00\xff",
        ErrorKind::Malformed,
        "truncated",
    );
}
