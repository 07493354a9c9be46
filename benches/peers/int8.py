#!/usr/bin/env python3
"""Latency, memory and load time of campana's w4a8 models beside other engines.

    benches/peers/setup.sh
    .venv-bench/bin/python benches/peers/int8.py target/release/campana MODEL... [--record benchmarks/record]

For each float ONNX model the peers' static int8 form is made by onnxruntime's
own quantizer (QDQ, per channel, normalizations folded first) on random images,
which is enough for timing; onnxruntime and OpenVINO read it as it is, LiteRT
and ncnn in forms with the same scales. All engines, each a process, take turns
in short slices. A row shows the median and the least of an engine's rounds; a
ratio is the median of the rounds' ratios, which a change of the machine's load
between rounds does not move. Loading is the median of several processes for
campana and onnxruntime's int8, and one process for the others; libraries are
loaded before. Memory is the peak of the process; behind the
plus is what was there before the network: Python, NumPy, the engine's library.
"""

import argparse
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

import engines
import forms
import record

PEERS = list(engines.ENGINES)
OWN = "campana w4a8"
# Of the scores that engines give the same image; less tells of another network.
MIN_LIKENESS = 0.9
# Times that campana and this one load a network, in turn, each time in a process of its own.
LOADED = "onnxruntime int8"
LOADS = 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the command, built with --release")
    parser.add_argument("models", type=pathlib.Path, nargs="+", help="float ONNX models with their sidecars")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a slice")
    parser.add_argument("--bits", default="4")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the quantized models, used again where they are")
    parser.add_argument("--prepare-only", action="store_true", help="make the quantized models, measure nothing")
    parser.add_argument("--record", type=pathlib.Path, help="folder for a dated record, which is added to")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sections, versions = [], {"campana": engines.campana_version(args.campana)}
        for model in args.models:
            files = prepare(args, model, folder)
            if args.prepare_only:
                continue
            for threads in args.threads:
                lines = measure(args, model.stem, files, threads, versions)
                print(*lines, sep="\n", flush=True)
                sections += lines
    if args.record and sections:
        target = args.record / platform.machine() / f"{record.today()}-int8.md"
        record.append(target, record.head(versions) + sections)
    return 0


def prepare(args, model: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    """The model for each engine: the files, or why there is none."""
    files = forms.peer_files(model, folder)
    own = folder / f"{model.stem}.w{args.bits}a8.onnx"
    if not own.exists():
        # Corrections change values, not what is computed.
        options = ["--target", "w4a8", "--bits", args.bits, "--no-correct"]
        command = [args.campana, "quantize", str(model), "-o", str(own), *options]
        subprocess.run(command, check=True, capture_output=True)
        shutil.copy(model.with_suffix(".json"), own.with_suffix(".json"))
    return {**files, OWN: str(own)}


def measure(args, name: str, files: dict[str, str], threads: int, versions: dict[str, str]) -> list[str]:
    """The section of a record about one network and number of threads."""
    running, notes = {OWN: engines.Campana(args.campana, files[OWN], threads)}, []
    scores = {}
    for engine in PEERS:
        for form in ("int8", "float"):
            path = files[f"{engine} {form}"]
            peer = engines.Peer(engine, path, threads)
            if "error" in peer.facts:
                notes.append(f"{engine} {form}: {peer.facts['error']}")
                continue
            versions[engine] = peer.facts["version"]
            likeness = statistics.correlation(scores.setdefault(form, peer.facts["scores"]), peer.facts["scores"])
            if likeness < MIN_LIKENESS:
                notes.append(f"{engine} {form}: scores correlate with {PEERS[0]}'s by {likeness:.3f} only")
            running[f"{engine} {form}"] = peer
    loads = {label: [engine.facts["load_ms"]] for label, engine in running.items()}
    for _ in range(LOADS - 1):
        loads[OWN].append(engines.Campana(args.campana, files[OWN], threads).facts["load_ms"])
        if LOADED in running:
            peer = engines.Peer(LOADED.split()[0], files[LOADED], threads)
            loads[LOADED].append(peer.facts["load_ms"])
            peer.close()
    times = {label: [] for label in running}
    for _ in range(args.rounds):
        for label, engine in running.items():
            times[label].append(engine.slice(args.seconds))
    for engine in running.values():
        engine.close()
    medians = {label: statistics.median(values) for label, values in times.items()}
    best = {form: min((l for l in medians if l.endswith(form)), key=medians.get) for form in ("int8", "float")}

    def ratio(label: str, to: str) -> str:
        return f"{statistics.median(a / b for a, b in zip(times[label], times[to])):.2f}"

    rows = [
        [
            label,
            f"{medians[label]:.3f}",
            f"{min(times[label]):.3f}",
            ratio(label, best["int8"]),
            ratio(label, best["float"]),
            f"{statistics.median(loads[label]):.1f}",
            f"{engine.facts['first_ms']:.1f}",
            engines.memory(engine.facts),
        ]
        for label, engine in running.items()
    ]
    ratios = [f"to {best['int8']}", f"to {best['float']}"]
    columns = ["engine", "ms", "least ms", *ratios, "load ms", "first run ms", "peak MB"]
    title = f"### {name}, {threads} {'thread' if threads == 1 else 'threads'}"
    return [title, "", *record.table(columns, rows), "", *[f"{note}\n" for note in notes]]


if __name__ == "__main__":
    sys.exit(main())
