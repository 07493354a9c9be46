//! The node tests of the `onnx` package: models, inputs and expected outputs
//! of every operator.
//!
//! They are written by `write_onnx_node_tests.py`, where the peers' Python
//! environment is there; or `CAMPANA_ONNX_NODE_TESTS` names their folder.
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use campana_ir::graph::Graph;
use campana_onnx::{Content, Model, Source, schema};
use campana_runtime::{Input, Plan, PlanErrorKind, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor, TensorData};

/// The share of cases in float32 and whole numbers that must pass.
const MIN_PASSED: f64 = 0.85;

/// The package's own tolerances.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-5;

/// Of numbers with 10 and with 7 bits behind the point: two steps.
const RELATIVE_F16: f64 = 1.0 / 512.0;
const RELATIVE_BF16: f64 = 1.0 / 64.0;

/// Cases that expect other than onnxruntime computes, which leaves them out of
/// its own tests; the engine does as onnxruntime does.
const AS_ONNXRUNTIME: [&str; 2] = [
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
];

enum Outcome {
    Passed,
    /// An error that names what is not supported.
    Unsupported(String),
    Failed(String),
}

/// The folder of the cases; `None`, said loudly, where they cannot be had.
fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("CAMPANA_ONNX_NODE_TESTS") {
        return Some(folder.into());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = here.join("../../.venv-peers/bin/python");
    if !python.exists() {
        // Not eprintln, which the test harness keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: ONNX's node tests; make the Python peers with tools/peers/setup.sh"
        );
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx-node-tests");
    let output = Command::new(python)
        .arg(here.join("tests/write_onnx_node_tests.py"))
        .arg(&folder)
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(folder)
}

/// What became of the cases of one operator.
#[derive(Default)]
struct Row {
    passed: usize,
    /// Names and reasons.
    refused: Vec<(String, String)>,
    wrong: Vec<(String, String)>,
}

/// Where the table is kept.
const TABLE: &str = "../../docs/node-tests.md";

/// Set to write the table anew.
const WRITE_TABLE: &str = "CAMPANA_WRITE_NODE_TESTS";

