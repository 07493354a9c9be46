//! Files do not depend on the number of threads.

use campana_onnx::NewNode;

use crate::support::Folder;
use crate::support::models::NewModel;

/// A network whose layers have few rows, and numbers of them that no number of
/// threads divides.
fn network() -> Vec<u8> {
    NewModel::new()
        .weights("w1", &[16, 3, 3, 3])
        .weights("w2", &[24, 16, 3, 3])
        .weights("w3", &[17, 24])
        .input("x", &[1, 3, 11, 11])
        .node(NewNode::new("Conv", ["x", "w1"], ["a"]))
        .node(NewNode::new("Relu", ["a"], ["b"]))
        .node(NewNode::new("Conv", ["b", "w2"], ["c"]))
        .node(NewNode::new("Relu", ["c"], ["d"]))
        .node(NewNode::new("GlobalAveragePool", ["d"], ["e"]))
        .node(NewNode::new("Flatten", ["e"], ["f"]))
        .node(NewNode::new("Gemm", ["f", "w3"], ["y"]).attribute("transB", 1_i64))
        .output("y", &[1, 17])
        .into_bytes()
}

#[test]
fn files_of_every_target_are_the_same_for_any_number_of_threads() {
    let folder = Folder::with_model(network());
    for target in ["w4a8", "int8"] {
        let written = |threads: u32| {
            let [target, threads] = [format!("--target={target}"), format!("--threads={threads}")];
            let args = [
                "quantize",
                "model.onnx",
                "-o",
                "out.onnx",
                "--force",
                "--method=minmax",
            ];
            folder
                .run(&[&args[..], &[&target, &threads]].concat())
                .may_warn("nothing tells the scale")
                .succeeds();
            folder.read("out.onnx")
        };
        let one = written(1);
        assert!(written(7) == one, "{target}");
    }
}
