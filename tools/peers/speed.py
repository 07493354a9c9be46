#!/usr/bin/env python3
"""Times `campana quantize` on a large model against `cat` and `cp` of it.

The commands run in turns, so that what else the machine does hits all of them
alike; medians are printed, with ratios to `cat` + `cp`. The file is read once
before, so that it is in the page cache.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def measure(command: list[str]) -> tuple[float, float, int]:
    """Seconds of wall clock and of CPU, and peak memory in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the command, built with --release")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--options", default="--method ks --bits 4 --granularity tensor")
    args = parser.parse_args()
    model = str(args.model)
    model_len = args.model.stat().st_size
    with tempfile.TemporaryDirectory(dir=args.model.parent) as folder:
        output = str(pathlib.Path(folder, "out"))
        commands = {"cat": ["cat", model], "cp": ["cp", model, output]}
        for threads in args.threads:
            options = [*args.options.split(), "--threads", str(threads), "--force"]
            commands[f"{threads} threads"] = [args.campana, "quantize", model, "-o", output, *options]
        measured = {name: [] for name in commands}
        measure(commands["cat"])
        for _ in range(args.rounds):
            for name, command in commands.items():
                measured[name].append(measure(command))
                pathlib.Path(output).unlink(missing_ok=True)
    medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in measured.items()}
    base = medians["cat"][0] + medians["cp"][0]
    print(f"{model_len:,} bytes, medians of {args.rounds} rounds, {args.options}")
    for name, (elapsed, cpu, memory) in medians.items():
        print(
            f"{name:10} {elapsed:6.3f} s, {cpu:6.3f} s of CPU, {elapsed / base:5.2f} x (cat + cp), "
            f"peak memory {memory / model_len:.3f} x the model"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
