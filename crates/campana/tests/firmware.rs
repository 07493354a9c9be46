//! Networks as C, compiled for this machine with sanitizers: every output is
//! that of the integer engine, bit for bit.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use campana_eval::{Dataset, Sidecar};
use campana_onnx::NewNode;
use campana_tensor::TensorData;
use support::models::NewModel;
use support::{Folder, fixture, root, skipped};

/// Warnings are errors, and so is what the language leaves undefined.
const CHECKED: [&str; 8] = [
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-O2",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
];

/// Whether there is a compiler; said loudly where there is none.
fn has_compiler() -> bool {
    let has = Command::new("cc").arg("--version").output().is_ok();
    if !has {
        skipped("no C compiler: exported code is not compiled");
    }
    has
}

/// Compiles the sources of an exported folder without its self-test, and one
/// more file.
#[track_caller]
fn compile(folder: &Path, main: &Path, flags: &[&str]) -> PathBuf {
    let sources = fs::read_dir(folder).expect("an exported folder");
    let sources = sources.map(|entry| entry.expect("an entry").path());
    let is_source = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".c") && !name.ends_with("_test.c")
    };
    let program = folder.with_extension("program");
    let output = Command::new("cc")
        .args(flags)
        .args(sources.filter(is_source))
        .arg(main)
        .arg("-I")
        .arg(folder)
        .arg("-o")
        .arg(&program)
        .output()
        .expect("the compiler runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc:\n{said}");
    program
}

