//! The interface as its users have it: the archive of
//! `tools/release/c_library.sh`, C and C++ programs that are compiled with it,
//! and what they print.
#![cfg(target_os = "linux")]

#[path = "support/types_model.rs"]
mod types_model;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use campana_testing::{fixture, root, skipped};
use tempfile::TempDir;

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn model() -> PathBuf {
    fixture("cifar10_resnet8.onnx")
}

/// Whether the machine has a program; says so where it has not.
fn has(program: &str, for_what: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skipped(&format!("{for_what}: no '{program}' on this machine"));
    }
    found
}

/// What a command prints; its success is demanded.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The unpacked archive, which is built once.
static PACKAGE: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let script = root().join("tools/release/c_library.sh");
    let mut command = Command::new("sh");
    let command = command.arg(script).arg(folder.path().join("built"));
    run(command
        .env("PROFILE", "dev")
        .env("CARGO_NET_OFFLINE", "true"));
    let built = fs::read_dir(folder.path().join("built")).expect("the archive");
    let archive = built
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .expect("an archive");
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(folder.path()));
    let name = archive.file_name().expect("a name").to_string_lossy();
    let package = folder.path().join(name.trim_end_matches(".tar.gz"));
    (folder, package)
});

fn package() -> &'static Path {
    &PACKAGE.1
}

