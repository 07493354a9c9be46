//! Files of tensors as other programs write them.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A folder with one file in it.
pub(crate) struct Saved {
    pub(crate) folder: TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn save(name: &str, bytes: &[u8]) -> Saved {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Saved { folder, path }
}

pub(crate) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

pub(crate) fn npy(descr: &str, fortran_order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

pub(crate) fn zip(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend_from_slice(&(text.len() as u32).to_le_bytes());
    pickle.extend_from_slice(text.as_bytes());
}

fn tuple(pickle: &mut Vec<u8>, numbers: &[u32]) {
    pickle.push(b'(');
    for &number in numbers {
        pickle.push(b'J');
        pickle.extend_from_slice(&number.to_le_bytes());
    }
    pickle.push(b't');
}

/// A tensor as `torch.save` pickles it; `legacy` adds the metadata of views.
pub(crate) struct Pickled<'a> {
    pub(crate) name: &'a str,
    pub(crate) storage: &'a str,
    pub(crate) key: &'a str,
    pub(crate) storage_len: u32,
    pub(crate) offset: u32,
    pub(crate) shape: &'a [u32],
    pub(crate) strides: &'a [u32],
}

/// A state dict as `torch.save` pickles it: an OrderedDict of tensors with
/// its `_metadata`.
pub(crate) fn state_dict(tensors: &[Pickled<'_>], legacy: bool) -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(".to_vec();
    for tensor in tensors {
        text(&mut pickle, tensor.name);
        pickle.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend_from_slice(format!("ctorch\n{}\n", tensor.storage).as_bytes());
        text(&mut pickle, tensor.key);
        text(&mut pickle, "cpu");
        pickle.push(b'J');
        pickle.extend_from_slice(&tensor.storage_len.to_le_bytes());
        if legacy {
            pickle.push(b'N');
        }
        pickle.extend_from_slice(b"tQJ");
        pickle.extend_from_slice(&tensor.offset.to_le_bytes());
        tuple(&mut pickle, tensor.shape);
        tuple(&mut pickle, tensor.strides);
        pickle.extend_from_slice(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.push(b'u');
    // BUILD with {"_metadata": OrderedDict()}.
    pickle.push(b'}');
    text(&mut pickle, "_metadata");
    pickle.extend_from_slice(b"ccollections\nOrderedDict\n)Rsb.");
    pickle
}

/// Two tensors: a transposed view of the first storage and a vector of
/// 16-bit floats. Read, they are `[[1, 3, 5], [2, 4, 6]]` and `[1, -2]`.
pub(crate) const TENSORS: [Pickled<'static>; 2] = [
    Pickled {
        name: "fc.weight",
        storage: "FloatStorage",
        key: "0",
        storage_len: 8,
        offset: 1,
        shape: &[2, 3],
        strides: &[1, 2],
    },
    Pickled {
        name: "fc.bias",
        storage: "HalfStorage",
        key: "1",
        storage_len: 2,
        offset: 0,
        shape: &[2],
        strides: &[1],
    },
];

/// The storages of [`TENSORS`].
pub(crate) fn storages() -> [Vec<u8>; 2] {
    let halves = [0x3c00_u16, 0xc000]
        .iter()
        .flat_map(|half| half.to_le_bytes());
    [
        floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
        halves.collect(),
    ]
}

/// The zipped form of PyTorch 1.6 and later.
pub(crate) fn pytorch_zip() -> Vec<u8> {
    let [first, second] = storages();
    zip(
        &[
            ("model/data.pkl", &state_dict(&TENSORS, false)),
            ("model/byteorder", b"little"),
            ("model/data/0", &first),
            ("model/data/1", &second),
            ("model/version", b"3\n"),
        ],
        CompressionMethod::Stored,
    )
}

/// The form before that.
pub(crate) fn pytorch_legacy() -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
    bytes.extend_from_slice(b"\x80\x02M\xe9\x03.");
    bytes.extend_from_slice(b"\x80\x02}q\x00X\x0d\x00\x00\x00little_endianq\x01\x88s.");
    bytes.extend_from_slice(&state_dict(&TENSORS, true));
    bytes.extend_from_slice(b"\x80\x02]q\x00(X\x01\x00\x00\x000q\x01X\x01\x00\x00\x001q\x02e.");
    for (storage, count) in storages().iter().zip([8_u64, 2]) {
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(storage);
    }
    bytes
}
