//! What a file that is no ONNX model seems to be instead.

use crate::{Result, Source};

/// Bytes looked at.
const HEAD_LEN: u64 = 64;

/// The file's format with advice, where its first bytes tell.
pub(crate) fn format(source: &Source) -> Result<Option<&'static str>> {
    let mut head = vec![0; source.len().min(HEAD_LEN) as usize];
    source.read_at(0, &mut head)?;
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    let text = text.trim_ascii_start();
    let is_json = |bytes: &[u8]| {
        let rest = bytes.strip_prefix(b"{").or(bytes.strip_prefix(b"["));
        rest.is_some_and(|rest| {
            let next = rest.trim_ascii_start().first();
            next.is_none_or(|byte| b"\"{}[]".contains(byte) || byte.is_ascii_digit())
        })
    };
    Ok(Some(if head.is_empty() {
        "it is empty"
    } else if text.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    } else if head.starts_with(b"PK\x03\x04") {
        "it is a zip archive, as PyTorch's .pt and .pth files are; export the model to ONNX"
    } else if head.starts_with(b"\x80\x02") || head.starts_with(b"\x80\x04") {
        "it is a Python pickle, as older PyTorch files are; export the model to ONNX"
    } else if head.len() > 9 && head[5..8] == [0; 3] && is_json(&head[8..]) {
        "it is a safetensors file, which holds weights alone; export the model to ONNX"
    } else if head.starts_with(b"\x89HDF") {
        "it is an HDF5 file, as Keras writes; convert the model with tf2onnx"
    } else if head.len() >= 8 && &head[4..8] == b"TFL3" {
        "it is a TensorFlow Lite model; convert it with tf2onnx"
    } else if head.len() >= 8 && &head[4..8] == b"ORTM" {
        "it is onnxruntime's own .ort format; use the .onnx file it was made from"
    } else if head.starts_with(b"GGUF") {
        "it is a GGUF file; export the model to ONNX"
    } else if head.starts_with(b"\x93NUMPY") {
        "it is a NumPy array"
    } else if head.starts_with(b"\x1f\x8b") {
        "it is compressed with gzip; unpack it first"
    } else if head.starts_with(b"\x89PNG") || head.starts_with(b"\xff\xd8\xff") {
        "it is a picture"
    } else if text.starts_with(b"<") {
        "it is an HTML or XML page; was the model behind a login or a moved link?"
    } else if is_json(text) {
        "it is JSON text"
    } else if std::str::from_utf8(&head).is_ok_and(|text| {
        text.chars()
            .all(|c| !c.is_control() || "\t\r\n".contains(c))
    }) {
        "it is plain text"
    } else {
        return Ok(None);
    }))
}
