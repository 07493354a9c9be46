#!/usr/bin/env python3
"""Checks campana's statistics and k-means against scipy and kmeans1d.

D: `campana inspect` on tensors made here (densities, ties, zeros, constants,
one element, outliers, sizes on both sides of where campana stops sorting) and
on the weights of MODELs, against scipy.stats.kstest of the fitted densities.

K-means: `campana quantize --method kmeans --granularity tensor --target
float` of MODELs, weights read back, against the exact optimum by kmeans1d.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import kmeans1d
import numpy as np
import onnx
import scipy.stats
from onnx import helper, numpy_helper

MAX_D_ERROR = 1e-12
MAX_MOMENT_ERROR = 1e-12  # relative
MAX_KMEANS_EXCESS = 1e-6  # relative

# Tensors are repeated until this long: campana keeps smaller ones as floats,
# and repetition changes neither the optimal levels nor their MSE.
MIN_KMEANS_LEN = 4096


def synthetic_tensors() -> dict[str, np.ndarray]:
    """Tensors at the edges of what the statistics can meet."""
    random = np.random.default_rng(1)
    normal, laplace = random.normal(0.01, 0.1, 300_000), random.laplace(-0.02, 0.05, 300_000)
    pruned = np.where(random.random(100_000) < 0.6, 0, normal[:100_000])
    outliers = normal[:100_000].copy()
    outliers[:5] = [1e4, -3e3, 77, 1e6, -1e7]
    tensors = {
        "one": [0.3],
        "two": [0.3, -1.7],
        "three": [0, 0, 1],
        "zeros": np.zeros(1000),
        "constant": np.full(50_000, 0.1),
        "almost constant": [0.1] * 9999 + [0.1 + 1e-7],
        "two values": random.choice([-1.0, 2.5], 100_000, p=[0.3, 0.7]),
        "binary": random.choice([-1.0, 1.0], 30_000),
        "few values": np.round(normal[:60_000] * 8) / 8,
        "ties": np.round(normal, 3),
        "pruned": pruned,
        "outliers": outliers,
        "huge": normal[:40_000] * 1e30,
        "tiny": normal[:40_000] * 1e-38,
        "far from zero": 1000 + normal[:50_000],
        "uniform": random.uniform(-1, 1, 100_000),
        "skewed": random.exponential(1, 100_000),
        "two humps": np.concatenate([normal[:40_000] - 1, normal[:40_000] + 1]),
        "student": random.standard_t(2, 100_000),
        "sorted": np.sort(normal[:80_000]),
    }
    for count in (2, 9, 100, 8191, 20_000, 50_000, 300_000):
        tensors[f"normal {count}"] = normal[:count]
        tensors[f"laplace {count}"] = laplace[:count]
    return {name: np.asarray(values, np.float32) for name, values in tensors.items()}


def write_model(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """A model of one MatMul for each tensor."""
    nodes, inputs, outputs, stored = [], [], [], []
    for name, values in tensors.items():
        nodes.append(helper.make_node("MatMul", [f"{name}.x", name], [f"{name}.y"]))
        inputs.append(helper.make_tensor_value_info(f"{name}.x", onnx.TensorProto.FLOAT, [1, len(values)]))
        outputs.append(helper.make_tensor_value_info(f"{name}.y", onnx.TensorProto.FLOAT, [1, 1]))
        stored.append(numpy_helper.from_array(values.reshape(-1, 1), name))
    graph = helper.make_graph(nodes, "tensors", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The initializers of a model."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def campana(command: str, *options) -> dict:
    """Runs campana; returns the JSON it prints."""
    result = subprocess.run([command, *map(str, options), "--json"], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"campana {' '.join(map(str, options))}: {result.stderr}")
    return json.loads(result.stdout)


def expected_statistics(values: np.ndarray, ggd: list[float]) -> dict[str, float]:
    """Fits by maximum likelihood, D of both, and D of the generalized Gaussian
    with the parameters that were found, by scipy."""
    x = values.astype(np.float64).ravel()
    median, smallest = np.median(x), np.finfo(float).tiny
    mean = x[0] if (x == x[0]).all() else x.mean()
    deviation, spread = np.sqrt(np.mean((x - mean) ** 2)), np.mean(np.abs(x - median))
    # The D of a constant tensor is the limit for scales that go to zero.
    gaussian = scipy.stats.norm(mean, deviation or smallest)
    laplace = scipy.stats.laplace(median, spread or smallest)
    return {
        "mean": mean,
        "std": deviation,
        # kstest sorts first and sums nothing: D alone is needed, no p-value.
        "d_gaussian": scipy.stats.kstest(x, gaussian.cdf, mode="asymp").statistic,
        "d_laplace": scipy.stats.kstest(x, laplace.cdf, mode="asymp").statistic,
        "d_ggd": scipy.stats.kstest(
            x, scipy.stats.gennorm(ggd[2], ggd[0], ggd[1] or smallest).cdf, mode="asymp"
        ).statistic,
    }


def check_statistics(command: str, path: pathlib.Path) -> tuple[int, float, int]:
    """Tensors checked, largest error of D, failures."""
    tensors = read_tensors(path)
    worst, failures = 0.0, 0
    inspected = campana(command, "inspect", path)["tensors"]
    for found in inspected:
        values = tensors[found["name"]]
        expected = expected_statistics(values, found["ggd"])
        scale = float(np.abs(values).max()) or 1.0
        for key in ("mean", "std"):
            if abs(found[key] - expected[key]) > MAX_MOMENT_ERROR * scale:
                failures += 1
                print(f"FAILED {found['name']}: {key} {found[key]!r}, expected {expected[key]!r}")
        for key in ("d_gaussian", "d_laplace", "d_ggd"):
            error = abs(found[key] - expected[key])
            worst = max(worst, error)
            if not error <= MAX_D_ERROR:
                failures += 1
                print(f"FAILED {found['name']}: {key} {found[key]!r}, scipy {expected[key]!r}, error {error:.1e}")
        family = "laplace" if expected["d_laplace"] < expected["d_gaussian"] else "gaussian"
        close = abs(expected["d_laplace"] - expected["d_gaussian"]) < 2 * MAX_D_ERROR
        if found["family"] != family and not close:
            failures += 1
            print(f"FAILED {found['name']}: family {found['family']}, expected {family}")
    return len(inspected), worst, failures


def check_kmeans(command: str, path: pathlib.Path, bits: list[int], max_work: float) -> tuple[int, float, int, int]:
    """Designs checked, largest relative excess of the MSE, failures, designs
    left out because they would take kmeans1d too long."""
    checked, worst, failures, skipped = 0, 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "in.onnx"), pathlib.Path(folder, "out.onnx")
        names = [tensor["name"] for tensor in campana(command, "inspect", path)["tensors"]]
        originals = {name: values.ravel() for name, values in read_tensors(path).items() if name in names}
        repeated = {name: np.tile(w, -(-MIN_KMEANS_LEN // w.size)) for name, w in originals.items()}
        write_model(source, repeated)
        for width in bits:
            options = ["--bits", width, "--method", "kmeans", "--granularity", "tensor", "--target", "float"]
            campana(command, "quantize", source, "-o", target, "--force", *options)
            decoded = read_tensors(target)
            for name, weights in originals.items():
                if weights.size * 2**width > max_work:
                    skipped += 1
                    continue
                weights = weights.astype(np.float64)
                found = np.mean((weights - decoded[name].ravel()[: weights.size]) ** 2)
                levels = min(2**width, np.unique(weights).size)
                clusters, centroids = kmeans1d.cluster(weights, levels)
                # Levels are stored as float32: where nearly every weight has its own level, their rounding is most
                # of the error, so it is done to both.
                stored = np.array(centroids).astype(np.float32).astype(np.float64)
                best = np.mean((weights - stored[clusters]) ** 2)
                excess = max(found - best, 0) / max(best, np.finfo(float).tiny)
                checked, worst = checked + 1, max(worst, excess)
                if not excess <= MAX_KMEANS_EXCESS:
                    failures += 1
                    print(f"FAILED {name} at {width} bits: MSE {found!r}, kmeans1d {best!r}, excess {excess:.1e}")
    return checked, worst, failures, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the command")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--bits", type=int, nargs="+", default=list(range(2, 9)), help="widths for k-means [2 to 8]")
    parser.add_argument("--max-work", type=float, default=1e12, help="leave out tensors of more weights x levels")
    args = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "synthetic.onnx")
        write_model(path, synthetic_tensors())
        for model in [path, *args.models]:
            count, worst, failed = check_statistics(args.campana, model)
            failures += failed
            print(f"{model.name}: D of {count} tensors, largest error {worst:.1e}, {failed} failures", flush=True)
    for model in args.models:
        count, worst, failed, skipped = check_kmeans(args.campana, model, args.bits, args.max_work)
        failures += failed
        print(
            f"{model.name}: {count} k-means designs, largest excess of the MSE {worst:.1e}, {failed} failures, "
            f"{skipped} left out",
            flush=True,
        )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
