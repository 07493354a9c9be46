//! What developers run: `cargo xtask`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that reports")]

mod step;
mod table;
mod transcript;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use step::Step;
use table::Row;

const USAGE: &str = "usage: cargo xtask TASK

  test [ARGS]  set up what the tests need (runtimes of other projects in virtual environments), run
               cargo test --workspace ARGS, the Python package's and the browser page's tests, and
               end with a table of what passed, failed and was skipped
  check        test, then a few shipped networks (tools/zoo), format, lints, documentation, what
               packages hold and the book: what CI runs
  zoo          all shipped networks through every form and runtime; writes docs/zoo.md (hours)
  memory       the kernels' tests under AddressSanitizer, ThreadSanitizer and valgrind (half an hour)
  aarch64      the kernels' tests and recorded networks on emulated ARM processors
  web          sets up WebAssembly, then the kernels' tests and recorded networks at all its levels,
               the browser page's tests and the npm package's
  snapshots    write the snapshots of the command line's tests again
  results      make docs/results again (hours)
  release DIR  static binary, wheel, C library, browser page and npm package, each where this machine
               can, into DIR
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    let (steps, rest) = match arguments.split_first() {
        Some((task, rest)) => (steps(task, rest), rest),
        None => (None, &[][..]),
    };
    let takes_arguments = matches!(
        arguments.first().map(String::as_str),
        Some("test" | "release")
    );
    match steps {
        Some(steps) if takes_arguments || rest.is_empty() => run(&steps, &root),
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// What a task runs, one after another.
fn steps(task: &str, arguments: &[String]) -> Option<Vec<Step>> {
    let cargo_test = Step::tests(
        "cargo test",
        "cargo",
        ["test", "--workspace", "--no-fail-fast"],
    );
    let tests = [
        Step::set_up("other runtimes", "tools/peers/setup.sh"),
        cargo_test.with(arguments),
        Step::script("Python package", "tools/python/test.sh"),
        Step::script("browser page", "tools/web/test.sh"),
    ];
    let checks = [
        Step::script("shipped networks", "tools/zoo/test.sh"),
        Step::new("format", "cargo", ["fmt", "--all", "--check"]),
        Step::new(
            "lints",
            "cargo",
            [
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
        Step::new(
            "documentation",
            "cargo",
            ["doc", "--workspace", "--no-deps"],
        )
        .environment("RUSTDOCFLAGS", "-D warnings"),
        Step::script("packages", "tools/release/check_packages.sh"),
        Step::script("book", "tools/book/build.sh"),
    ];
    Some(match task {
        "test" => tests.into(),
        "check" => tests.into_iter().chain(checks).collect(),
        "zoo" => vec![
            Step::script("networks", "tools/zoo/setup.sh").with(&["--torch".to_owned()]),
            Step::new(
                "release build",
                "cargo",
                ["build", "--release", "--package", "campana"],
            ),
            Step::new("zoo", ".venv-zoo/bin/python", ["tools/zoo/run.py"]),
        ],
        "memory" => vec![
            Step::script("sanitizers", "tools/memory/sanitizers.sh"),
            Step::script("valgrind", "tools/memory/valgrind.sh"),
        ],
        "aarch64" => vec![Step::script("AArch64", "tools/aarch64/test.sh")],
        "web" => vec![
            Step::set_up("WebAssembly tools", "tools/web/setup.sh"),
            Step::script("WebAssembly", "tools/web/test_levels.sh"),
            Step::script("browser page", "tools/web/test.sh"),
            Step::script("npm package", "tools/web/test_npm.sh"),
        ],
        "snapshots" => {
            let snapshots = ["test", "--package", "campana", "--test", "cli", "contract"];
            vec![Step::new("snapshots", "cargo", snapshots).environment("INSTA_UPDATE", "always")]
        }
        "results" => vec![Step::script("results", "tools/results/make.sh")],
        "release" => {
            let [folder] = arguments else {
                return None;
            };
            let into = |name, script| Step::script(name, script).with(std::slice::from_ref(folder));
            vec![
                into("static binary", "tools/release/build.sh"),
                into("wheel", "tools/python/wheel.sh"),
                into("C library", "tools/release/c_library.sh"),
                Step::set_up("WebAssembly tools", "tools/web/setup.sh"),
                into("browser page", "tools/web/build.sh"),
                into("npm package", "tools/web/npm.sh"),
            ]
        }
        _ => return None,
    })
}

/// Runs all steps, also after one that failed, and says what came of each.
fn run(steps: &[Step], root: &Path) -> ExitCode {
    let run = |step| {
        let start = Instant::now();
        let outcome = Step::run(step, root);
        Row {
            step,
            outcome,
            time: start.elapsed(),
        }
    };
    let rows: Vec<Row<'_>> = steps.iter().map(run).collect();
    println!("\n{}", table::of(&rows));
    match rows.iter().all(|row| row.outcome.passed()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
