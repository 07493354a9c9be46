"""Float latency and memory of campana beside onnxruntime, in turn in one run.

    python benches/peers/float.py MODEL... --campana target/release/campana [--threads 1 2] [--batch 1 16]
        [--rounds 5] [--seconds 0.5] [--record FILE]

Each round times one engine, then the other, each for about `--seconds`; a
row shows the median time of either engine over all rounds and the median of
the rounds' ratios, which a change of the machine's load between rounds does
not move. Memory is the peak of a process that loads the model and runs it
three times; of onnxruntime's, what Python with numpy and onnxruntime takes
without a model is shown beside it. `--record FILE` appends to a record.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import numpy
import onnxruntime

MEMORY = """
import sys, resource, numpy, onnxruntime
path, threads, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if path:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = [batch, *session.get_inputs()[0].shape[1:]]
    feed = {session.get_inputs()[0].name: numpy.zeros(shape, numpy.float32)}
    for _ in range(3):
        session.run(None, feed)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def onnxruntime_peak(path, threads, batch):
    """Peak bytes of a process that runs a model, or of one that runs none."""
    command = [sys.executable, "-c", MEMORY, path or "", str(threads), str(batch)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Onnxruntime:
    """A session that is timed again and again."""

    def __init__(self, path, threads, batch):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        first = self.session.get_inputs()[0]
        data = numpy.random.default_rng(1).uniform(-1, 1, [batch, *first.shape[1:]])
        self.feed = {first.name: data.astype(numpy.float32)}
        for _ in range(5):
            self.session.run(None, self.feed)

    def times(self, seconds):
        """Milliseconds of each run."""
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            self.session.run(None, self.feed)
            times.append((time.perf_counter() - start) * 1e3)
        return times


def campana_bench(binary, path, threads, batch, runs):
    """What `campana bench` says of a model."""
    command = [binary, "bench", path, "--json", "--threads", threads, "--batch", batch, "--runs", runs]
    result = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return json.loads(result.stdout)["models"][0]


def processor():
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit():
    """The commit of the source tree, marked where files differ from it."""
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--campana", default="target/release/campana")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--record")
    args = parser.parse_args()

    version = subprocess.run([args.campana, "--version"], capture_output=True, text=True).stdout.strip()
    shown = " ".join(os.path.basename(part) if os.sep in part else part for part in sys.argv)
    lines = [
        f"# {time.strftime('%Y-%m-%d %H:%M')} {processor()}, {os.cpu_count()} threads",
        f"# {version}, commit {commit()}, onnxruntime {onnxruntime.__version__}, Python {platform.python_version()}",
        f"# python {shown}",
        f"# {'model':38} batch threads | campana ms | onnxruntime ms | ratio | peak MB campana | onnxruntime (without model)",
    ]
    print("\n".join(lines), flush=True)
    empty = onnxruntime_peak(None, 1, 1)
    for path in args.models:
        for batch in args.batch:
            for threads in args.threads:
                peer = Onnxruntime(path, threads, batch)
                one = campana_bench(args.campana, path, threads, batch, 3)
                runs = max(3, int(args.seconds * 1e3 / one["median_ms"]))
                rounds = []
                for _ in range(args.rounds):
                    ours = campana_bench(args.campana, path, threads, batch, runs)["median_ms"]
                    rounds.append((ours, statistics.median(peer.times(args.seconds))))
                ours, theirs = (statistics.median(times) for times in zip(*rounds))
                ratio = statistics.median(ours / theirs for ours, theirs in rounds)
                peak = (one["peak_rss_bytes"] or 0) / 1e6
                peer_peak = onnxruntime_peak(path, threads, batch) / 1e6
                name = os.path.basename(path).removesuffix(".onnx")
                line = (
                    f"{name:40} {batch:5} {threads:7} | {ours:10.3f} | {theirs:14.3f} | {ratio:5.2f} "
                    f"| {peak:15.1f} | {peer_peak:6.1f} ({empty / 1e6:.1f})"
                )
                print(line, flush=True)
                lines.append(line)
    if args.record:
        os.makedirs(os.path.dirname(args.record) or ".", exist_ok=True)
        with open(args.record, "a") as record:
            record.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
