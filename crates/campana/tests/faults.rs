//! What is left of outputs when the system fails, or the process is killed, at
//! any of its calls: every model that is there is whole, and is the old one or
//! the new one.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use campana_formats::{SafetensorsWriter, TensorFile};
use campana_onnx::{Model, NewNode};
use campana_pipeline::{
    Bound, Error, FileSystem, Monitor, Overwrite, QuantizeJob, SystemFiles, pack_file,
    quantize_file, read_plan, unpack_file,
};
use campana_quantize::{MethodChoice, Options, Progress, Silent};
use campana_tensor::ElementType;

#[allow(dead_code, unreachable_pub, reason = "a part of it is used")]
#[path = "support/models.rs"]
mod models;

use models::{NewModel, add_conv, external, little_endian, random_weights};

/// More calls than any job here makes.
const MAX_CALLS: usize = 2_000;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// This one alone, as on a disk that is full for a moment.
    Once,
    /// This one and all that follow: the process is no more.
    Kill,
}

/// A system in which one call fails. Asserts that no file gets its name before
/// its bytes are on the disk, and no model before the names of its data.
struct Faulty<'a> {
    fault: Fault,
    /// Calls until that one.
    calls_left: AtomicUsize,
    has_failed: AtomicBool,
    /// Whether the call that failed was to remove a file.
    failed_at_removal: AtomicBool,
    synced: Mutex<BTreeSet<PathBuf>>,
    /// Names that are not on the disk yet.
    new_names: Mutex<BTreeSet<PathBuf>>,
    /// The output that may refer to others.
    model: &'a Path,
}

impl<'a> Faulty<'a> {
    fn new(fault: Fault, at: usize, model: &'a Path) -> Self {
        Self {
            fault,
            calls_left: AtomicUsize::new(at),
            has_failed: AtomicBool::new(false),
            failed_at_removal: AtomicBool::new(false),
            synced: Mutex::default(),
            new_names: Mutex::default(),
            model,
        }
    }

    fn call(&self) -> io::Result<()> {
        let left = self.calls_left.load(Ordering::Relaxed);
        self.calls_left
            .store(left.saturating_sub(1), Ordering::Relaxed);
        let fails = left == 1;
        if fails {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        let is_dead = self.fault == Fault::Kill && self.has_failed.load(Ordering::Relaxed);
        if fails || is_dead {
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }

    fn check_order(&self, from: &Path, to: &Path) {
        let synced = self.synced.lock().unwrap();
        assert!(synced.contains(from), "{} is not on the disk", to.display());
        let mut names = self.new_names.lock().unwrap();
        if to == self.model {
            assert!(names.is_empty(), "{names:?} are not on the disk");
        }
        names.insert(to.to_owned());
    }
}

impl FileSystem for Faulty<'_> {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.call()?;
        SystemFiles.create(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.call() {
            // Some of it came through.
            let _ = SystemFiles.write(file, &bytes[..bytes.len() / 2]);
            return Err(error);
        }
        SystemFiles.write(file, bytes)
    }

    fn copy(&self, from: &mut File, to: &mut File, limit: u64) -> io::Result<u64> {
        self.call()?;
        SystemFiles.copy(from, to, limit)
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.call()?;
        self.synced.lock().unwrap().insert(path.to_owned());
        SystemFiles.sync(file, path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call()?;
        let mut names = self.new_names.lock().unwrap();
        names.retain(|name| name.parent() != Some(folder));
        SystemFiles.sync_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        self.check_order(from, to);
        SystemFiles.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        self.check_order(from, to);
        SystemFiles.rename_new(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.call()?;
        SystemFiles.exchange(one, other)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.call()?;
        SystemFiles.create_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let before = self.has_failed.load(Ordering::Relaxed);
        let called = self.call();
        if called.is_err() && !before {
            self.failed_at_removal.store(true, Ordering::Relaxed);
        }
        called?;
        SystemFiles.remove(path)
    }
}

impl Progress for Faulty<'_> {}

impl Monitor for Faulty<'_> {
    fn file_system(&self) -> &dyn FileSystem {
        self
    }
}

/// A job in a folder; `model` of it is the output that may refer to others.
struct Case<'c> {
    /// Puts the folder into the state before the job.
    prepare: &'c dyn Fn(&Path),
    run: &'c dyn Fn(&Path, &dyn Monitor) -> Result<(), Error>,
    model: &'c str,
    /// Outputs beside it: plans and pages.
    texts: &'c [&'c str],
}

