//! Damaged and hostile files: an error that says what is wrong, whatever the
//! bytes.

use campana_formats::{ErrorKind, Limits, TensorFile};
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

#[test]
fn a_member_with_another_checksum_than_its_bytes_is_refused_when_read() {
    let array = npy("'<f4'", "False", "(3,)", &floats(&[1.0, 2.0, 3.0]));
    let mut npz = zip(&[("w.npy", &array)], CompressionMethod::Stored);
    let value = npz.windows(4).position(|bytes| bytes == floats(&[2.0]));
    npz[value.unwrap()] ^= 1;
    let mut pytorch = pytorch_zip();
    let value = pytorch.windows(4).position(|bytes| bytes == floats(&[6.0]));
    pytorch[value.unwrap()] ^= 1;
    for (name, bytes) in [("m.npz", npz), ("m.pt", pytorch)] {
        let saved = save(name, &bytes);
        let file = TensorFile::open(&saved.path).unwrap();
        let error = file.read_f32(&file.tensors()[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("CRC-32"), "{error}");
        let rewritten = file
            .rewrite::<campana_formats::Error>(&mut std::io::Cursor::new(Vec::new()), &mut |_| {
                Ok(None)
            });
        let error = rewritten.unwrap_err();
        assert!(error.to_string().contains("CRC-32"), "{error}");
    }
}

#[test]
fn a_pickle_with_another_checksum_than_its_bytes_is_refused() {
    let mut bytes = pytorch_zip();
    // A byte of a name.
    let name = bytes.windows(7).position(|bytes| bytes == b"fc.bias");
    bytes[name.unwrap()] ^= 1;
    says("m.pt", &bytes, ErrorKind::Malformed, "CRC-32");
}

/// Puts a number of four bytes into the directory entry of the first member.
fn with_directory_field(mut bytes: Vec<u8>, offset: usize, value: u32) -> Vec<u8> {
    let entry = bytes.windows(4).position(|bytes| bytes == b"PK\x01\x02");
    bytes[entry.unwrap() + offset..][..4].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn a_member_that_claims_to_unpack_to_more_than_it_can_is_refused() {
    let array = npy("'<f4'", "False", "(3,)", &floats(&[1.0, 2.0, 3.0]));
    let bytes = zip(&[("w.npy", &array)], CompressionMethod::Deflated);
    let bytes = with_directory_field(bytes, 24, u32::MAX - 1);
    says(
        "m.npz",
        &bytes,
        ErrorKind::LimitExceeded,
        "claims to unpack to",
    );
}

#[test]
fn members_that_share_bytes_are_refused() {
    let array = npy("'<f4'", "False", "(3,)", &floats(&[1.0, 2.0, 3.0]));
    let bytes = zip(
        &[("a.npy", &array), ("b.npy", &array)],
        CompressionMethod::Stored,
    );
    // The first one as long as both.
    let len = 2 * array.len() as u32 + 35;
    let bytes = with_directory_field(bytes, 20, len);
    let bytes = with_directory_field(bytes, 24, len);
    says("m.npz", &bytes, ErrorKind::Malformed, "share bytes");
}

#[test]
fn tensors_that_refer_to_the_same_bytes_without_end_are_refused() {
    let names: Vec<String> = (0..2_000).map(|index| format!("w{index}")).collect();
    let tensors: Vec<Pickled<'_>> = names
        .iter()
        .map(|name| Pickled {
            name,
            storage: "FloatStorage",
            key: "0",
            storage_len: 1 << 16,
            offset: 0,
            shape: &[1 << 16],
            strides: &[1],
        })
        .collect();
    let storage = vec![0; 4 << 16];
    let bytes = zip(
        &[
            ("m/data.pkl", state_dict(&tensors, false).as_slice()),
            ("m/data/0", &storage),
        ],
        CompressionMethod::Stored,
    );
    says("m.pt", &bytes, ErrorKind::LimitExceeded, "together");
}

#[test]
fn a_tensor_of_more_elements_or_memory_than_allowed_is_refused() {
    let array = npy("'<f4'", "False", "(1000,)", &[0; 4000]);
    let limits = Limits {
        max_elements: 999,
        ..Limits::DEFAULT
    };
    let error = TensorFile::from_bytes("w.npy", array.clone(), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("999 elements"), "{error}");
    let limits = Limits {
        max_memory: 3_000,
        ..Limits::DEFAULT
    };
    let file = TensorFile::from_bytes("w.npy", array, &limits).unwrap();
    let error = file.read_f32(&file.tensors()[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("tensor 'w'"), "{error}");
}

#[test]
fn an_index_in_memory_is_refused() {
    let error = TensorFile::from_bytes("m.json", b"{}".to_vec(), &Limits::DEFAULT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