#[test]
fn node_tests_pass_or_are_refused() {
    let Some(folder) = folder() else { return };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder can be read")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("model.onnx").is_file())
        .collect();
    cases.sort();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let (mut passed, mut common, mut common_passed) = (0, 0, 0);
    for case in &cases {
        let file = case.file_name().unwrap_or_default();
        let name = file.to_string_lossy().into_owned();
        let (operator, is_common, outcome) = match campana_ir::format::load(case.join("model.onnx"))
        {
            Ok(graph) => {
                let operator = operator_of(&graph, &name);
                (operator, is_common(&graph), run(&graph, case))
            }
            Err(error) => {
                let reason = format!("the model cannot be read: {error}");
                ("(unread)".to_owned(), false, Outcome::Unsupported(reason))
            }
        };
        common += usize::from(is_common);
        let row = rows.entry(operator).or_default();
        match outcome {
            Outcome::Passed => {
                row.passed += 1;
                passed += 1;
                common_passed += usize::from(is_common);
            }
            Outcome::Unsupported(reason) => {
                eprintln!("refused  {name} (float32 or whole: {is_common}): {reason}");
                row.refused.push((name, reason));
            }
            Outcome::Failed(_) if AS_ONNXRUNTIME.contains(&&*name) => {
                row.refused
                    .push((name, "as onnxruntime computes it".to_owned()));
            }
            Outcome::Failed(reason) => {
                eprintln!("WRONG    {name} (float32 or whole: {is_common}): {reason}");
                row.wrong.push((name, reason));
            }
        }
    }
    let summary = format!(
        "{passed} of {} cases pass, {common_passed} of the {common} in float32, whole numbers \
         and bool alone.",
        cases.len()
    );
    eprintln!("{summary}");
    if std::env::var_os(WRITE_TABLE).is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
        std::fs::write(path, table(&summary, &rows)).expect("the table can be written");
    }
    assert!(common > 0, "no cases in {}", folder.display());
    assert!(
        common_passed as f64 >= MIN_PASSED * common as f64,
        "{summary}"
    );
    let wrong: Vec<_> = rows.values().flat_map(|row| &row.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The operator that a case is about: its only one, or what its name begins with.
fn operator_of(graph: &Graph, name: &str) -> String {
    match graph.nodes.as_slice() {
        [node] => node.op_type.clone(),
        _ => {
            let name = name.strip_prefix("test_").unwrap_or(name);
            match name.split_once("_expanded") {
                Some(_) => "(functions as their operators)".to_owned(),
                None => format!("(several: {})", name.split('_').next().unwrap_or(name)),
            }
        }
    }
}

/// The table as Markdown.
fn table(summary: &str, rows: &BTreeMap<String, Row>) -> String {
    let mut text = format!(
        "# ONNX's node tests\n\nWhat the engine does with the cases of the `onnx` package's \
         backend tests, one operator each. Written by\n`{WRITE_TABLE}=1 cargo test -p \
         campana-runtime --test onnx_backend`; a case passes where every\noutput is within the \
         package's own tolerances, and is refused where an error says what is not\nsupported. \
         None may be wrong.\n\n{summary}\n\n| operator | passed | refused | wrong | why refused \
         |\n| --- | --- | --- | --- | --- |\n"
    );
    for (operator, row) in rows {
        let mut reasons: Vec<&str> = row.refused.iter().map(|(_, why)| shortened(why)).collect();
        reasons.sort_unstable();
        reasons.dedup();
        text += &format!(
            "| {operator} | {} | {} | {} | {} |\n",
            row.passed,
            row.refused.len(),
            row.wrong.len(),
            reasons.join("; ").replace('|', "\\|")
        );
    }
    text
}

/// A reason without the place and the folder that it names.
fn shortened(reason: &str) -> &str {
    let reason = reason.rsplit_once(".pb: ").map_or(reason, |(_, why)| why);
    let marker = "not supported: ";
    reason
        .find(marker)
        .map_or(reason, |at| &reason[at + marker.len()..])
}

/// Whether a case is about float32, whole numbers and bool alone.
fn is_common(graph: &Graph) -> bool {
    let values = graph.inputs.iter().chain(&graph.outputs);
    let mut types = values.map(|value| value.element_type);
    types.all(|kind| {
        matches!(
            kind,
            Some(
                ElementType::F32
                    | ElementType::Bool
                    | ElementType::I8
                    | ElementType::U8
                    | ElementType::I16
                    | ElementType::U16
                    | ElementType::I32
                    | ElementType::U32
                    | ElementType::I64
                    | ElementType::U64
            )
        )
    })
}

fn run(graph: &Graph, case: &Path) -> Outcome {
    let plan = match Plan::new(graph, PlanOptions::default()) {
        Ok(plan) => plan,
        Err(error) if error.kind() == PlanErrorKind::Unsupported => {
            return Outcome::Unsupported(error.to_string());
        }
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let session = Session::new(plan, 1);
    for set in 0.. {
        let folder = case.join(format!("test_data_set_{set}"));
        if !folder.is_dir() {
            break;
        }
        let read_all = |prefix: &str, count: usize| -> Result<Vec<Tensor>, String> {
            (0..count)
                .map(|i| read(&folder.join(format!("{prefix}_{i}.pb"))))
                .collect()
        };
        let files = |prefix: &str| {
            (0..)
                .take_while(|i| folder.join(format!("{prefix}_{i}.pb")).is_file())
                .count()
        };
        let (inputs, expected) = match (
            read_all("input", files("input")),
            read_all("output", files("output")),
        ) {
            (Ok(inputs), Ok(expected)) => (inputs, expected),
            (Err(reason), _) | (_, Err(reason)) => return Outcome::Unsupported(reason),
        };
        let named: Vec<(&str, Input<'_>)> = graph
            .inputs
            .iter()
            .zip(&inputs)
            .map(|(value, tensor)| (value.name.as_str(), tensor.into()))
            .collect();
        let outputs = match session.run(&named) {
            Ok(outputs) => outputs,
            Err(error) if error.to_string().contains("not supported") => {
                return Outcome::Unsupported(error.to_string());
            }
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        for (output, expected) in outputs.iter().zip(&expected) {
            if let Err(reason) = compare(output, expected) {
                return Outcome::Failed(reason);
            }
        }
    }
    Outcome::Passed
}

/// A tensor from a file: read as the initializer of a model made around it.
fn read(path: &Path) -> Result<Tensor, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let read = || -> Result<Tensor, campana_onnx::Error> {
        let graph = Content::default().message(schema::graph::INITIALIZER, Content::bytes(bytes));
        let model = Content::default()
            .int(schema::model::IR_VERSION, 8)
            .message(schema::model::GRAPH, graph)
            .into_bytes()?;
        let model = Model::parse(Source::from_bytes(model))?;
        model.read_tensor(&model.graph.initializers[0])
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}

fn compare(output: &Tensor, expected: &Tensor) -> Result<(), String> {
    if output.shape() != expected.shape() {
        return Err(format!(
            "shape {:?}, expected {:?}",
            output.shape(),
            expected.shape()
        ));
    }
    let relative = match expected.data() {
        TensorData::F16(_) => RELATIVE_F16,
        TensorData::Bf16(_) => RELATIVE_BF16,
        _ => RELATIVE,
    };
    let close = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= ABSOLUTE + relative * b.abs()
    };
    let differ = |i: usize, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
        Err(format!("{a:?} at {i}, expected {b:?}"))
    };
    match (output.data(), expected.data()) {
        (TensorData::F32(a), TensorData::F32(b)) => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                if !close(f64::from(*a), f64::from(*b)) {
                    return differ(i, a, b);
                }
            }
        }
        (TensorData::F64(a), TensorData::F64(b)) => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                if !close(*a, *b) {
                    return differ(i, a, b);
                }
            }
        }
        (TensorData::F16(a), TensorData::F16(b)) => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                if !close(a.to_f64(), b.to_f64()) {
                    return differ(i, a, b);
                }
            }
        }
        (TensorData::Bf16(a), TensorData::Bf16(b)) => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                if !close(a.to_f64(), b.to_f64()) {
                    return differ(i, a, b);
                }
            }
        }
        (a, b) if a == b => {}
        (a, b) if a.element_type() == b.element_type() => {
            return Err(format!("other elements of {}", a.element_type()));
        }
        (a, b) => {
            return Err(format!(
                "elements of {}, expected {}",
                a.element_type(),
                b.element_type()
            ));
        }
    }
    Ok(())
}
