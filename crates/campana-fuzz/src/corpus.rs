//! Small sound files of every format, made here: what mutation starts from.

use std::io::{Cursor, Write};

use campana_codebook::Packing;
use campana_container::Piece;
use campana_onnx::{Content, ExternalData, NewAttribute, NewNode, NewTensor, schema};
use campana_quantize::{Options, Target};
use campana_tensor::ElementType;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::little_endian::floats;
use crate::{Random, graphs};

/// A model with a bit of everything that a reader looks into: functions that
/// call each other, a nested graph, attributes of all kinds, typed data.
pub fn onnx() -> Vec<u8> {
    let tensor = |name: &str| NewTensor::raw(name, &[2, 2], ElementType::F32, floats(&[1.0; 4]));
    let typed = Content::default()
        .ints(schema::tensor::DIMS, &[3])
        .int(schema::tensor::DATA_TYPE, 7)
        .string(schema::tensor::NAME, "typed")
        .ints(schema::tensor::INT64_DATA, &[1, 300, -5]);
    let branch = Content::default()
        .message(schema::graph::NODE, NewNode::new("Neg", ["w"], ["v"]))
        .string(schema::graph::NAME, "branch");
    let called = NewNode::new("Twice", ["x"], ["t"]).domain("own");
    let odd = NewNode::new("If", ["t"], ["u"])
        .attribute("branch", NewAttribute::Graph(branch))
        .attribute("ints", vec![1, -2, 1 << 40])
        .attribute("floats", vec![0.5, -1.0])
        .attribute("text", "some text")
        .attribute("tensor", tensor(""));
    let graph = Content::default()
        .message(schema::graph::NODE, called)
        .message(schema::graph::NODE, odd)
        .message(
            schema::graph::NODE,
            NewNode::new("MatMul", ["t", "w"], ["y"]),
        )
        .string(schema::graph::NAME, "main")
        .message(schema::graph::INITIALIZER, tensor("w"))
        .message(schema::graph::INITIALIZER, typed)
        .message(schema::graph::INPUT, graphs::value("x", &[1, 2]))
        .message(schema::graph::OUTPUT, graphs::value("y", &[1, 2]));
    let function = |name: &str, inner: NewNode<'static>| {
        Content::default()
            .string(schema::function::NAME, name)
            .string(schema::function::INPUT, "a")
            .string(schema::function::OUTPUT, "b")
            .message(schema::function::NODE, inner)
            .string(schema::function::DOMAIN, "own")
    };
    let once = function("Once", NewNode::new("Add", ["a", "a"], ["b"]));
    let twice = function("Twice", NewNode::new("Once", ["a"], ["b"]).domain("own"));
    graphs::model(graph)
        .message(schema::model::FUNCTIONS, once)
        .message(schema::model::FUNCTIONS, twice)
        .message(
            schema::model::OPSET_IMPORT,
            campana_onnx::opset_import("own", 1),
        )
        .into_bytes()
        .unwrap_or_default()
}

/// A model of functions that call each other ten times each, thirty deep, and
/// hold no node of their own: 10^30 calls.
pub fn calls_without_end() -> Vec<u8> {
    let call = |depth: usize| NewNode::new(&format!("f{depth}"), ["a"], ["b"]).domain("own");
    let graph = Content::default()
        .message(schema::graph::NODE, call(0))
        .string(schema::graph::NAME, "main");
    let mut model = graphs::model(graph);
    for depth in 0..30 {
        let mut function = Content::default()
            .string(schema::function::NAME, &format!("f{depth}"))
            .string(schema::function::DOMAIN, "own");
        for _ in 0..10 {
            function = function.message(schema::function::NODE, call(depth + 1));
        }
        model = model.message(schema::model::FUNCTIONS, function);
    }
    model.into_bytes().unwrap_or_default()
}

/// A network whose weights are computed from codes, as `quantize` writes it.
pub fn quantized_onnx() -> Vec<u8> {
    let options = Options::default();
    graphs::quantized(&graphs::network(&mut Random::new(3)), Target::Lut, &options)
        .unwrap_or_default()
}

/// A model whose weights are in a file beside it, and that file: the length of
/// the first in four bytes, the first, the second.
pub fn external_onnx() -> Vec<u8> {
    let external = |offset, length| ExternalData {
        location: "data.bin".to_owned(),
        offset,
        length: Some(length),
        checksum: None,
    };
    let first = NewTensor::external("w", &[2, 2], ElementType::F32, &external(0, 16));
    let second = NewTensor::external("b", &[2], ElementType::F32, &external(16, 8));
    let graph = Content::default()
        .message(
            schema::graph::NODE,
            NewNode::new("Gemm", ["x", "w", "b"], ["y"]),
        )
        .message(schema::graph::INITIALIZER, first)
        .message(schema::graph::INITIALIZER, second)
        .message(schema::graph::INPUT, graphs::value("x", &[1, 2]))
        .message(schema::graph::OUTPUT, graphs::value("y", &[1, 2]));
    let model = graphs::model(graph).into_bytes().unwrap_or_default();
    let data = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    [&(model.len() as u32).to_le_bytes(), &*model, &*data].concat()
}

/// Two tensors and free text.
pub fn safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&[0, 0, 0x80, 0x3f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    bytes
}

/// A column-major array.
pub fn npy() -> Vec<u8> {
    let mut header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }".to_owned();
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    bytes
}

