#![forbid(unsafe_code)]
//! From a model to a quantized model: plan, design, apply.
