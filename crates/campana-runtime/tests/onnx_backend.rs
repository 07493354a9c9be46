//! The node tests of the `onnx` package: models, inputs and expected outputs
//! of every operator.
//!
//! They are written by `write_onnx_node_tests.py`, where the peers' Python
//! environment is there; or `CAMPANA_ONNX_NODE_TESTS` names their folder.
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use campana_ir::format;
use campana_ir::graph::Graph;
use campana_onnx::{Content, Model, Source, schema};
use campana_runtime::{Input, Plan, PlanErrorKind, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor, TensorData};

/// What the engine promises to run.
const LISTED: &[&str] = &[
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Elu",
    "Gelu",
    "Softmax",
    "LogSoftmax",
    "Mish",
    "Softplus",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Min",
    "Max",
    "Pow",
    "Sqrt",
    "Exp",
    "Neg",
    "Abs",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LRN",
    "InstanceNormalization",
    "LayerNormalization",
    "Pad",
    "Resize",
    "Upsample",
    "Concat",
    "Split",
    "Slice",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Gather",
    "Shape",
    "Expand",
    "ConstantOfShape",
    "Cast",
    "Identity",
    "Dropout",
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
    "ArgMax",
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "DepthToSpace",
    "SpaceToDepth",
];

/// The share of float32 cases of listed operators that must pass.
const MIN_PASSED: f64 = 0.95;

/// The package's own tolerances.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-5;

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

#[test]
fn node_tests_of_listed_operators_pass() {
    let Some(folder) = folder() else { return };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder can be read")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("model.onnx").is_file())
        .collect();
    cases.sort();
    let (mut passed, mut float_passed, mut float_total, mut unlisted) = (0, 0, 0, 0);
    for case in &cases {
        let name = case
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let graph = match format::load(case.join("model.onnx")) {
            Ok(graph) => graph,
            Err(error) => {
                eprintln!("skipped  {name}: the model cannot be read: {error}");
                continue;
            }
        };
        if !graph
            .nodes
            .iter()
            .all(|node| node.domain.is_empty() && LISTED.contains(&node.op_type.as_str()))
        {
            unlisted += 1;
            continue;
        }
        let is_float = is_float(&graph);
        float_total += usize::from(is_float);
        match run(&graph, case) {
            Outcome::Passed => {
                passed += 1;
                float_passed += usize::from(is_float);
            }
            Outcome::Unsupported(reason) => {
                eprintln!("skipped  {name} (float: {is_float}): {reason}");
            }
            Outcome::Failed(reason) => eprintln!("FAILED   {name} (float: {is_float}): {reason}"),
        }
    }
    eprintln!(
        "{passed} of {} cases of listed operators pass; in float32 {float_passed} of {float_total}; \
         {unlisted} are of other operators",
        cases.len() - unlisted,
    );
    assert!(float_total > 0, "no cases in {}", folder.display());
    assert!(float_passed as f64 >= MIN_PASSED * float_total as f64);
}

/// Whether a case is about float32: all that is real among its inputs and outputs is.
fn is_float(graph: &Graph) -> bool {
    let types = || {
        graph
            .inputs
            .iter()
            .chain(&graph.outputs)
            .filter_map(|value| value.element_type)
    };
    let other = |kind| {
        !matches!(
            kind,
            ElementType::F32 | ElementType::I64 | ElementType::I32 | ElementType::Bool
        )
    };
    types().any(|kind| kind == ElementType::F32) && !types().any(other)
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
    let close = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= ABSOLUTE + RELATIVE * b.abs()
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
