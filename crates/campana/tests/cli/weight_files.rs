//! Weights without a graph: safetensors, NumPy and PyTorch files.

use std::fs;

use crate::support::Folder;
use crate::support::models::random_weights;

/// Two weight tensors, a bias and a counter.
fn safetensors() -> Vec<u8> {
    let floats = |name, count| -> Vec<u8> {
        let values = random_weights(name, count);
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let header = r#"{"__metadata__":{"format":"pt"},"conv.weight":{"dtype":"F32","shape":[16,8,3,3],"data_offsets":[0,4608]},"fc.weight":{"dtype":"F32","shape":[10,300],"data_offsets":[4608,16608]},"fc.bias":{"dtype":"F32","shape":[10],"data_offsets":[16608,16648]},"steps":{"dtype":"I64","shape":[],"data_offsets":[16648,16656]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(floats("conv", 1152));
    bytes.extend(floats("fc", 3000));
    bytes.extend(floats("bias", 10));
    bytes.extend_from_slice(&7_i64.to_le_bytes());
    bytes
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("in.safetensors", safetensors());
    folder
}

#[test]
fn weights_without_a_graph_become_codes() {
    let folder = folder();
    let report = folder
        .run(&[
            "quantize",
            "in.safetensors",
            "-o",
            "out.safetensors",
            "--json",
        ])
        .json();
    assert_eq!(report["weights"], 4152);
    assert!(report["sqnr_db"].as_f64().unwrap() > 15.0, "{report}");
    assert_eq!(report["not_corrected"], "the file has no graph to run");
    let kept: Vec<_> = report["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tensor| tensor["kept"].is_string())
        .collect();
    assert_eq!(kept, [false, false, true, true]);
    // All that is stored is counted.
    let out = folder.read("out.safetensors");
    assert_eq!(report["output_bytes"], out.len());
    let header = 8 + u64::from_le_bytes(out[..8].try_into().unwrap());
    let bits = 8.0 * (out.len() as u64 - header - 48) as f64 / 4152.0;
    assert!((report["bits_per_weight"].as_f64().unwrap() - bits).abs() < 1e-9);
    let inspected = folder.run(&["inspect", "in.safetensors", "--json"]).json();
    assert_eq!(inspected["weights"], 4152);
    assert_eq!(inspected["tensors"][1]["name"], "fc.weight");
}

#[test]
fn floats_come_back_in_their_format() {
    let folder = folder();
    let args = ["quantize", "in.safetensors", "-o", "out", "--target=float"];
    folder.run(&args).succeeds();
    let (before, after) = (safetensors(), folder.read("out"));
    assert_eq!(before.len(), after.len());
    assert_eq!(before[before.len() - 48..], after[after.len() - 48..]);
    assert!(before != after);
}

#[test]
fn what_needs_a_graph_is_refused() {
    let folder = folder();
    let input = ["quantize", "in.safetensors", "-o", "out.safetensors"];
    for (options, words) in [
        (&["--target=lut-uint4"][..], "holds weights without a graph"),
        (&["--calibrate=."], "export the model to ONNX"),
        (&["--report=r.html"], "no --report"),
        (&["--resume=journal"], "no layers are corrected"),
        (&["--keep=nothing"], "fits no weight tensor"),
    ] {
        folder.refuses(&[&input, options].concat(), &[words]);
    }
    let args = ["quantize", "in.safetensors", "-o", "out.onnx"];
    folder.refuses(&args, &["name the output so"]);
}

#[test]
fn damaged_files_are_refused_and_nothing_is_written() {
    let folder = folder();
    let bytes = safetensors();
    folder.write("cut.safetensors", &bytes[..bytes.len() - 1]);
    folder.write("bad.pth", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.");
    folder.write(
        "m.safetensors.index.json",
        r#"{"weight_map":{"a":"gone.safetensors"}}"#,
    );
    folder.write("w.npy", {
        let header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes
    });
    for (file, word) in [
        ("cut.safetensors", "outside of the data"),
        ("bad.pth", "os.system"),
        ("m.safetensors.index.json", "gone.safetensors"),
        ("w.npy", "Python objects"),
    ] {
        folder.refuses(&["quantize", file, "-o", "out.safetensors"], &[file, word]);
        folder.refuses(&["inspect", file], &[file, word]);
    }
}

#[test]
fn threads_do_not_change_the_codes() {
    let folder = folder();
    for threads in ["1", "3"] {
        let output = format!("{threads}.safetensors");
        let threads = format!("--threads={threads}");
        let args = ["quantize", "in.safetensors", "-o", &output, &threads];
        folder.run(&args).succeeds();
    }
    let read = |name| fs::read(folder.path(name)).unwrap();
    assert!(read("1.safetensors") == read("3.safetensors"));
}
