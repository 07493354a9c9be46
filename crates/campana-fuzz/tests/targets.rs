//! Every target for a moment, and by a command of its own for long.
//!
//! Memory is counted for the whole process, so that all of it is one test.

use std::time::{Duration, Instant};

use campana_fuzz::{Random, Target, Watchdog, execute, exhaustive, mutate, targets};

/// Executions of each target in the suite, and how long it may take at most:
/// the first that is reached ends it.
const EXECUTIONS: usize = 300;
const MOMENT: Duration = Duration::from_millis(300);

fn watchdog() -> Watchdog {
    Watchdog::start(Duration::from_secs(120), |target, input| {
        eprintln!("target {target} hung on {input:?}");
    })
}

/// Fails with what is wrong, and the input by which to see it again.
#[track_caller]
fn check(target: &Target, input: &[u8], watchdog: &Watchdog) {
    if let Err(finding) = execute(target, input, watchdog) {
        panic!("target {}: {finding}; its input is {input:?}", target.name);
    }
}

/// Files on which a target once failed.
fn past_findings() -> Vec<(&'static str, Vec<u8>)> {
    // Functions that call each other ten times each, thirty deep, and hold no
    // node of their own.
    vec![("onnx", campana_fuzz::corpus::calls_without_end())]
}

#[test]
fn mutated_files_never_panic_nor_take_more_than_they_may() {
    let watchdog = watchdog();
    for target in targets() {
        let seeds = (target.seeds)();
        for seed in &seeds {
            check(&target, seed, &watchdog);
        }
        for (_, input) in past_findings()
            .iter()
            .filter(|(name, _)| *name == target.name)
        {
            check(&target, input, &watchdog);
        }
        let mut random = Random::new(20);
        let start = Instant::now();
        for _ in 0..EXECUTIONS {
            let mut input = random.pick(&seeds).clone();
            mutate(&mut random, &mut input, &seeds);
            check(&target, &input, &watchdog);
            if start.elapsed() > MOMENT {
                break;
            }
        }
    }
}

/// `cargo test --release -p campana-fuzz --test targets -- --ignored`
#[test]
#[ignore = "minutes: every byte and every length of one small file of each format"]
fn every_byte_and_every_length_of_small_files() {
    const FORMATS: [&str; 9] = [
        "onnx",
        "safetensors",
        "npy",
        "npz",
        "pytorch",
        "pytorch-legacy",
        "pickle",
        "container",
        "png",
    ];
    let watchdog = watchdog();
    for target in targets() {
        if !FORMATS.contains(&target.name) {
            continue;
        }
        let mut executions = 0;
        exhaustive(&(target.seeds)()[0], |input| {
            executions += 1;
            check(&target, input, &watchdog);
        });
        eprintln!("{}: {executions} executions", target.name);
    }
}
