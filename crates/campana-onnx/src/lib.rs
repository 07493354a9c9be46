#![forbid(unsafe_code)]
//! ONNX protobuf in and out, byte for byte; knows nothing of quantization.
