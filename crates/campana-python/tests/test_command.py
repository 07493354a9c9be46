"""Tests of the command that the package brings, and of what runs it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import campana
import pytest

from support import IMAGES, MODEL

COMMAND = [sys.executable, "-m", "campana"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, encoding="utf-8", **options)


def test_the_module_is_the_command(tmp_path):
    version = run("--version")
    assert (version.returncode, version.stdout) == (0, f"campana {campana.__version__}\n")
    output = tmp_path / "smaller.onnx"
    done = run("quantize", MODEL, "-o", output, "--bits", "3", "--json")
    assert done.returncode == 0 and not done.stderr
    report = campana.quantize(MODEL, tmp_path / "again.onnx", bits=3)
    assert output.read_bytes() == (tmp_path / "again.onnx").read_bytes()
    told = json.loads(done.stdout)
    assert told.keys() == report.keys() and told["tensors"] == report["tensors"]


def test_exit_statuses_are_those_of_the_command(tmp_path):
    assert run().returncode == 2 and "Usage" in run().stderr
    missing = run("inspect", tmp_path / "no-such.onnx")
    assert missing.returncode == 2 and missing.stderr.startswith("error: ") and not missing.stdout
    missed = run("quantize", MODEL, "-o", tmp_path / "out.onnx", "--max-size", "2kB", "--no-correct")
    assert missed.returncode == 1 and not (tmp_path / "out.onnx").exists()


def test_the_entry_point_is_the_command():
    # As pip's script does.
    code = "import sys; from campana.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, f"campana {campana.__version__}\n")


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_the_command_and_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "evaluate", *[str(MODEL)] * 40, "--data", str(IMAGES), "--batch", "1"], stderr=subprocess.PIPE,
        # Shells start what runs in the background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    time.sleep(2)
    assert process.poll() is None
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == 2 and b"interrupted" in text and b"Traceback" not in text


def test_a_container_is_packed_and_unpacked(tmp_path):
    packed, back = tmp_path / "model.campana", tmp_path / "back.onnx"
    report = campana.pack(MODEL, packed)
    assert report["output_bytes"] == packed.stat().st_size < report["input_bytes"] == MODEL.stat().st_size
    assert campana.unpack(packed, back)["output_bytes"] == back.stat().st_size
    assert back.read_bytes() == MODEL.read_bytes()
    with pytest.raises(campana.OutputExistsError, match="force=True"):
        campana.pack(MODEL, packed)
    assert campana.pack(MODEL, packed, force=True) and "model.campana" in repr(report)
    with pytest.raises(campana.FormatError):
        campana.unpack(MODEL, tmp_path / "wrong.onnx")
    with pytest.raises(campana.ArgumentError, match="name"):
        campana.pack(MODEL, None)


def test_a_model_proto_is_packed(tmp_path):
    onnx = pytest.importorskip("onnx")
    campana.pack(onnx.load(MODEL), tmp_path / "model.campana")
    campana.unpack(tmp_path / "model.campana", tmp_path / "back.onnx")
    assert onnx.load(tmp_path / "back.onnx") == onnx.load(MODEL)


def test_a_comparison_has_the_commands_rows(tmp_path):
    report = campana.compare(MODEL, IMAGES, bits=[3, 8], methods=["ks", "kmeans"], granularity="tensor", limit=50,
                             csv=tmp_path / "rows.csv")
    assert report["n"] == 50 and sorted((row["method"], row["bits"]) for row in report["rows"]) == [
        ("kmeans", 3), ("kmeans", 8), ("ks", 3), ("ks", 8)]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 5
    with pytest.raises(campana.CommandError, match="--force"):
        campana.compare(MODEL, IMAGES, bits=3, methods="ks", limit=5, csv=tmp_path / "rows.csv")
    with pytest.raises(campana.ArgumentError, match="'9'"):
        campana.compare(MODEL, IMAGES, bits=9)
    with pytest.raises(campana.ArgumentTypeError, match="limit"):
        campana.compare(MODEL, IMAGES, limit="x")


def test_shares_of_a_comparison_are_merged(tmp_path):
    table = dict(bits=[3, 8], methods=["ks", "kmeans"], granularity="tensor", limit=20)
    rows = [tmp_path / f"{index}.jsonl" for index in (1, 2)]
    for index, path in enumerate(rows):
        campana.compare(MODEL, IMAGES, resume=path, shard=f"{index + 1}/2", **table)
    assert campana.merge(rows) == campana.compare(MODEL, IMAGES, **table)
    with pytest.raises(campana.CommandError, match="none for 2"):
        campana.merge(rows[0])
    with pytest.raises(campana.ArgumentError, match="I/N"):
        campana.compare(MODEL, IMAGES, resume=rows[0], shard="3/2", **table)


def test_models_are_timed_in_turn(tmp_path):
    onnx = pytest.importorskip("onnx")
    report = campana.bench(MODEL, reference=onnx.load(MODEL), runs=3, threads=1, shape=(1, 3, 32, 32), layers=True)
    first, second = report["models"]
    assert report["threads"] == 1 and first["model"] == str(MODEL) and first["median_ms"] >= first["min_ms"] > 0
    assert first["weight_bytes"] == second["weight_bytes"] > 0 and len(first["layers"]) > 5
    if sys.platform == "linux":
        # An interpreter and the model, without NumPy and what else this process has.
        assert 0 < first["peak_rss_bytes"] < 100e6
    with pytest.raises(campana.CommandError, match="no-such"):
        campana.bench("no-such.onnx")


def test_a_model_is_verified_in_this_interpreters_runtimes():
    report = campana.verify(MODEL, reference=MODEL, runtimes="onnxruntime", random=2, runs=2)
    assert {row["runtime"] for row in report["rows"]} >= {"campana"}
    assert report["random_inputs"] == 2 and len(report["rows"]) + len(report["missing"]) >= 2


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_call_ends_its_process(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    page = tmp_path / "rows.csv"
    # To the process: the main thread waits for another one.
    threading.Timer(1.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        campana.compare(MODEL, IMAGES, csv=page)
    assert time.monotonic() - start < 20 and not list(tmp_path.iterdir())