/// Runs the self-test of an exported folder, with sanitizers.
#[track_caller]
fn self_test_passes(code: &Path, name: &str) {
    let program = compile(code, &code.join(format!("{name}_test.c")), &CHECKED);
    let output = Command::new(program).output().expect("the test runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("0 of 3 vectors differ"), "{said}");
}

/// The value of a macro of a header.
#[track_caller]
fn constant(header: &str, name: &str) -> f32 {
    let line = header
        .lines()
        .find_map(|line| line.strip_prefix(&format!("#define {name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{header}"));
    line.trim_end_matches('f').parse().expect("a number")
}

/// How the answers in C compare with those of the engine.
#[derive(Debug, PartialEq)]
struct Agreement {
    images: usize,
    /// Images of which every output has the engine's bits.
    equal: usize,
    /// Images whose label the C code finds.
    right: usize,
}

/// What runs exported code.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Processor<'a> {
    /// This machine, with sanitizers.
    Host,
    /// One of those of `tools/firmware/run.sh`, in QEMU.
    Cortex(&'a str),
}

impl Processor<'_> {
    /// Runs images through exported code: the outputs' bytes.
    #[track_caller]
    fn outputs(
        self,
        code: &Path,
        name: &str,
        [input, output]: [usize; 2],
        codes: &[u8],
    ) -> Vec<u8> {
        let driver = code.with_extension("driver.c");
        let text = format!(
            "#include <stdio.h>\n#include \"{name}.h\"\nstatic int8_t in[{input}];\n\
             static float out[{output}];\nint main(void)\n{{\n    \
             FILE *from = fopen(\"images.bin\", \"rb\"), *to = fopen(\"outputs.bin\", \"wb\");\n    \
             while (fread(in, 1, sizeof in, from) == sizeof in) {{\n        {name}_run(in, out);\n        \
             fwrite(out, 1, sizeof out, to);\n    }}\n    return fclose(to);\n}}\n"
        );
        fs::write(&driver, text).expect("a driver");
        let folder = code.parent().expect("a folder");
        fs::write(folder.join("images.bin"), codes).expect("images");
        let mut command = match self {
            Self::Host => Command::new(compile(code, &driver, &CHECKED)),
            Self::Cortex(processor) => {
                let mut command = Command::new(root().join("tools/firmware/run.sh"));
                command.arg(code).arg(processor).arg(&driver);
                command
            }
        };
        let output = command
            .current_dir(folder)
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{self:?}: {output:?}");
        fs::read(folder.join("outputs.bin")).expect("outputs")
    }
}

/// Runs images through exported code and through the engine.
#[track_caller]
fn compare(
    code: &Path,
    name: &str,
    [model, sidecar, data]: [&Path; 3],
    images: usize,
    processor: Processor<'_>,
) -> Agreement {
    let header = fs::read_to_string(code.join(format!("{name}.h"))).expect("a header");
    let upper = name.to_uppercase();
    let number = |what: &str| constant(&header, &format!("{upper}_{what}"));
    let (scale, zero_point) = (number("INPUT_SCALE"), number("INPUT_ZERO_POINT"));
    let lens = ["INPUT_LEN", "OUTPUT_LEN"].map(|what| number(what) as usize);
    let settings = Sidecar::read(sidecar).expect("a sidecar").preprocessing;
    let dataset = Dataset::open(data).expect("images");
    let session = campana::open_session(model).expect("a session");
    let count = images.min(dataset.len());
    let (mut codes, mut expected, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    let input = session.plan().inputs()[0].name.clone();
    for index in 0..count {
        // Evenly spread, as classes may follow each other.
        let index = index * dataset.len() / count;
        let floats = dataset.decode(index, &settings).expect("an image");
        let channels = settings.channel_count();
        let pixels = floats.len() / channels;
        for pixel in 0..pixels {
            let channels = (0..channels).map(|channel| floats[channel * pixels + pixel]);
            codes.extend(channels.map(|value| {
                let code = value * (1.0 / scale) + (zero_point + 128.0);
                (code.round_ties_even().clamp(0.0, 255.0) as u8).wrapping_sub(128)
            }));
        }
        let shape = settings.input_shape(1);
        let given = campana::Input::F32 {
            shape: &shape,
            data: &floats,
        };
        let outputs = session.run(&[(input.as_str(), given)]).expect("a run");
        let TensorData::F32(found) = outputs[0].data() else {
            panic!("float outputs");
        };
        expected.extend_from_slice(found);
        labels.push(dataset.label(index));
    }
    let bytes = processor.outputs(code, name, lens, &codes);
    let (found, _) = bytes.as_chunks::<4>();
    assert_eq!(found.len(), expected.len(), "outputs");
    let images = found
        .chunks_exact(lens[1])
        .zip(expected.chunks_exact(lens[1]));
    let mut agreement = Agreement {
        images: count,
        equal: 0,
        right: 0,
    };
    for ((found, expected), label) in images.zip(labels) {
        let found = found.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let found: Vec<f32> = found.collect();
        let mut bits = found.iter().zip(expected);
        agreement.equal += usize::from(bits.all(|(a, b)| a.to_bits() == b.to_bits()));
        let best = (0..found.len()).max_by(|&a, &b| found[a].total_cmp(&found[b]));
        agreement.right += usize::from(best.is_some() && best == label);
    }
    agreement
}

#[test]
fn the_fixture_in_c_answers_as_the_engine() {
    let bits: [&[&str]; 3] = [
        &["--target", "w4a8"],
        &["--target", "w4a8", "--bits", "3"],
        &["--target", "int8"],
    ];
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let sidecar = fixture().with_extension("json");
    folder.write("model.json", fs::read(&sidecar).unwrap());
    let data = root().join("fixtures/cifar10_test_500.bin");
    for (i, bits) in bits.into_iter().enumerate() {
        let name = format!("net{i}");
        let model = format!("{name}.onnx");
        let quantize = ["quantize", "model.onnx", "--effort", "quick", "-o", &model];
        folder
            .run(&[&quantize[..], bits].concat())
            .may_warn("")
            .succeeds();
        let report = folder
            .run(&["export", &model, "-o", &name, "--json"])
            .json();
        assert_eq!(report["name"], name.as_str());
        assert!(report["ram_bytes"].as_u64().unwrap() < 64_000, "{report}");
        if !has_compiler() {
            continue;
        }
        self_test_passes(&folder.path(&name), &name);
        let files = [folder.path(&model), sidecar.clone(), data.clone()];
        let files = files.each_ref().map(PathBuf::as_path);
        let found = compare(&folder.path(&name), &name, files, 100, Processor::Host);
        assert_eq!(found.equal, found.images, "{bits:?}: {found:?}");
        assert!(found.right > 70, "{bits:?}: {found:?}");
    }
}

/// What is measured of a quantized model, and recorded in docs/microcontrollers.md:
///
/// ```sh
/// CAMPANA_FIRMWARE_MODEL=w4a8.onnx CAMPANA_FIRMWARE_SIDECAR=model.json \\
/// CAMPANA_FIRMWARE_DATA=cifar10_test.bin CAMPANA_FIRMWARE_IMAGES=10000 \\
/// cargo test -p campana --test firmware measured -- --ignored --nocapture
/// ```
#[test]
#[ignore = "measures a model that variables name"]
fn a_model_is_measured_on_all_images() {
    let file = |what: &str| {
        let path = std::env::var_os(format!("CAMPANA_FIRMWARE_{what}"));
        PathBuf::from(path.unwrap_or_else(|| panic!("set CAMPANA_FIRMWARE_{what}")))
    };
    let [model, sidecar, data] = ["MODEL", "SIDECAR", "DATA"].map(file);
    let images = std::env::var("CAMPANA_FIRMWARE_IMAGES").ok();
    let images = images
        .and_then(|count| count.parse().ok())
        .unwrap_or(usize::MAX);
    let folder = Folder::new();
    folder.write("net.onnx", fs::read(&model).expect("the model"));
    let report = folder
        .run(&["export", "net.onnx", "-o", "net", "--json"])
        .json();
    assert!(has_compiler(), "a compiler");
    let code = folder.path("net");
    self_test_passes(&code, "net");
    let processor = std::env::var("CAMPANA_FIRMWARE_PROCESSOR").ok();
    let processor = processor
        .as_deref()
        .map_or(Processor::Host, Processor::Cortex);
    let found = compare(&code, "net", [&model, &sidecar, &data], images, processor);
    let percent = 100.0 * found.right as f64 / found.images as f64;
    let (flash, ram) = (&report["flash_bytes"], &report["ram_bytes"]);
    eprintln!(
        "{}: {found:?}, {percent:.2} %; {flash} bytes of flash, {ram} of RAM",
        model.display()
    );
    assert_eq!(found.equal, found.images);
}

/// Layers of every kind that kernels have, with windows that reach beyond the
/// image on some sides.
///
/// Where not all activations are rounded, as the form w4a8 leaves those before
/// functions and products of activations, there are none of these.
fn every_kernel(all_are_rounded: bool) -> Vec<u8> {
    let (activation, gate) = match all_are_rounded {
        true => ("HardSwish", NewNode::new("Mul", ["c8", "s9"], ["e9"])),
        false => ("Relu", NewNode::new("Relu", ["c8"], ["e9"])),
    };
    let conv =
        |inputs: [&'static str; 2], output: &'static str| NewNode::new("Conv", inputs, [output]);
    NewModel::new()
        .input("x", &[1, 6, 13, 11])
        .output("logits", &[1, 7])
        .weights("w1", &[16, 6, 3, 3])
        .node(conv(["x", "w1"], "c1").attribute("pads", vec![1i64, 0, 2, 1]))
        .node(NewNode::new("Relu", ["c1"], ["r1"]))
        .weights("w2", &[16, 8, 3, 3])
        .node(
            conv(["r1", "w2"], "c2")
                .attribute("group", 2i64)
                .attribute("dilations", vec![2i64, 1])
                .attribute("pads", vec![2i64, 1, 2, 1]),
        )
        .node(NewNode::new("Add", ["c2", "r1"], ["a2"]))
        .weights("w3", &[16, 1, 5, 3])
        .node(
            conv(["a2", "w3"], "c3")
                .attribute("group", 16i64)
                .attribute("strides", vec![2i64, 1])
                .attribute("pads", vec![2i64, 1, 1, 1]),
        )
        .node(NewNode::new(activation, ["c3"], ["h3"]))
        .weights("w4", &[32, 1, 3, 3])
        .node(
            conv(["h3", "w4"], "c4")
                .attribute("group", 16i64)
                .attribute("pads", vec![1i64, 1, 1, 1]),
        )
        .node(NewNode::new("Relu", ["c4"], ["r4"]))
        .node(
            NewNode::new("MaxPool", ["r4"], ["m5"])
                .attribute("kernel_shape", vec![3i64, 2])
                .attribute("strides", vec![2i64, 2])
                .attribute("pads", vec![1i64, 1, 0, 0]),
        )
        .node(
            NewNode::new("AveragePool", ["r4"], ["p5"])
                .attribute("kernel_shape", vec![3i64, 2])
                .attribute("strides", vec![2i64, 2])
                .attribute("pads", vec![1i64, 1, 0, 0]),
        )
        .weights("w6", &[12, 32, 1, 1])
        .node(conv(["m5", "w6"], "c6"))
        .weights("w7", &[20, 32, 1, 1])
        .node(conv(["p5", "w7"], "c7"))
        .node(NewNode::new("Concat", ["c6", "c7"], ["j8"]).attribute("axis", 1i64))
        .weights("w8", &[32, 32, 1, 1])
        .node(conv(["j8", "w8"], "c8"))
        .node(NewNode::new("GlobalAveragePool", ["c8"], ["g9"]))
        .weights("w9", &[32, 32, 1, 1])
        .node(conv(["g9", "w9"], "c9"))
        .node(NewNode::new("Sigmoid", ["c9"], ["s9"]))
        .node(gate)
        .weights("w10", &[8, 32, 1, 1])
        .node(conv(["e9", "w10"], "c10"))
        .node(NewNode::new("Flatten", ["c10"], ["f10"]))
        .weights("w11", &[7, 120])
        .node(NewNode::new("Gemm", ["f10", "w11"], ["logits"]).attribute("transB", 1i64))
        .into_bytes()
}

#[test]
fn every_kernel_computes_what_the_engine_does() {
    for (target, all_are_rounded) in [("w4a8", false), ("int8", true)] {
        let folder = Folder::with_model(every_kernel(all_are_rounded));
        let model = format!("{target}.onnx");
        let quantize = ["quantize", "model.onnx", "--no-correct", "--target", target];
        let input = ["--input-range=-1,1", "-o", &model];
        folder
            .run(&[&quantize[..], &input].concat())
            .may_warn("")
            .succeeds();
        let export = ["export", &model, "-o", target];
        folder.run(&export).succeeds();
        if has_compiler() {
            self_test_passes(&folder.path(target), target);
        }
    }
}

/// The fixture in the form w4a8, quantized without data.
fn quantized_fixture() -> Folder {
    let folder = Folder::with_model(fs::read(fixture()).unwrap());
    let sidecar = fixture().with_extension("json");
    folder.write("model.json", fs::read(sidecar).unwrap());
    let quantize = ["quantize", "model.onnx", "--no-correct", "-o", "small.onnx"];
    folder
        .run(&[&quantize[..], &["--target", "w4a8"]].concat())
        .may_warn("")
        .succeeds();
    folder
}

#[test]
fn a_test_of_wrong_weights_fails() {
    if !has_compiler() {
        return;
    }
    let folder = quantized_fixture();
    folder
        .run(&["export", "small.onnx", "-o", "net"])
        .succeeds();
    let source = String::from_utf8(folder.read("net/small.c")).unwrap();
    let at = source.find("rows_3_levels").expect("levels");
    let first = at + source[at..].find("{\n    ").expect("a list") + 6;
    let wrong = format!("{}1 + {}", &source[..first], &source[first..]);
    folder.write("net/small.c", wrong);
    let code = folder.path("net");
    let program = compile(&code, &code.join("small_test.c"), &CHECKED);
    let output = Command::new(program).output().expect("the test runs");
    assert_eq!(output.status.code(), Some(1));
}

/// Whether code for Cortex-M can be compiled and run; said loudly where it cannot.
fn has_cortex_m() -> bool {
    let tools = ["arm-none-eabi-gcc", "qemu-system-arm"];
    let has = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
    let has_all = tools.iter().all(has);
    if !has_all {
        skipped("no compiler and machine for Cortex-M: tools/firmware/setup.sh installs them");
    }
    has_all
}

#[test]
fn the_fixture_on_cortex_m_answers_as_the_engine() {
    if !has_cortex_m() {
        return;
    }
    let folder = quantized_fixture();
    folder
        .run(&["export", "small.onnx", "-o", "net"])
        .succeeds();
    let data = root().join("fixtures/cifar10_test_500.bin");
    let files = [
        &folder.path("small.onnx"),
        &folder.path("model.json"),
        &data,
    ];
    for processor in ["m4", "m55"] {
        let processor = Processor::Cortex(processor);
        let files = files.map(PathBuf::as_path);
        let found = compare(&folder.path("net"), "small", files, 20, processor);
        assert_eq!(found.equal, 20, "{processor:?}");
    }
}

#[test]
fn kernels_for_cortex_m_compute_what_the_engine_does() {
    if !has_cortex_m() {
        return;
    }
    let folder = Folder::with_model(every_kernel(true));
    let quantize = ["quantize", "model.onnx", "--no-correct", "--target", "int8"];
    let input = ["--input-range=-1,1", "-o", "small.onnx"];
    folder
        .run(&[&quantize[..], &input].concat())
        .may_warn("")
        .succeeds();
    folder
        .run(&["export", "small.onnx", "-o", "net"])
        .succeeds();
    for processor in ["m4", "m55"] {
        let output = Command::new(root().join("tools/firmware/run.sh"))
            .arg(folder.path("net"))
            .arg(processor)
            .output()
            .expect("the script runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{processor}: {output:?}");
        assert!(
            said.contains("0 of 3 vectors differ"),
            "{processor}: {said}"
        );
    }
}

/// Two inverted bottlenecks, wide between narrow values; the second with a
/// residual, windows of two rows on one side, and a height that strips do not divide.
fn wide_blocks() -> Vec<u8> {
    let mut model = NewModel::new()
        .input("x", &[1, 8, 27, 20])
        .output("logits", &[1, 5])
        .weights("stem", &[8, 8, 3, 3])
        .node(
            NewNode::new("Conv", ["x", "stem"], ["s"])
                .attribute("strides", vec![1i64, 2])
                .attribute("pads", vec![1i64, 1, 1, 1]),
        )
        .node(NewNode::new("Relu", ["s"], ["y0"]));
    let blocks: [[&'static str; 7]; 2] = [
        ["y0", "e1", "er1", "d1", "dr1", "y1", "w1"],
        ["y1", "e2", "er2", "d2", "dr2", "p2", "w2"],
    ];
    for (i, [input, e, er, d, dr, y, w]) in blocks.into_iter().enumerate() {
        let [we, wd, wp] = ["e", "d", "p"].map(|part| format!("{w}{part}"));
        let stride = if i == 0 { 2i64 } else { 1 };
        model = model
            .weights(&we, &[64, 8, 1, 1])
            .node(NewNode::new("Conv", [input, &we], [e]))
            .node(NewNode::new("Relu", [e], [er]))
            .weights(&wd, &[64, 1, 4, 3])
            .node(
                NewNode::new("Conv", [er, &wd], [d])
                    .attribute("group", 64i64)
                    .attribute("strides", vec![stride, 1])
                    .attribute("pads", vec![2i64, 1, 1, 1]),
            )
            .node(NewNode::new("Relu", [d], [dr]))
            .weights(&wp, &[8, 64, 1, 1])
            .node(NewNode::new("Conv", [dr, &wp], [y]));
    }
    model
        .node(NewNode::new("Add", ["p2", "y1"], ["y2"]))
        .node(NewNode::new("GlobalAveragePool", ["y2"], ["g"]))
        .node(NewNode::new("Flatten", ["g"], ["f"]))
        .weights("last", &[5, 8])
        .node(NewNode::new("Gemm", ["f", "last"], ["logits"]).attribute("transB", 1i64))
        .into_bytes()
}

#[test]
fn layers_in_strips_of_rows_need_less_memory_and_give_the_same() {
    let folder = Folder::with_model(wide_blocks());
    let quantize = ["quantize", "model.onnx", "--no-correct", "--target", "w4a8"];
    let input = ["--input-range=-1,1", "-o", "small.onnx"];
    folder
        .run(&[&quantize[..], &input].concat())
        .may_warn("")
        .succeeds();
    let export = |name: &str, more: &[&str]| {
        let export = ["export", "small.onnx", "--json", "--name=net", "-o", name];
        folder.run(&[&export[..], more].concat()).json()
    };
    let whole = export("whole", &[]);
    let ram = |report: &serde_json::Value| report["ram_bytes"].as_u64().unwrap();
    let limit = ram(&whole) * 2 / 3;
    let strips = export("strips", &["--ram", &format!("{limit}B")]);
    assert!(ram(&strips) <= limit, "{strips}");
    let layers = strips["layers"].as_array().unwrap();
    assert!(
        layers
            .iter()
            .any(|layer| layer["strips"].as_u64() > Some(1))
    );
    assert_eq!(layers.len(), whole["layers"].as_array().unwrap().len());
    if has_compiler() {
        self_test_passes(&folder.path("strips"), "net");
    }
}

#[test]
fn what_does_not_fit_is_said_and_not_written() {
    let folder = quantized_fixture();
    let plan = ["export", "small.onnx", "--plan", "--json"];
    let report = folder.run(&plan).json();
    assert_eq!(
        (report["fits"].as_bool(), report.get("output")),
        (Some(true), None)
    );
    let layers = report["layers"].as_array().unwrap();
    let sum = |key: &str| {
        layers
            .iter()
            .map(|layer| layer[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(report["multiply_accumulates"], sum("multiply_accumulates"));
    let constants =
        report["flash_bytes"].as_u64().unwrap() - report["code_bytes"].as_u64().unwrap();
    assert_eq!(constants, sum("flash_bytes"));
    let ram = layers
        .iter()
        .map(|layer| layer["ram_bytes"].as_u64().unwrap())
        .max();
    assert!(report["ram_bytes"].as_u64() >= ram);
    let bounds = ["--flash", "40kB", "--ram", "16kB"];
    for command in [
        ["export", "small.onnx", "--plan"],
        ["export", "small.onnx", "--output=net"],
    ] {
        let before = folder.listing();
        let outcome = folder.run(&[&command[..], &bounds].concat());
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        for words in ["too much flash", "too much RAM", "campana quantize --bits"] {
            assert!(
                outcome.stdout.contains(words),
                "no {words}:\n{}",
                outcome.stdout
            );
        }
        support::assert_same_files(&before, &folder.listing());
    }
}

#[test]
fn what_cannot_be_firmware_is_refused_by_name() {
    let folder = quantized_fixture();
    let name = ["'model.onnx'", "integers", "node \"stem.conv\" (Conv)"];
    folder.refuses(&["export", "model.onnx", "-o", "net"], &name);
    let erf = NewModel::new()
        .input("x", &[1, 64])
        .output("z", &[1, 48])
        .weights("w", &[64, 48])
        .node(NewNode::new("MatMul", ["x", "w"], ["y"]))
        .node(NewNode::new("Erf", ["y"], ["z"]));
    folder.write("erf.onnx", erf.into_bytes());
    let quantize = ["quantize", "erf.onnx", "--no-correct", "--input-range=-1,1"];
    let target = ["--target", "w4a8", "-o", "erf8.onnx"];
    folder
        .run(&[&quantize[..], &target].concat())
        .may_warn("")
        .succeeds();
    let words = ["'erf8.onnx'", "\"z\" (Erf)", "floats"];
    folder.refuses(&["export", "erf8.onnx", "-o", "net"], &words);
    let export = ["export", "small.onnx", "-o", "net"];
    folder.refuses(&[&export[..], &["--name", "int"]].concat(), &["'int'", "C"]);
    folder.run(&export).succeeds();
    folder.refuses(&export, &["'net'", "--force"]);
    folder.run(&[&export[..], &["--force"]].concat()).succeeds();
    folder.write("thesis/chapter.tex", "years of work");
    let over = ["export", "small.onnx", "-o", "thesis", "--force"];
    folder.refuses(&over, &["'thesis'", "none that campana export wrote"]);
}

#[test]
fn a_softmax_at_the_end_is_left_out_and_that_is_said() {
    let model = NewModel::new()
        .input("x", &[1, 64])
        .output("probabilities", &[1, 48])
        .weights("w", &[64, 48])
        .node(NewNode::new("MatMul", ["x", "w"], ["logits"]))
        .node(NewNode::new("Softmax", ["logits"], ["probabilities"]));
    let folder = Folder::with_model(model.into_bytes());
    let quantize = [
        "quantize",
        "model.onnx",
        "--no-correct",
        "--input-range=-1,1",
    ];
    let target = ["--target", "w4a8", "-o", "small.onnx"];
    folder
        .run(&[&quantize[..], &target].concat())
        .may_warn("")
        .succeeds();
    let said = folder
        .run(&["export", "small.onnx", "-o", "net"])
        .succeeds();
    let header = String::from_utf8(folder.read("net/small.h")).unwrap();
    for text in [&said, &header] {
        assert!(
            text.contains("softmax of 'probabilities' is left out"),
            "{text}"
        );
    }
    if has_compiler() {
        self_test_passes(&folder.path("net"), "small");
    }
}