impl Case<'_> {
    /// Lets each call of the job fail in turn; returns how many there are.
    fn survives(&self) -> usize {
        let old = self.outcome(&|_| ());
        let new = self.outcome(&|folder| (self.run)(folder, &Silent).unwrap());
        assert_ne!(old, new, "the job changes the output");
        let calls = Cell::new(0);
        for fault in [Fault::Once, Fault::Kill] {
            for at in 1..MAX_CALLS {
                let what = format!("{fault:?} at call {at}");
                let has_failed = Cell::new(false);
                let left = self.outcome(&|folder| {
                    let model = folder.join(self.model);
                    let faulty = Faulty::new(fault, at, &model);
                    let result = (self.run)(folder, &faulty);
                    has_failed.set(faulty.has_failed.into_inner());
                    if fault == Fault::Once && !faulty.failed_at_removal.into_inner() {
                        assert_no_leftovers(folder, &what);
                    }
                    if result.is_ok() {
                        let content = content(&model);
                        assert_eq!(content, new, "{what}");
                    }
                    for name in self.texts {
                        assert_whole(&folder.join(name), &what);
                    }
                });
                assert!(left == old || left == new, "{what}: neither old nor new");
                if !has_failed.get() {
                    calls.set(at - 1);
                    break;
                }
            }
        }
        calls.get()
    }

    /// What the output is after something is done in a fresh folder.
    fn outcome(&self, work: &dyn Fn(&Path)) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        (self.prepare)(folder.path());
        work(folder.path());
        content(&folder.path().join(self.model))
    }
}

/// A model with all that it refers to; the bytes of another file. Panics where
/// anything is missing.
fn content(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    if path
        .extension()
        .is_some_and(|extension| extension == "onnx")
    {
        let model = Model::open(path).expect("a whole model");
        for tensor in model.tensors() {
            if model
                .external_path(tensor)
                .expect("data beside it")
                .is_some()
            {
                model.copy_external(tensor, &mut bytes).expect("its data");
            }
        }
    }
    Some(bytes)
}

/// A plan or a page that is there is whole.
fn assert_whole(path: &Path, what: &str) {
    if !path.exists() {
        return;
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "html")
    {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.trim_end().ends_with("</html>"), "{what}: half a page");
    } else {
        read_plan(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

fn assert_no_leftovers(folder: &Path, what: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with(".campana-"), "{what}: {name}");
        if path.is_dir() {
            assert_no_leftovers(&path, what);
        }
    }
}

const LARGE: [usize; 4] = [16, 8, 3, 3];
const OTHER: [usize; 2] = [64, 64];

/// A model with two weight tensors in a file beside it, or inside.
fn write_model(path: &Path, location: Option<&str>) {
    let model = match location {
        Some(location) => NewModel::new()
            .initializer(external("w", &LARGE, location, 0))
            .initializer(external("other", &OTHER, location, 8192)),
        None => NewModel::new()
            .weights("w", &LARGE)
            .weights("other", &OTHER),
    };
    let model = model
        .input("v", &[1, 64])
        .node(NewNode::new("MatMul", ["v", "other"], ["u"]))
        .output("u", &[1, 64]);
    fs::write(path, add_conv(model, "").into_bytes()).unwrap();
    if let Some(location) = location {
        let mut bytes = little_endian(&random_weights("w", 16 * 8 * 9));
        bytes.resize(8192, 0);
        bytes.extend(little_endian(&random_weights("other", 64 * 64)));
        let data = path.with_file_name(location);
        fs::create_dir_all(data.parent().unwrap()).unwrap();
        fs::write(data, bytes).unwrap();
    }
}

