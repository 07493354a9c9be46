#![forbid(unsafe_code)]
//! Codebooks: levels, thresholds, assignment, packing (no_std).
