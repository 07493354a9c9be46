#!/usr/bin/env python3
"""Float latency and memory of campana beside onnxruntime, in turn in one run.

    .venv-bench/bin/python benches/peers/float.py target/release/campana MODEL... [--record benchmarks/record]

Times, ratios and memory are those of `int8.py`.
"""

import argparse
import pathlib
import platform
import statistics
import sys

import engines
import record

COLUMNS = ["network", "batch", "threads", "campana ms", "onnxruntime ms", "ratio", "campana peak MB", "onnxruntime"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the command, built with --release")
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a slice")
    parser.add_argument("--record", type=pathlib.Path, help="folder for a dated record, which is added to")
    args = parser.parse_args()
    versions = {"campana": engines.campana_version(args.campana)}
    rows = []
    for model in args.models:
        for batch in args.batch:
            for threads in args.threads:
                rows.append(measure(args, model, threads, batch, versions))
                print(" | ".join(rows[-1]), flush=True)
    if args.record:
        target = args.record / platform.machine() / f"{record.today()}-float.md"
        record.append(target, record.head(versions) + record.table(COLUMNS, rows))
    return 0


def measure(args, model: pathlib.Path, threads: int, batch: int, versions: dict[str, str]) -> list[str]:
    """A row of the record."""
    own = engines.Campana(args.campana, str(model), threads, batch)
    peer = engines.Peer("onnxruntime", str(model), threads, batch)
    versions["onnxruntime"] = peer.facts["version"]
    rounds = [(own.slice(args.seconds), peer.slice(args.seconds)) for _ in range(args.rounds)]
    peer.close()
    ours, theirs = (statistics.median(times) for times in zip(*rounds))
    ratio = statistics.median(a / b for a, b in rounds)
    memory = [engines.memory(engine.facts) for engine in (own, peer)]
    return [model.stem, str(batch), str(threads), f"{ours:.3f}", f"{theirs:.3f}", f"{ratio:.2f}", *memory]


if __name__ == "__main__":
    sys.exit(main())