fn options(bits: u8) -> Options {
    Options {
        bits,
        method: MethodChoice::Fixed(campana_design::Method::Minmax),
        ..Options::default()
    }
}

fn quantize([input, output]: [&Path; 2], bits: u8, monitor: &dyn Monitor) -> Result<(), Error> {
    let options = options(bits);
    let job = QuantizeJob {
        samples: None,
        overwrite: Overwrite::Allowed,
        ..QuantizeJob::new(input, output, &options)
    };
    quantize_file(&job, monitor).map(|_| ())
}

#[test]
fn a_model_with_its_weights_inside() {
    let case = Case {
        prepare: &|folder| {
            write_model(&folder.join("in.onnx"), None);
            let paths = ["in.onnx", "out.onnx"].map(|name| folder.join(name));
            quantize([&paths[0], &paths[1]], 8, &Silent).unwrap();
        },
        run: &|folder, monitor| {
            let paths = ["in.onnx", "out.onnx"].map(|name| folder.join(name));
            quantize([&paths[0], &paths[1]], 4, monitor)
        },
        model: "out.onnx",
        texts: &[],
    };
    assert!(case.survives() >= 4);
}

#[test]
fn a_model_with_data_beside_it_that_takes_anothers_place() {
    let paths = |folder: &Path| ["in.onnx", "out.onnx"].map(|name| folder.join(name));
    for location in ["in.onnx.data", "below/weights.bin"] {
        let case = Case {
            prepare: &|folder| {
                let [input, output] = paths(folder);
                write_model(&input, Some(location));
                quantize([&input, &output], 8, &Silent).unwrap();
            },
            run: &|folder, monitor| {
                let [input, output] = paths(folder);
                quantize([&input, &output], 4, monitor)
            },
            model: "out.onnx",
            texts: &[],
        };
        assert!(case.survives() >= 8);
    }
}

#[test]
fn a_new_model_with_data_a_plan_and_a_report() {
    for exists in [false, true] {
        let run = |folder: &Path, bits: f64, monitor: &dyn Monitor| {
            let [input, output, plan, page] =
                ["in.onnx", "out.onnx", "plan.toml", "page.html"].map(|name| folder.join(name));
            let options = options(4);
            let job = QuantizeJob {
                samples: None,
                overwrite: Overwrite::Allowed,
                bound: Some(Bound::BitsPerWeight(bits)),
                best_effort: true,
                save_plan: Some(&plan),
                page: Some(&page),
                ..QuantizeJob::new(&input, &output, &options)
            };
            quantize_file(&job, monitor).map(|_| ())
        };
        let case = Case {
            prepare: &|folder| {
                write_model(&folder.join("in.onnx"), Some("in.onnx.data"));
                if exists {
                    run(folder, 7.0, &Silent).unwrap();
                }
            },
            run: &|folder, monitor| run(folder, 4.5, monitor),
            model: "out.onnx",
            texts: &["plan.toml", "page.html"],
        };
        assert!(case.survives() >= 12);
    }
}

#[test]
fn data_that_is_copied_to_another_folder() {
    for is_occupied in [false, true] {
        let case = Case {
            prepare: &|folder| {
                fs::create_dir(folder.join("out")).unwrap();
                write_model(&folder.join("in.onnx"), Some("w.bin"));
                if is_occupied {
                    write_model(&folder.join("out/out.onnx"), Some("w.bin"));
                    let data = fs::read(folder.join("out/w.bin")).unwrap();
                    let other: Vec<u8> = data.iter().map(|byte| byte ^ 1).collect();
                    fs::write(folder.join("out/w.bin"), other).unwrap();
                }
            },
            run: &|folder, monitor| {
                let options = Options {
                    keep: vec!["*".parse().unwrap()],
                    ..options(4)
                };
                let [input, output] = ["in.onnx", "out/out.onnx"].map(|name| folder.join(name));
                let job = QuantizeJob {
                    samples: None,
                    overwrite: Overwrite::Allowed,
                    ..QuantizeJob::new(&input, &output, &options)
                };
                quantize_file(&job, monitor).map(|_| ())
            },
            model: "out/out.onnx",
            texts: &[],
        };
        assert!(case.survives() >= 6);
    }
}

