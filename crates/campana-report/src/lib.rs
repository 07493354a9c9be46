//! Pages for people: one self-contained HTML file each, of what was measured.
//!
//! A page holds its style, its pictures and the few lines of script that sort
//! a table; it loads nothing from anywhere, and says so to the browser in a
//! content security policy. It follows the reader's light or dark setting and
//! fits a phone. Every text that comes from a model is escaped.
//!
//! Pages are also well-formed XML, which is how the tests read them.
#![forbid(unsafe_code)]

mod bench;
mod chart;
mod compare;
mod demo;
mod distribution;
mod inspect;
mod page;
mod quantize;
mod quantize_report;
mod row;
mod stored;
mod tensor;

pub use bench::{BenchLayer, BenchModel, BenchPeak, BenchReport, bench_page};
pub use compare::{CompareReport, compare_page};
pub use demo::{DemoReport, DemoRow, demo_page};
pub use inspect::inspect_page;
pub use page::thousands;
pub use quantize::quantize_page;
pub use quantize_report::{AllocationReport, DropReport, QuantizeReport};

#[cfg(test)]
mod tests;
