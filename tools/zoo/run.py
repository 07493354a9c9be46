#!/usr/bin/env python3
"""Runs campana over the zoo and writes docs/zoo.md.

    .venv-zoo/bin/python tools/zoo/run.py                  the whole zoo
    .venv-zoo/bin/python tools/zoo/run.py --short --gate   the form that CI runs

CAMPANA names the binary [default: target/release/campana]. Raw results and the
files made are kept in the folder of --results, a JSON file for each network,
written after each configuration; what is in it is done again only with --again.
Smaller files come first. A step that fails or runs out of time becomes a cell,
and the run goes on. Exit status 1: the gate found a fault.
"""

import argparse
import json
import math
import os
import pathlib
import random
import shutil
import sys
import time

import configurations
import gate
import measure
import networks
import steps
import table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUNTIMES = ("ort", "ort-off", "openvino")
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Bench:
    """One network on the bench: its folder, its examples, what was found."""

    def __init__(self, network: networks.Network, args: argparse.Namespace, known: dict | None):
        self.network = network
        self.args = args
        self.record = args.results / f"{network.name}.json"
        self.folder = args.results / network.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.model = self.folder / "float.onnx"
        self.samples = self.folder / "samples"
        """What campana calibrates on: a folder of pictures or a file of arrays."""
        self.found: dict = known or {"name": network.name, "file": network.file, "configurations": {}}

    def prepare(self) -> None:
        """Copies the float file, and writes examples and the sidecar."""
        import numpy as np

        shutil.copyfile(self.network.path(), self.model)
        self._sidecar(self.model)
        for part, count, seed in (("test", self.args.examples, 1), ("calibration", self.args.calibration, 2)):
            rng = random.Random(seed)
            examples = [self.network.inputs(rng) for _ in range(count)]
            feeds = [feed for feed, _ in examples]
            arrays = {f"{at}/{name}": value for at, feed in enumerate(feeds) for name, value in feed.items()}
            np.savez(self.folder / f"{part}.npz", **arrays)
        if self.network.form and self.network.form.has_sidecar():
            self.samples.mkdir()
            for at, (_, picture) in enumerate(examples):
                picture.save(self.samples / f"{at:03}.png")
        else:  # one array for each input, examples along the first axis; scalars are the same for all
            joined = {name: np.concatenate([feed[name] for feed in feeds]) if value.ndim else value
                      for name, value in feeds[0].items()}
            self.samples = self.samples.with_suffix(".npz")
            np.savez(self.samples, **joined)

    def _sidecar(self, model: pathlib.Path) -> None:
        if self.network.form and self.network.form.has_sidecar():
            model.with_suffix(".json").write_text(json.dumps(self.network.form.sidecar()))

    def sessions(self, model: pathlib.Path) -> dict:
        """Runs the test examples in the stock runtimes; each runtime's line by its name."""
        out = self.folder / f"out-{model.stem}"
        lines: dict = {}
        waiting = list(RUNTIMES)
        while waiting:  # a runtime that crashes takes only itself along
            command = [sys.executable, HERE / "sessions.py", model, self.folder / "test.npz", out, *waiting]
            step = steps.run(command, self.args.limit, QUIET)
            for line in step.stdout.splitlines():
                told = json.loads(line)
                lines[told["runtime"]] = told
            waiting = [runtime for runtime in waiting if runtime not in lines]
            if waiting:
                lines[waiting[0]] = {"runtime": waiting[0], "error": step.error() or "printed nothing"}
                waiting = waiting[1:]
        return lines

    def compare(self, lines: dict, stem: str) -> None:
        """Adds to each runtime's line how far its outputs are from the float file's."""
        reference = self.folder / "out-float" / "ort.npz"
        for runtime, line in lines.items():
            if "error" in line or not reference.is_file():
                continue
            path = self.folder / f"out-{stem}" / f"{runtime}.npz"
            line["sqnr_db"] = measure.compare(reference, path)
            if self.network.class_axis is not None:
                line["same_answers"] = measure.same_answers(reference, path, self.network.class_axis)

    def quantize(self, configuration: configurations.Configuration) -> None:
        """Makes one file and measures it."""
        output = self.folder / f"{configuration.name}{configuration.suffix}"
        if configuration.baseline:
            command = [sys.executable, HERE / "baselines.py", configuration.baseline]
            command += [self.model, output, self.folder / "calibration.npz"]
        else:
            command = [self.args.campana, "quantize", self.model, "--output", output, "--force", "--json"]
            command += configuration.options
            command += ["--calibrate", self.samples] if configuration.data else []
        step = steps.run(command, self.args.limit, QUIET)
        made: dict = {"status": step.status, "elapsed_s": step.elapsed_s, "cpu_s": step.cpu_s, "peak_mb": step.peak_mb}
        self.found["configurations"][configuration.name] = made
        if step.error():
            made["error"] = self._told(step)
            made["left_behind"] = output.exists()
            return
        made["bytes"] = output.stat().st_size
        if not configuration.baseline:
            made["report"] = self._report(step.stdout)
            made["notes"] = [line for line in step.stderr.splitlines() if line.strip()][-4:]
        if configuration.suffix != ".onnx":
            return
        made["share"] = measure.quantized_share(self.model, output)
        self._sidecar(output)
        made["runtimes"] = self.sessions(output)
        self.compare(made["runtimes"], output.stem)
        if configuration.verified() and not configuration.baseline:
            made["verify"] = self._verify(output)

    def _told(self, step: steps.Step) -> str:
        return (step.error() or f"exit status {step.status}").replace(f"{self.folder}/", "")

    def _report(self, text: str) -> dict:
        """campana's JSON without the list of tensors."""
        try:
            report = json.loads(text)
        except json.JSONDecodeError as error:
            return {"unreadable": str(error)}
        tensors = report.pop("tensors", [])
        report["quantized_tensors"] = sum(1 for tensor in tensors if tensor.get("bits") is not None)
        return report

    def _verify(self, output: pathlib.Path) -> dict:
        command = [self.args.campana, "verify", output, "--reference", self.model, "--python", sys.executable]
        command += ["--runtimes", "onnxruntime,openvino", "--random", "4", "--runs", "3", "--threads", "1", "--json"]
        step = steps.run(command, self.args.limit, QUIET)
        if step.status not in (0, 1):
            return {"error": self._told(step)}
        return {"rows": json.loads(step.stdout)["rows"]}

    def go(self, waiting: list[configurations.Configuration]) -> dict:
        """Prepares the network and quantizes it in each waiting configuration."""
        self.prepare()
        self.found["bytes"] = self.model.stat().st_size
        self.found["runtimes"] = self.sessions(self.model)
        self.compare(self.found["runtimes"], "float")
        for configuration in waiting:
            if time.monotonic() > self.args.end:
                break
            self.quantize(configuration)
            self.record.write_text(json.dumps(self.found, indent=1))
            made = self.found["configurations"][configuration.name]
            print(f"  {configuration.name}: {table.brief(made)}", flush=True)
        if not self.args.keep:
            for path in self.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names, or parts of them [default: all]")
    parser.add_argument("--short", action="store_true", help="the few small networks that CI runs")
    parser.add_argument("--gate", action="store_true", help="exit status 1 where a rule is broken")
    parser.add_argument("--configurations", help="names, with commas between [default: all; --short: a few]")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "target" / "zoo", help="[default: target/zoo]")
    parser.add_argument("--table", type=pathlib.Path, help="[default: docs/zoo.md; --short: zoo.md in the results]")
    parser.add_argument("--limit", type=float, default=600, help="seconds that a step may take [default: 600]")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start nothing after these [default: no end]")
    parser.add_argument("--examples", type=int, default=8, help="test inputs [default: 8]")
    parser.add_argument("--calibration", type=int, default=16, help="calibration inputs [default: 16]")
    parser.add_argument("--again", action="store_true", help="also what has results")
    parser.add_argument("--note", default="", help="said at the head of the page, for example under what load times were taken")
    parser.add_argument("--keep", action="store_true", help="keep the files made")
    args = parser.parse_args()
    args.campana = pathlib.Path(os.environ.get("CAMPANA", ROOT / "target" / "release" / "campana")).resolve()
    args.results = args.results.resolve()
    args.end = time.monotonic() + 60 * args.minutes
    every = [configuration.name for configuration in configurations.CONFIGURATIONS]
    named = args.configurations.split(",") if args.configurations else configurations.SHORT if args.short else every
    if unknown := set(named) - set(every):
        parser.error(f"no such configuration: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    if not args.campana.is_file():
        parser.error(f"no binary at {args.campana}: build it, or name one by CAMPANA")
    args.configurations = [entry for entry in configurations.CONFIGURATIONS if entry.name in named]
    args.table = args.table or (args.results / "zoo.md" if args.short else ROOT / "docs" / "zoo.md")
    return args


def chosen(args: argparse.Namespace) -> list[networks.Network]:
    """The networks asked for, the smaller files first."""
    among = [network for network in networks.NETWORKS if network.short or not args.short]
    if args.networks:
        among = [network for network in among if any(part in network.name for part in args.networks)]
    return sorted(among, key=lambda network: network.path().stat().st_size if network.path().is_file() else 0)


def recorded(args: argparse.Namespace) -> list[dict]:
    """What is known of every network, from this run or an earlier one."""
    known = []
    for network in networks.NETWORKS:
        record = args.results / f"{network.name}.json"
        if record.is_file():
            known.append(json.loads(record.read_text()))
        elif network.short or not args.short:
            known.append({"name": network.name, "missing": network.file, "configurations": {}})
    return known


def main() -> int:
    args = arguments()
    args.results.mkdir(parents=True, exist_ok=True)
    results = []
    for network in chosen(args):
        record = args.results / f"{network.name}.json"
        known = json.loads(record.read_text()) if record.is_file() and not args.again else None
        done = known["configurations"] if known else {}
        waiting = [configuration for configuration in args.configurations if configuration.name not in done]
        if known and not waiting:
            results.append(known)
            continue
        if time.monotonic() > args.end:
            break
        print(network.name, flush=True)
        if not network.path().is_file():
            print(f"  not there: {network.path()}; tools/zoo/setup.sh --torch brings it", flush=True)
            results.append({"name": network.name, "missing": network.file, "configurations": {}})
            continue
        results.append(Bench(network, args, known).go(waiting))
    version = steps.run([args.campana, "--version"], 10).stdout.strip()
    args.table.write_text(table.page(recorded(args), version, args.short, args.note))
    print(f"wrote {args.table}")
    faults = gate.faults(results)
    for fault in faults if args.gate else ():
        print(f"gate: {fault}")
    if args.gate:
        failed = len({fault.split(":")[0] for fault in faults})
        print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if args.gate and faults else 0


if __name__ == "__main__":
    sys.exit(main())
