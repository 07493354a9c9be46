//! A target of `campana-fuzz` under libFuzzer, which keeps the inputs that reach
//! new code and mutates them further.
//!
//! The target's name is taken from `CAMPANA_FUZZ_TARGET`; its seeds are written
//! into `CAMPANA_FUZZ_CORPUS`, which is given to libFuzzer as its corpus. See
//! `tools/fuzz/guided.sh`.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use campana_fuzz::{Random, Target, Watchdog, execute, mutate, targets};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

struct Chosen {
    target: Target,
    seeds: Vec<Vec<u8>>,
    watchdog: Watchdog,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

fn chosen() -> &'static Chosen {
    CHOSEN.get_or_init(|| {
        let name = std::env::var("CAMPANA_FUZZ_TARGET").expect("CAMPANA_FUZZ_TARGET is not set");
        let target = targets()
            .into_iter()
            .find(|target| target.name == name)
            .unwrap_or_else(|| panic!("there is no target '{name}'"));
        Chosen {
            seeds: (target.seeds)(),
            target,
            // libFuzzer has a watchdog of its own (`-timeout`).
            watchdog: Watchdog::default(),
        }
    })
}

fn write_seeds() {
    let folder = std::env::var_os("CAMPANA_FUZZ_CORPUS").expect("CAMPANA_FUZZ_CORPUS is not set");
    let folder = PathBuf::from(folder);
    for (index, seed) in chosen().seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).expect("a seed is written");
    }
}

fuzz_target!(init: { write_seeds(); }, |bytes: &[u8]| {
    let Chosen { target, watchdog, .. } = chosen();
    if let Err(finding) = execute(target, bytes, watchdog) {
        panic!("{}: {finding}", target.name);
    }
});

// libFuzzer knows bytes and comparisons; the harness knows protobuf numbers,
// decimal digits and sizes that ask for too much. One execution in two each.
fuzz_mutator!(|bytes: &mut [u8], len: usize, max_len: usize, seed: u32| {
    if seed % 2 == 0 {
        return fuzzer_mutate(bytes, len, max_len);
    }
    let mut input = bytes[..len].to_vec();
    mutate(
        &mut Random::new(u64::from(seed)),
        &mut input,
        &chosen().seeds,
    );
    let len = input.len().min(max_len);
    bytes[..len].copy_from_slice(&input[..len]);
    len
});