/// A zip archive of these members.
pub(crate) fn zip(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        let _ = writer.start_file(*name, options);
        let _ = writer.write_all(bytes);
    }
    writer.finish().map(Cursor::into_inner).unwrap_or_default()
}

/// Two arrays, compressed.
pub fn npz() -> Vec<u8> {
    let array = npy();
    zip(
        &[("a.npy", &array), ("b.npy", &array)],
        CompressionMethod::Deflated,
    )
}

/// The pickle of a state dict of one tensor, a transposed view of six of the
/// eight elements of storage "0".
pub fn pickle() -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(".to_vec();
    pickle.extend_from_slice(b"X\x03\x00\x00\x00fc.q\x02ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle.extend_from_slice(b"X\x07\x00\x00\x00storagectorch\nFloatStorage\n");
    pickle.extend_from_slice(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQK\x01");
    pickle.extend_from_slice(b"(K\x02K\x03t(K\x01K\x02t\x89h\x00)RtR");
    pickle.extend_from_slice(b"X\x01\x00\x00\x00n}q\x03(X\x01\x00\x00\x00aK\x01u");
    pickle.extend_from_slice(b"u}X\x09\x00\x00\x00_metadatah\x00)Rsb.");
    pickle
}

/// A file of PyTorch 1.6 and later around a pickle.
pub fn pytorch(pickle: &[u8]) -> Vec<u8> {
    let storage = floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    zip(
        &[
            ("m/data.pkl", pickle),
            ("m/byteorder", b"little"),
            ("m/data/0", &storage),
        ],
        CompressionMethod::Stored,
    )
}

/// The form before that.
pub fn pytorch_legacy() -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
    bytes.extend_from_slice(b"\x80\x02M\xe9\x03.");
    bytes.extend_from_slice(b"\x80\x02}q\x00X\x0d\x00\x00\x00little_endianq\x01\x88s.");
    bytes.extend_from_slice(&pickle());
    bytes.extend_from_slice(b"\x80\x02]q\x00X\x01\x00\x00\x000a.");
    bytes.extend_from_slice(&8_u64.to_le_bytes());
    bytes.extend_from_slice(&floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]));
    bytes
}

/// A container of every kind of piece, without its last checksum.
pub fn container() -> Vec<u8> {
    let codes: Vec<u8> = (0..300_u32).map(|i| ((i * i % 7) as u8 * 16) | 2).collect();
    let values = floats(&[1.5, -0.25, 3.0e-4, 0.0]);
    let mut container = campana_container::pack(&[
        Piece::Text(b"head"),
        Piece::Codes {
            packed: &codes,
            packing: Packing::densest(16),
            row_len: 36,
        },
        Piece::Codes {
            packed: &codes[..30],
            packing: Packing::Planes { bits: 3 },
            row_len: 5,
        },
        Piece::Values {
            bytes: &values,
            width: 4,
            kind: 2,
        },
    ]);
    container.truncate(container.len() - 4);
    container
}

/// A plan of two tensors.
pub fn plan() -> Vec<u8> {
    b"version = 1\n\n[[tensor]]\nname = \"conv\"\nbits = 4\nmethod = \"kmeans\"\ngranularity = \"channel\"\nweights = 432\nbytes = 250\n\n[[tensor]]\nname = \"fc\"\nbits = 3\nmethod = \"ks\"\ngranularity = \"group=32\"\nbyte_price = 0.5\n"
        .to_vec()
}

/// Every key of a sidecar.
pub fn sidecar() -> Vec<u8> {
    br#"{"input":{"size":[224,192],"resize_short":256,"crop":[224,192],"mean":[0.1,0.2,0.3],"std":[1,2.5,3],"channels":"BGR","layout":"NHWC","interpolation":"bicubic"},"labels":["cat","dog"]}"#
        .to_vec()
}

/// The records of a journal, without rows but one that is cut off.
pub fn journal() -> Vec<u8> {
    let key = campana_eval::ExperimentKey::new(7, 8, 9);
    let journal = campana_eval::CompareJournal::new(key);
    format!(
        "{}\n{{\"row\":{{\"method\":\"ks\",\"bits\":2\n",
        journal.first_record()
    )
    .into_bytes()
}

/// Two records of CIFAR-10, cut to what tells them apart.
pub fn cifar() -> Vec<u8> {
    let mut bytes = vec![7; 2 * 3073];
    bytes[0] = 3;
    bytes
}

/// Labels of two pictures.
pub fn labels() -> Vec<u8> {
    b"path\tclass_index\tname\n1.png\t3\tcat\n./a/2.jpg\t0\tdog\n".to_vec()
}

/// A picture of 3 x 2 pixels with a palette.
pub fn png() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(vec![0, 1, 2, 255, 128, 0, 9, 9, 9]);
    if let Ok(mut writer) = encoder.write_header() {
        let _ = writer.write_image_data(&[0, 1, 2, 2, 1, 0]);
    }
    bytes
}

/// Pictures of 61 x 47 pixels or so, which the tests of decoding hold.
pub fn jpegs() -> Vec<Vec<u8>> {
    [
        &include_bytes!("../../campana-eval/tests/golden/baseline_420.jpg")[..],
        include_bytes!("../../campana-eval/tests/golden/progressive_420.jpg"),
        include_bytes!("../../campana-eval/tests/golden/cmyk.jpg"),
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}
