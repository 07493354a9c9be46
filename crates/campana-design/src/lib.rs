#![forbid(unsafe_code)]
//! Statistics of weights, distribution fits and optimal scalar quantizer design.