#[test]
fn containers_and_what_comes_out_of_them() {
    let prepare = |folder: &Path| {
        for (name, bits) in [("a", 4), ("b", 8)] {
            let [float, small, packed] = [
                "float.onnx".to_owned(),
                format!("{name}.onnx"),
                format!("{name}.campana"),
            ]
            .map(|name| folder.join(name));
            write_model(&float, None);
            quantize([&float, &small], bits, &Silent).unwrap();
            pack_file(&small, &packed, Overwrite::Allowed, &Silent).unwrap();
        }
    };
    let pack = Case {
        prepare: &prepare,
        run: &|folder, monitor| {
            let [input, output] = ["a.onnx", "b.campana"].map(|name| folder.join(name));
            pack_file(&input, &output, Overwrite::Allowed, monitor).map(|_| ())
        },
        model: "b.campana",
        texts: &[],
    };
    assert!(pack.survives() >= 4);
    let unpack = Case {
        prepare: &prepare,
        run: &|folder, monitor| {
            let [input, output] = ["a.campana", "b.onnx"].map(|name| folder.join(name));
            unpack_file(&input, &output, Overwrite::Allowed, monitor).map(|_| ())
        },
        model: "b.onnx",
        texts: &[],
    };
    assert!(unpack.survives() >= 4);
}

#[test]
fn weights_without_a_graph() {
    let paths = |folder: &Path| ["in.safetensors", "out.safetensors"].map(|name| folder.join(name));
    let case = Case {
        prepare: &|folder| {
            let [input, output] = paths(folder);
            let mut writer = SafetensorsWriter::new(folder).unwrap();
            let bytes = little_endian(&random_weights("w", 64 * 64));
            writer
                .tensor("w", ElementType::F32, &[64, 64], &bytes)
                .unwrap();
            writer.finish(&mut File::create(&input).unwrap()).unwrap();
            quantize([&input, &output], 8, &Silent).unwrap();
            TensorFile::open(&output).unwrap();
        },
        run: &|folder, monitor| {
            let [input, output] = paths(folder);
            quantize([&input, &output], 4, monitor)
        },
        model: "out.safetensors",
        texts: &[],
    };
    assert!(case.survives() >= 4);
}

#[test]
fn old_data_goes_when_no_model_refers_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let data = |model: &str| {
        let model = Model::open(path(model)).unwrap();
        let files = model
            .tensors()
            .into_iter()
            .filter_map(|tensor| model.external_path(tensor).unwrap());
        files.collect::<BTreeSet<PathBuf>>()
    };
    write_model(&path("in.onnx"), Some("in.onnx.data"));
    let quantize = |bits| quantize([&path("in.onnx"), &path("out.onnx")], bits, &Silent).unwrap();
    quantize(8);
    let of_8_bits = data("out.onnx");
    quantize(4);
    let of_4_bits = data("out.onnx");
    assert_ne!(of_8_bits, of_4_bits);
    assert!(of_8_bits.iter().all(|file| !file.exists()), "{of_8_bits:?}");
    // A copy of the model still needs its data.
    fs::copy(path("out.onnx"), path("copy.onnx")).unwrap();
    quantize(8);
    assert!(of_4_bits.iter().all(|file| file.exists()), "{of_4_bits:?}");
    assert_eq!(data("copy.onnx"), of_4_bits);
    // What was not written for this output is left alone.
    write_model(&path("out.onnx"), Some("out.onnx.data"));
    quantize(4);
    assert!(path("out.onnx.data").exists() && path("in.onnx.data").exists());
}
