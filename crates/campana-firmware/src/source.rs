//! The network as C: its parameters, its arena and the calls of kernels.

mod constants;
mod header;
mod run;

pub(crate) use header::header;
pub(crate) use run::source;

use std::fmt::Display;

use crate::memory::Firmware;

/// Columns of lists of numbers.
const WIDTH: usize = 96;

/// Numbers as lines of an initializer.
fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    let mut line = String::from("   ");
    for value in values {
        let value = format!(" {value},");
        if line.len() + value.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.truncate(3);
        }
        line.push_str(&value);
    }
    text.push_str(&line);
    text.push('\n');
    text
}

/// Rows of so many numbers, each in braces.
pub(crate) fn braced<T: Display>(values: impl IntoIterator<Item = T>, row: usize) -> String {
    let mut values = values.into_iter().peekable();
    let mut text = String::new();
    while values.peek().is_some() {
        let numbers = list(values.by_ref().take(row.max(1)));
        text.push_str("    {\n");
        text.push_str(&numbers);
        text.push_str("    },\n");
    }
    text
}

/// The bits of a float, as C reads them.
fn bits(value: f32) -> String {
    format!("UINT32_C(0x{:08x})", value.to_bits())
}

/// A comment's text, which must not end the comment.
fn comment(text: &str) -> String {
    let printable = |c: char| match c {
        ' '..='~' => c,
        _ => '?',
    };
    let text: String = text.chars().map(printable).collect();
    text.replace("*/", "* /")
        .replace("/*", "/ *")
        .replace("\\", "/")
}

/// The parameters of the run function for inputs or outputs.
fn parameter(firmware: &Firmware, is_input: bool, at: usize) -> String {
    let network = &firmware.network;
    let (all, word) = match is_input {
        true => (&network.inputs, "input"),
        false => (&network.outputs, "output"),
    };
    match all.len() {
        1 => word.to_owned(),
        _ => format!("{word}_{at}"),
    }
}

/// The run function's declaration, without what ends it.
fn signature(firmware: &Firmware, name: &str) -> String {
    let network = &firmware.network;
    let inputs = (0..network.inputs.len())
        .map(|at| format!("const int8_t *{}", parameter(firmware, true, at)));
    let outputs = network.outputs.iter().enumerate().map(|(at, &value)| {
        let element = match network.values[value].codes {
            Some(_) => "int8_t",
            None => "float",
        };
        format!("{element} *{}", parameter(firmware, false, at))
    });
    let parameters: Vec<String> = inputs.chain(outputs).collect();
    format!("int {name}_run({})", parameters.join(", "))
}
