#!/usr/bin/env python3
"""Instructions for each multiply-accumulate of networks under QEMU.

    tools/aarch64/build.sh
    benches/aarch64/count.py dist/campana-aarch64 MODEL=MACS... [--record benchmarks/record/aarch64]

Each model runs on one thread, 5 + N and 5 + 2 N times in processes of their own;
the difference of their instructions is that of N runs, since loading and laying
out weights are the same in both. A model's multiply-accumulates are those of all
its convolutions and dense layers; instructions are those of everything that it
does, pools, conversions of inputs and all. `count.c` counts them.
"""

import argparse
import datetime
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

LEVELS = {"neon": "cortex-a53", "dotprod": "cortex-a76", "i8mm": "max"}
HERE = pathlib.Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the command for AArch64, linked statically")
    parser.add_argument("models", nargs="+", help="MODEL=MACS: a file, and its multiply-accumulates in millions")
    parser.add_argument("--runs", type=int, default=1, help="N")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--record", type=pathlib.Path, help="folder for a dated record")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        plugin = pathlib.Path(scratch) / "count.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", plugin, HERE / "count.c"], check=True)
        for text in args.models:
            model, macs = text.rsplit("=", 1)
            for level in args.levels:
                once, twice = (count(args.campana, plugin, model, level, n * args.runs) for n in (1, 2))
                of_one = (twice - once) / args.runs
                rows.append((pathlib.Path(model).stem, level, of_one, of_one / (float(macs) * 1e6)))
                print("%-24s %-8s %12.1f M  %.4f" % (rows[-1][0], level, of_one / 1e6, rows[-1][3]), flush=True)
    if args.record:
        record(args, rows)
    return 0


def count(campana: str, plugin: pathlib.Path, model: str, level: str, runs: int) -> int:
    """Instructions of one process that runs a model so often."""
    command = ["qemu-aarch64", "-cpu", LEVELS[level], "-plugin", plugin, "-E", f"CAMPANA_CPU={level}"]
    # The process that measures one model's memory: it starts no other.
    command += ["-E", f"CAMPANA_BENCH_ALONE={model}", campana, "bench", model, "--runs", str(runs), "--threads", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        # The command ends with its input, so that stays open.
        errors = process.stderr.read().decode()
    found = re.search(r"instructions: (\d+)", errors)
    if process.returncode != 0 or not found:
        sys.exit(f"{model} at {level}: {errors}")
    return int(found[1])


def record(args: argparse.Namespace, rows: list) -> None:
    """Writes a dated record of the rows."""
    args.record.mkdir(parents=True, exist_ok=True)
    path = args.record / f"{datetime.date.today()}.md"
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True)
    qemu = subprocess.run(["qemu-aarch64", "--version"], check=True, capture_output=True, text=True)
    compiler = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True)
    lines = [
        "# Instructions under emulation",
        "",
        f"Commit {commit.stdout.strip()}, {compiler.stdout.strip()}, {qemu.stdout.splitlines()[0]} on {platform.machine()}.",
        "Command: `benches/aarch64/count.py`, one thread, one image; networks of `tools/peers/make_networks.py` and",
        "their forms by `campana quantize --no-correct`.",
        "",
        "| Network | Level | Instructions of a run, millions | of a multiply-accumulate |",
        "| --- | --- | --- | --- |",
    ]
    lines += ["| %s | %s | %.1f | %.4f |" % (name, level, total / 1e6, each) for name, level, total, each in rows]
    path.write_text("\n".join(lines) + "\n")
    print(path)


if __name__ == "__main__":
    sys.exit(main())
