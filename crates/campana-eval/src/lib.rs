#![forbid(unsafe_code)]
//! Datasets, metrics and reports.
