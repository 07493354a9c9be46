//! Structs and numbers against what a C compiler makes of the header.

use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use campana_tensor::ElementType;

use super::*;
use crate::failure::Status;

/// Compiles and runs a C program that prints the values of expressions over the
/// header; `None` without a compiler.
fn evaluated(expressions: &[String]) -> Option<Vec<i64>> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = "#include <campana.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
    for expression in expressions {
        writeln!(program, "printf(\"%lld\\n\", (long long)({expression}));").expect("a line");
    }
    program.push_str("return 0;\n}\n");
    let source = folder.path().join("layout.c");
    std::fs::write(&source, program).expect("the program");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let binary = folder.path().join("layout");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Werror", "-pedantic", "-I"])
        .arg(include)
        .arg(source)
        .arg("-o")
        .arg(&binary)
        .status();
    assert!(compiled.ok()?.success(), "the header does not compile");
    let output = Command::new(binary).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("numbers");
    Some(text.lines().map(|line| line.parse().unwrap()).collect())
}

macro_rules! fields {
    ($expected:ident, $name:literal, $layout:ty, $($field:ident),*) => {
        $expected.push((format!("sizeof({})", $name), size_of::<$layout>() as i64));
        $($expected.push((
            format!("offsetof({}, {})", $name, stringify!($field)),
            offset_of!($layout, $field) as i64,
        ));)*
    };
}

#[test]
#[expect(clippy::print_stderr, reason = "says what was not tested")]
fn the_header_has_these_structs_and_numbers() {
    let mut expected: Vec<(String, i64)> = Vec::new();
    fields!(
        expected,
        "campana_options",
        Options,
        struct_size,
        max_memory,
        threads,
        reserved
    );
    fields!(
        expected,
        "campana_value",
        Value,
        name,
        dims,
        element_type,
        rank
    );
    fields!(
        expected,
        "campana_tensor",
        Tensor,
        name,
        dims,
        data,
        len_bytes,
        element_type,
        rank
    );
    let statuses = [
        ("OK", Status::Ok),
        ("ARGUMENT", Status::Argument),
        ("HANDLE", Status::Handle),
        ("FILE", Status::File),
        ("FORMAT", Status::Format),
        ("UNSUPPORTED", Status::Unsupported),
        ("LIMIT", Status::Limit),
        ("RUN", Status::Run),
        ("INTERNAL", Status::Internal),
    ];
    for (name, status) in statuses {
        expected.push((format!("CAMPANA_{name}"), status as i64));
    }
    for number in 0..32 {
        let element_type = ElementType::from_onnx(number);
        if !matches!(
            element_type,
            ElementType::U4 | ElementType::I4 | ElementType::Other(_)
        ) {
            let name = element_type.to_string().to_uppercase();
            expected.push((format!("CAMPANA_{name}"), number.into()));
        }
    }
    assert_eq!(expected.len(), 3 + 4 + 4 + 6 + 9 + 14);
    let expressions: Vec<String> = expected.iter().map(|(text, _)| text.clone()).collect();
    let Some(found) = evaluated(&expressions) else {
        eprintln!("SKIPPED: no C compiler 'cc' to compile the header with");
        return;
    };
    let found: Vec<(String, i64)> = expressions.into_iter().zip(found).collect();
    assert_eq!(found, expected);
}