/// The value of a key of the package's `campana.pc`.
fn pkg_config(key: &str) -> Vec<String> {
    let file = package().join("lib/pkgconfig/campana.pc");
    let text = fs::read_to_string(file).expect("campana.pc");
    let prefix = format!("{key}: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    let line = line.unwrap_or_else(|| panic!("no {key} in campana.pc"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// Compiles a program; the shared library is found at run time where it lies.
fn compile(source: &Path, binary: &Path, is_static: bool) {
    let lib = package().join("lib");
    let is_c = source.extension().is_some_and(|extension| extension == "c");
    let (compiler, standard) = if is_c {
        ("cc", "-std=c11")
    } else {
        ("c++", "-std=c++17")
    };
    let mut command = Command::new(compiler);
    command
        .args([
            standard,
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-g",
            "-I",
        ])
        .arg(package().join("include"))
        .arg(source);
    if is_static {
        command
            .arg(lib.join("libcampana.a"))
            .args(pkg_config("Libs.private"));
    } else {
        let rpath = format!("-Wl,-rpath,{}", lib.display());
        command
            .arg("-L")
            .arg(&lib)
            .args(["-lcampana", "-lpthread", &rpath]);
    }
    run(command.arg("-o").arg(binary));
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = crate_folder().join("include/campana.h");
    let text = fs::read_to_string(header).expect("the header");
    let mut without_comments = String::new();
    for (i, part) in text.split("/*").enumerate() {
        let code = if i == 0 {
            Some(part)
        } else {
            part.split_once("*/").map(|(_, code)| code)
        };
        without_comments.push_str(code.expect("an end of a comment"));
    }
    let calls = without_comments.match_indices('(');
    calls
        .filter_map(|(at, _)| {
            let before = &without_comments[..at];
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let start = before.rfind(|c| !is_word(c))? + 1;
            Some(before[start..].to_owned())
        })
        .filter(|name| name.starts_with("campana_"))
        .collect()
}

/// The names that a library defines for others, by `nm`.
fn defined(arguments: &[&str], library: &str) -> BTreeSet<String> {
    let mut command = Command::new("nm");
    let text = run(command
        .args(arguments)
        .arg("--defined-only")
        .arg(package().join("lib").join(library)));
    let symbols = text.lines().filter_map(|line| line.split_once(" T "));
    symbols.map(|(_, name)| name.trim().to_owned()).collect()
}

#[test]
fn libraries_export_what_the_header_declares_and_a_test_calls_it() {
    let declared = declared();
    assert!(declared.len() >= 10, "{declared:?}");
    let program = fs::read_to_string(crate_folder().join("tests/c/interface.c"));
    let program = program.expect("the test in C");
    for name in &declared {
        assert!(program.contains(&format!("{name}(")), "no call of {name}");
    }
    if !has("nm", "exports against the header") {
        return;
    }
    assert_eq!(defined(&["-D"], "libcampana.so"), declared);
    let mut archive = defined(&["--extern-only"], "libcampana.a");
    archive.retain(|name| name.starts_with("campana_"));
    assert_eq!(archive, declared);
}

#[test]
fn the_headers_version_is_the_crates() {
    let header = fs::read_to_string(crate_folder().join("include/campana.h")).expect("the header");
    let line = concat!(
        "#define CAMPANA_VERSION \"",
        env!("CARGO_PKG_VERSION"),
        "\""
    );
    assert!(header.contains(line), "the header lacks: {line}");
}

#[test]
fn every_function_keeps_its_promises() {
    if !has("cc", "the interface from C") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let container = folder.path().join("model.campana");
    let opened = campana_onnx::Model::open(model()).expect("the fixture");
    let packed = campana_ir::format::container::pack(&opened).expect("a container");
    fs::write(&container, packed).expect("the container");
    let types = folder.path().join("types.onnx");
    fs::write(&types, types_model::bytes()).expect("the model of types");
    let source = crate_folder().join("tests/c/interface.c");
    for is_static in [false, true] {
        let binary = folder.path().join(format!("interface_{is_static}"));
        compile(&source, &binary, is_static);
        let files = [&model(), &container, &types];
        let text = run(Command::new(&binary).args(files));
        assert_eq!(text, "all as promised\n");
        if is_static || !has("valgrind", "memory of the interface") {
            continue;
        }
        let text = run(Command::new("valgrind")
            .args(["--quiet", "--error-exitcode=9", "--leak-check=full"])
            .args(["--errors-for-leak-kinds=definite", "--fair-sched=yes"])
            .arg(&binary)
            .args(files));
        assert_eq!(text, "all as promised\n");
    }
}

#[test]
fn examples_print_the_same_classes_however_they_are_linked() {
    if !(has("cc", "the examples") && has("c++", "the example in C++")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut printed: Vec<String> = Vec::new();
    for name in ["top5.c", "top5.cpp"] {
        for is_static in [false, true] {
            let binary = folder.path().join(format!("{name}_{is_static}"));
            compile(&package().join("examples").join(name), &binary, is_static);
            let text = run(Command::new(&binary).arg(model()));
            let (classes, time) = text.split_at(text.rfind("\n").map_or(0, |end| {
                text[..end].rfind('\n').map_or(0, |start| start + 1)
            }));
            assert!(time.contains(" ms a run, campana 0."), "{text}");
            assert_eq!(classes.lines().count(), 5, "{text}");
            printed.push(classes.to_owned());
            let missing = Command::new(&binary).arg("missing.onnx").output();
            let missing = missing.expect("the example");
            let errors = String::from_utf8_lossy(&missing.stderr);
            assert!(
                !missing.status.success() && errors.contains("missing.onnx"),
                "{errors}"
            );
        }
    }
    assert!(
        printed.iter().all(|text| *text == printed[0]),
        "{printed:?}"
    );
    let picture = folder.path().join("picture.ppm");
    let pixels = (0..32 * 32 * 3).map(|i| (i * 7 % 256) as u8);
    let ppm: Vec<u8> = b"P6\n32 32\n255\n".iter().copied().chain(pixels).collect();
    fs::write(&picture, &ppm).expect("a picture");
    let mut command = Command::new(folder.path().join("top5.c_true"));
    let text = run(command.arg(model()).arg(&picture));
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn the_program_of_the_page_works() {
    if !has("cc", "the program of docs/c.md") {
        return;
    }
    let page = fs::read_to_string(root().join("docs/c.md")).expect("the page");
    let program = page.split("```c\n").nth(1).expect("a program");
    let program = program.split("```").next().expect("its end");
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("classify.c");
    fs::write(&source, program).expect("the program");
    let binary = folder.path().join("classify");
    compile(&source, &binary, false);
    fs::copy(model(), folder.path().join("model.onnx")).expect("a copy");
    let text = run(Command::new(&binary).current_dir(folder.path()));
    assert!(text.starts_with("class "), "{text}");
}

#[test]
fn pkg_config_finds_the_package() {
    if !(has("pkg-config", "campana.pc") && has("cc", "campana.pc")) {
        return;
    }
    let find = |arguments: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", package().join("lib/pkgconfig"));
        run(command.args(arguments).arg("campana"))
    };
    assert_eq!(find(&["--modversion"]).trim(), env!("CARGO_PKG_VERSION"));
    let folder = tempfile::tempdir().expect("a folder");
    let binary = folder.path().join("top5");
    let flags = find(&["--cflags", "--libs"]);
    let mut command = Command::new("cc");
    run(command
        .arg(package().join("examples/top5.c"))
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(&binary));
    let mut command = Command::new(&binary);
    command.env("LD_LIBRARY_PATH", package().join("lib"));
    assert_eq!(run(command.arg(model())).lines().count(), 6);
}

#[test]
fn cmake_finds_the_package() {
    if !(has("cmake", "campana-config.cmake") && has("cc", "campana-config.cmake")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let lists = "cmake_minimum_required(VERSION 3.16)\nproject(top5 C)\n\
        find_package(campana CONFIG REQUIRED)\n\
        add_executable(shared top5.c)\ntarget_link_libraries(shared campana::campana)\n\
        add_executable(static top5.c)\ntarget_link_libraries(static campana::static)\n";
    fs::write(folder.path().join("CMakeLists.txt"), lists).expect("the lists");
    fs::copy(
        package().join("examples/top5.c"),
        folder.path().join("top5.c"),
    )
    .expect("a copy");
    let prefix = format!("-DCMAKE_PREFIX_PATH={}", package().display());
    let build = folder.path().join("build");
    let mut command = Command::new("cmake");
    run(command
        .arg("-S")
        .arg(folder.path())
        .arg("-B")
        .arg(&build)
        .arg(prefix));
    run(Command::new("cmake").arg("--build").arg(&build));
    for name in ["shared", "static"] {
        let text = run(Command::new(build.join(name)).arg(model()));
        assert_eq!(text.lines().count(), 6, "{name}: {text}");
    }
}
