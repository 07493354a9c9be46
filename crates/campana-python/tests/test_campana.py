"""Tests of the Python package; tools/python/test.sh builds it and runs them."""

import inspect
import json
import multiprocessing
import os
import pickle
import signal
import struct
import sys
import threading
import time
import zlib

import campana
import numpy as np
import pytest

from support import IMAGES, MODEL, RNG


def squared_error(book, array):
    return float(((book.dequantize(book.assign(array)).astype("f8") - array) ** 2).mean())


def png(pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def state_dict():
    return {"conv.weight": RNG.normal(size=(64, 32, 3, 3)).astype("f4"), "conv.bias": np.ones(64, "f4"),
            "half.weight": RNG.normal(size=(64, 128)).astype("f2"), "steps": np.array(3), "note": "not an array"}


# Files, ModelProtos and state dicts.


def test_a_file_becomes_smaller_with_the_commands_keys(tmp_path):
    told = []
    output, page = tmp_path / "smaller.onnx", tmp_path / "page.html"
    report = campana.quantize(MODEL, output, report=page, progress=lambda *state: told.append(state))
    assert report["output_bytes"] == output.stat().st_size < MODEL.stat().st_size / 5
    assert report["tensors"][0].keys() >= {"name", "shape", "bits", "method", "family", "clip", "mse", "sqnr_db", "kept"}
    assert "</html>" in page.read_text()
    assert told and all(0 < total and 0 <= done <= total for done, total in told)
    with pytest.raises(campana.OutputExistsError, match="force=True"):
        campana.quantize(MODEL, output)
    campana.quantize(str(MODEL), str(output), bits=2, correct=False, force=True, threads=1)
    assert output.stat().st_size < report["output_bytes"]


def test_options_reach_the_weights(tmp_path):
    names = [tensor["name"] for tensor in campana.inspect(MODEL)]
    report = campana.quantize(MODEL, tmp_path / "smaller.onnx", bits=3, method="ks", granularity="group=64",
                              keep=names[0], bits_for={"*": 5, names[2]: 6}, correct=False)
    by_name = {tensor["name"]: tensor for tensor in report["tensors"]}
    assert by_name[names[0]]["kept"]
    assert [by_name[name]["bits"] for name in names[1:4]] == [5, 6, 5]
    assert by_name[names[1]]["method"] == "ks" and by_name[names[1]]["granularity"].startswith("group")


def test_whole_floats_are_widths_and_fractions_averages(tmp_path):
    paths = [tmp_path / f"{i}.onnx" for i in range(4)]
    reports = [campana.quantize(MODEL, path, correct=False, **bits) for path, bits in zip(
        paths, (dict(bits=3), dict(bits=3.0), dict(bits=3.5), dict(average_bits=3.5)))]
    assert paths[0].read_bytes() == paths[1].read_bytes() and reports[1].get("allocation") is None
    assert paths[2].read_bytes() == paths[3].read_bytes()
    assert reports[3]["bits_per_weight"] <= 3.5 and reports[3]["allocation"]["met"]
    assert len({tensor["bits"] for tensor in reports[3]["tensors"]}) > 1
    whole = campana.quantize(MODEL, tmp_path / "whole.onnx", average_bits=4.0, correct=False)
    assert whole["allocation"]["bound"] == "4 bits a weight"


def test_a_share_of_one_says_how_points_are_written(tmp_path):
    for wrong in 1, 1.0, 5:
        with pytest.raises(campana.ArgumentError, match=r"max_drop must be a share below 1 \(0.01 is one percent\)"):
            campana.quantize(MODEL, tmp_path / "out.onnx", max_drop=wrong)


def open_network(onnx):
    """Two inputs of open extents, a convolution of each."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    weights = [onnx.numpy_helper.from_array(RNG.normal(size=(8, 3, 3, 3)).astype("f4"), name) for name in ("v", "w")]
    graph = onnx.helper.make_graph(
        [node("Conv", ["a", "v"], ["c"]), node("Conv", ["b", "w"], ["d"]), node("Add", ["c", "d"], ["y"])], "g",
        [value("a", 1, ["n", 3, "h", "w"]), value("b", 1, ["n", 3, "h", "w"])], [value("y", 1, ["n", 8, None, None])],
        weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)


def test_ranges_and_shapes_of_inputs_are_those_of_the_command(tmp_path):
    onnx = pytest.importorskip("onnx")
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(MODEL.read_bytes())
    outputs = {}
    for name, options in dict(plain={}, range=dict(input_range=(0, 255)), shape=dict(shape=(1, 3, 32, 32)),
                              named=dict(shape={"input": ("n", 3, 32, 32)})).items():
        campana.quantize(alone, tmp_path / f"{name}.onnx", bits=2, **options)
        outputs[name] = (tmp_path / f"{name}.onnx").read_bytes()
    assert outputs["range"] != outputs["plain"]
    shapes = [campana.Session(tmp_path / f"{name}.onnx").inputs["input"] for name in ("plain", "shape", "named")]
    assert isinstance(shapes[0][0], str) and shapes[1:] == [[1, 3, 32, 32], ["n", 3, 32, 32]]
    model = open_network(onnx)
    smaller = campana.quantize(model, shape={"a": (1, 3, 20, 20), "b": [1, 3, 20, 20]})
    assert campana.Session(smaller).inputs == {"a": [1, 3, 20, 20], "b": [1, 3, 20, 20]}
    for wrong in ((1, 3, 20, 20), {"c": (1, 3, 20, 20)}, {"a": (1, 4, 20, 20)}, {"a": (0, 3, 20, 20)}):
        with pytest.raises(campana.CampanaError, match="shape"):
            campana.quantize(model, shape=wrong)


def test_an_output_named_campana_is_a_container(tmp_path):
    campana.quantize(MODEL, tmp_path / "small.campana", correct=False)
    campana.quantize(MODEL, tmp_path / "told.campana", correct=False, target="campana")
    assert (tmp_path / "small.campana").read_bytes() == (tmp_path / "told.campana").read_bytes()


def test_bounds_are_kept_or_missed_loudly(tmp_path):
    output, plan = tmp_path / "smaller.onnx", tmp_path / "plan.toml"
    report = campana.quantize(MODEL, output, bits=3.5, plan=plan, correct=False)
    assert report["bits_per_weight"] <= 3.5 and report["allocation"]["met"]
    again = campana.quantize(MODEL, tmp_path / "again.onnx", plan=plan, correct=False)
    assert [t["bits"] for t in again["tensors"]] == [t["bits"] for t in report["tensors"]]
    for same in 60_000, "60kB":
        bounded = campana.quantize(MODEL, output, max_size=same, correct=False, force=True)
        assert 30_000 < bounded["output_bytes"] == output.stat().st_size <= 60_000
    dropped = campana.quantize(MODEL, output, max_drop="5%", data=IMAGES, force=True)
    assert dropped["allocation"]["drop"]["drop"] <= 0.05
    with pytest.raises(campana.BoundMissedError, match="best_effort=True") as caught:
        campana.quantize(MODEL, tmp_path / "least.onnx", max_size=2000, correct=False)
    assert caught.value.report["output_bytes"] > 2000 and not (tmp_path / "least.onnx").exists()
    assert pickle.loads(pickle.dumps(caught.value)).report == caught.value.report
    with pytest.warns(UserWarning, match="cannot be met"):
        campana.quantize(MODEL, tmp_path / "least.onnx", max_size=2000, correct=False, best_effort=True)
    assert (tmp_path / "least.onnx").stat().st_size == caught.value.report["output_bytes"]


@pytest.mark.parametrize("target", ["w4a8", "int8"])
def test_targets_that_round_activations_run(tmp_path, target):
    output = tmp_path / "smaller.onnx"
    report = campana.quantize(MODEL, output, target=target, calibrate=IMAGES, samples=16, activation_ranges="minmax")
    assert {tensor["bits"] for tensor in report["tensors"] if not tensor["kept"]} == {8 if target == "int8" else 4}
    assert report["rounded_activations"] > 5
    output.with_suffix(".json").write_bytes(MODEL.with_suffix(".json").read_bytes())
    assert campana.evaluate(output, IMAGES, reference=MODEL, limit=100)["models"][0]["agreement"] > 0.9


def test_a_model_proto_becomes_a_model_proto():
    onnx = pytest.importorskip("onnx")
    model = onnx.load(MODEL)
    before = model.SerializeToString()
    smaller = campana.quantize(model, bits=3)
    assert isinstance(smaller, onnx.ModelProto)
    onnx.checker.check_model(smaller)
    assert smaller.ByteSize() < model.ByteSize() / 6
    assert model.SerializeToString() == before
    assert campana.inspect(model) == campana.inspect(MODEL)
    assert campana.Session(smaller).outputs == campana.Session(MODEL).outputs
    sidecar = json.loads(MODEL.with_suffix(".json").read_text())
    calibrated = campana.quantize(model, bits=3, calibrate=IMAGES, samples=32, sidecar=sidecar)
    assert calibrated != smaller
    with pytest.raises(campana.CampanaError, match="model.json"):
        campana.quantize(model, calibrate=IMAGES)


def test_a_correction_goes_on_from_its_journal(tmp_path):
    journal, results = tmp_path / "layers", [tmp_path / name for name in ("first.onnx", "second.onnx")]
    for result in results:
        campana.quantize(MODEL, result, bits=3, resume=journal)
    assert results[0].read_bytes() == results[1].read_bytes()
    assert len(journal.read_text().splitlines()) == 11


def test_a_model_proto_whose_weights_are_elsewhere_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(MODEL), path, save_as_external_data=True, location="weights.bin")
    with pytest.raises(campana.ArgumentError, match="load_external_data"):
        campana.quantize(onnx.load(path, load_external_data=False))
    assert campana.quantize(onnx.load(path)).graph.node


def test_a_state_dict_keeps_names_shapes_and_types():
    state = state_dict()
    changed = campana.quantize(state, bits=4)
    assert list(changed) == list(state)
    for name in "conv.bias", "steps", "note":
        assert changed[name] is state[name]
    for name in "conv.weight", "half.weight":
        before, after = state[name].astype("f8"), changed[name]
        assert after.dtype == state[name].dtype and after.shape == before.shape
        assert 0.005 < ((before - after) ** 2).mean() < 0.02
        assert len(np.unique(after[0])) <= 16
    assert campana.quantize(state, keep="conv*")["conv.weight"] is state["conv.weight"]
    assert [tensor["name"] for tensor in campana.inspect(state)] == ["conv.weight", "half.weight"]
    for wrong in (dict(report="r.html"), dict(target="campana"), dict(calibrate=IMAGES), dict(keep="nothing"),
                  dict(max_size=1000), dict(average_bits=3.5), dict(shape=(1, 3)), dict(input_range=(0, 1)),
                  dict(sidecar={}), dict(sparsity=0.5)):
        with pytest.raises(campana.ArgumentError, match=next(iter(wrong))):
            campana.quantize(state, **wrong)
    state["conv.weight"][0, 0, 0, 0] = np.nan
    for function in campana.quantize, campana.inspect:
        with pytest.raises(campana.ArgumentError, match="'conv.weight' has 1 NaN"):
            function(state)


def test_torch_state_dicts_and_modules_are_quantized(tmp_path):
    torch = pytest.importorskip("torch")
    import campana.torch

    module = torch.nn.Sequential(torch.nn.Conv2d(16, 64, 3), torch.nn.BatchNorm2d(64), torch.nn.Flatten(),
                                 torch.nn.Linear(64, 40).to(torch.bfloat16))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    changed = campana.quantize(module.state_dict(), bits=2)
    assert campana.torch.quantize_(module, bits=2) is module
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, changed[name]) and tensor.dtype == changed[name].dtype == before[name].dtype
        error = ((tensor - before[name]).float() ** 2).mean() / (before[name].float() ** 2).mean()
        assert 0.01 < error < 0.3 if name in ("0.weight", "3.weight") else torch.equal(tensor, before[name])
    assert module[0].weight.requires_grad
    # As the file that torch writes of it.
    torch.save(before, tmp_path / "before.pt")
    campana.quantize(tmp_path / "before.pt", tmp_path / "after.pt", bits=2, target="float")
    after = torch.load(tmp_path / "after.pt")
    assert all(torch.equal(after[name], changed[name]) for name in changed)


def test_a_report_is_a_dict_that_shows_itself(tmp_path):
    report = campana.quantize(MODEL, tmp_path / "smaller.onnx", bits=4, correct=False)
    assert isinstance(report, dict) and json.loads(json.dumps(report)) == report
    assert report.tensors is report["tensors"] and len(report.tensors) > 5
    text = repr(report)
    assert len(text) < 200 and text.startswith("<campana.Report: cifar10_resnet8.onnx (") and "smaller.onnx" in text
    assert f"{report['bits_per_weight']:.2f} bits a weight" in text and f"{len(report.tensors)} tensors" in text
    page = report._repr_html_()
    assert page.count("<tr>") == 1 + len(report.tensors) and report.tensors[0]["name"] in page
    named = campana.Report(tensors=[dict(name="<b>", shape=[2, 3], bits=4, sqnr_db=1.23456)])
    assert "&lt;b&gt;" in named._repr_html_() and "2x3" in named._repr_html_() and "1.235" in named._repr_html_()
    assert pickle.loads(pickle.dumps(report)) == report and type(pickle.loads(pickle.dumps(report))) is campana.Report
    evaluation = campana.evaluate(MODEL, IMAGES, limit=20)
    assert "20 samples" in repr(evaluation) and "top1" in repr(evaluation) and evaluation.tensors == []


def test_reports_become_data_frames(tmp_path):
    pandas = pytest.importorskip("pandas")
    report = campana.quantize(MODEL, tmp_path / "smaller.onnx", bits=4, correct=False)
    frame = report.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and list(frame["name"]) == [t["name"] for t in report.tensors]
    assert list(campana.evaluate(MODEL, IMAGES, limit=5).to_pandas()["model"]) == [str(MODEL)]


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(campana.UnsupportedError, match="pip install pandas"):
        campana.Report().to_pandas()


def test_a_session_shows_what_it_takes():
    session = campana.Session(MODEL)
    text = repr(session)
    assert text.startswith("<campana.Session: input [") and "3, 32, 32] -> " in text
    assert f"{session.weight_bytes} bytes" in text and session.input_types == {"input": "float32"}


def test_an_inspection_can_be_a_page(tmp_path):
    page = tmp_path / "page.html"
    tensors = campana.inspect(MODEL, html=page, bits=3)
    assert len(tensors) > 5 and tensors[0].keys() >= {"name", "op", "shape", "d_gaussian", "predicted_sqnr_db"}
    assert "</html>" in page.read_text()
    with pytest.raises(campana.OutputExistsError):
        campana.inspect(MODEL, html=page)


def test_an_evaluation_has_the_commands_keys(tmp_path):
    report = campana.evaluate(MODEL, IMAGES, limit=100, reference=MODEL)
    (model,) = report["models"]
    assert report["n"] == 100 and model["top1"] > 0.7 and model["agreement"] == 1
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "cat" / "grey.png").write_bytes(png(np.full((32, 32, 3), 128, "u1")))
    with pytest.warns(UserWarning, match="broken.png"):
        assert campana.evaluate([MODEL, MODEL], tmp_path)["n"] == 1
    for wrong in dict(models=[]), dict(batch=0), dict(threads=-1):
        with pytest.raises(campana.ArgumentError):
            campana.evaluate(**{"models": MODEL, "data": IMAGES, **wrong})


# Arrays.


def test_a_design_has_the_least_error_and_nearest_codes():
    weights = RNG.standard_t(5, size=(50, 40)).astype("f4")
    book = campana.design(weights, 3)
    assert len(book) == 8 and (np.diff(book.levels) > 0).all()
    assert np.allclose(book.thresholds, (book.levels[1:] + book.levels[:-1]) / 2)
    codes = book.assign(weights)
    assert codes.shape == weights.shape and codes.dtype == np.uint8
    nearest = np.abs(weights[..., None] - book.levels).min(axis=-1)
    assert np.array_equal(np.abs(book.dequantize(codes) - weights), nearest)
    for method in "ks", "minmax", "mse", "nf":
        assert squared_error(book, weights) <= squared_error(campana.design(weights, 3, method), weights)


def test_a_codebook_can_be_made_and_kept():
    book = campana.Codebook([-1.0, 0.5, 2.0])
    assert book.assign([-9.0, -0.25, 0.0, 9.0]).tolist() == [0, 0, 1, 2]
    assert book.dequantize(np.array([[2], [0]], "u1")).tolist() == [[2.0], [-1.0]]
    assert pickle.loads(pickle.dumps(book)).levels.tolist() == book.levels.tolist()
    assert repr(book) == "Codebook([-1.0, 0.5, 2.0])"
    for wrong in [], [2.0, 1.0], [np.nan], np.arange(300.0):
        with pytest.raises(campana.ArgumentError):
            campana.Codebook(wrong)
    for wrong in np.array([3], "u1"), np.array([0], "i8"):
        with pytest.raises(campana.ArgumentError, match="code"):
            book.dequantize(wrong)


def test_a_fit_tells_the_family():
    fitted = campana.fit(RNG.laplace(size=(100, 1000)))
    assert fitted["family"] == "laplace" and fitted["d_laplace"] < 0.01 < fitted["d_gaussian"]
    assert abs(fitted["std"] - 2**0.5) < 0.02 and fitted["shape"] == [100, 1000]


@pytest.mark.parametrize("array", [
    np.asfortranarray(RNG.normal(size=(30, 40))), RNG.normal(size=(60, 80))[::2, ::-2],
    RNG.normal(size=1200).astype("f2"), RNG.normal(size=1200).astype(">f4"),
    np.frombuffer(b"\0" + RNG.normal(size=1200).astype("f4").tobytes(), "f4", offset=1), [0.5] * 9 + [1.0] * 9])
def test_arrays_of_any_float_type_and_order_work(array):
    book = campana.design(array, 2)
    plain = np.array(array, dtype="f4", order="C")
    assert np.array_equal(book.levels, campana.design(plain, 2).levels)
    assert np.array_equal(book.assign(array), book.assign(plain))
    assert campana.fit(array)["mean"] == campana.fit(plain)["mean"]


def test_bfloat16_arrays_work():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = RNG.normal(size=(64, 64)).astype(ml_dtypes.bfloat16)
    assert len(campana.design(array, 2)) == 4
    changed = campana.quantize({"w": array}, bits=2)["w"]
    assert changed.dtype == array.dtype and (changed != array).any()


@pytest.mark.parametrize("array", [
    np.arange(10), np.array(["a"]), np.array([None]), np.array([1j]), np.array([1.0, np.nan]), np.array([1e300]),
    np.array([], "f4")])
@pytest.mark.parametrize("function", [campana.design, campana.fit])
def test_arrays_that_cannot_be_designed_for_say_why(function, array):
    with pytest.raises(campana.ArgumentError, match="floats|NaN|empty"):
        function(array)


# Sessions.


def test_a_session_runs_float_and_quantized_models_alike(tmp_path):
    output = tmp_path / "smaller.campana"
    campana.quantize(MODEL, output, bits=8, target="campana")
    float_session, session = campana.Session(MODEL), campana.Session(output, threads=1)
    ((name, shape),) = session.inputs.items()
    assert isinstance(shape[0], str) and shape[1:] == [3, 32, 32]
    assert session.weight_bytes < float_session.weight_bytes / 3
    images = RNG.normal(size=(4, 3, 32, 32)).astype("f4")
    (before,), (after,) = (s.run({name: images}).values() for s in (float_session, session))
    assert before.shape == after.shape == (4, 10) and before.dtype == np.float32
    assert 0 < np.abs(before - after).max() < 0.05 * np.abs(before).max()


def test_inputs_of_other_types_and_orders_are_converted_or_refused():
    session = campana.Session(MODEL)
    (name,), (output,) = session.inputs, session.outputs
    images = RNG.integers(0, 255, size=(2, 3, 32, 32))
    expected = session.run({name: images.astype("f4")})[output]
    for same in (images.astype("f8"), images, images.astype("u1"), np.asfortranarray(images.astype("f4")),
                 images.astype(">f4"), images.tolist()):
        assert np.array_equal(session.run({name: same})[output], expected)
    for wrong in images.astype("c8"), images.astype(str), images.astype(object):
        with pytest.raises(campana.ArgumentError, match=f"input '{name}' must be an array of float32"):
            session.run({name: wrong})
    for inputs in {}, {"no such input": images}, {name: images[0]}, {name: images[:, :2]}:
        with pytest.raises(campana.ArgumentError):
            session.run(inputs)


def test_integers_are_converted_where_they_fit():
    onnx = pytest.importorskip("onnx")
    kinds = {"f2": 10, "f4": 1, "f8": 11, "i4": 6, "i8": 7}
    for kind, number in kinds.items():
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value("x", number, [2])],
            [value("y", number, [2])])
        session = campana.Session(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]))
        outputs = session.run({"x": np.array([3, 4])})
        assert outputs["y"].dtype == np.dtype(kind) and outputs["y"].tolist() == [3, 4]
    with pytest.raises(campana.ArgumentError, match="int64, not of float64"):
        session.run({"x": np.array([0.5, 1.5])})
    with pytest.raises(campana.ArgumentError, match="int64, not of uint64"):
        session.run({"x": np.array([0, 2**63], "u8")})


def test_sessions_run_in_many_threads():
    session = campana.Session(MODEL, threads=2)
    (name,) = session.inputs
    batches = [RNG.normal(size=(1, 3, 32, 32)).astype("f4") for _ in range(8)]
    expected = [next(iter(session.run({name: batch}).values())) for batch in batches]
    found = [None] * len(batches)

    def run(i):
        found[i] = next(iter(session.run({name: batches[i]}).values()))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))


# Errors and interruption.


def test_errors_have_classes(tmp_path):
    with pytest.raises(campana.FileError, match="no-such"):
        campana.inspect(tmp_path / "no-such.onnx")
    assert issubclass(campana.FileError, OSError) and issubclass(campana.ArgumentError, ValueError)
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    with pytest.raises(campana.UnsupportedError, match="os.system"):
        campana.inspect(bad)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(MODEL.read_bytes()[:5000])
    output = tmp_path / "out.onnx"
    for call in (lambda: campana.quantize(cut, output), lambda: campana.Session(cut)):
        with pytest.raises(campana.FormatError, match="cut.onnx"):
            call()
    assert not output.exists()


@pytest.mark.parametrize("wrong", [
    dict(bits=9), dict(bits=0), dict(bits=-1), dict(bits=9.5), dict(bits=float("nan")),
    dict(max_size=0), dict(max_size=-5), dict(max_size="3 bits"), dict(max_drop=1.5), dict(max_drop=1), dict(max_drop=1.0),
    dict(max_drop="1"), dict(max_size="60"), dict(threads=1025),
    dict(max_drop=0.1, max_size=1000), dict(bits=4, max_size=1000), dict(data=IMAGES), dict(best_effort=True),
    dict(rate=1.6, target="campana", bits=4), dict(activation_ranges="x"),
    dict(sparsity=0.5), dict(sparsity="50%", rate=1.6, target="campana"), dict(bits=10**6), dict(method="x"), dict(granularity="x"),
    dict(granularity="group=0"), dict(keep=["nothing"]), dict(keep="[a"), dict(bits_for={"*": 9}), dict(target="x"),
    dict(rate=1.6), dict(rate=99, target="campana"), dict(threads=0), dict(samples=0), dict(sidecar={}),
    dict(average_bits=0.5), dict(average_bits=3.2, bits=3), dict(input_range=(1, 0)), dict(input_range=(0, float("inf"))),
    dict(input_range=(0, 1), calibrate=IMAGES), dict(shape=(1, 3, 0, 32)),
    dict(calibrate=IMAGES, correct=False), dict(resume="journal", correct=False)])
def test_arguments_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(campana.ArgumentError, match="|".join(wrong)):
        campana.quantize(MODEL, tmp_path / "out.onnx", **wrong)
    assert not list(tmp_path.iterdir())


def test_arguments_of_the_wrong_type_are_refused(tmp_path):
    with pytest.raises(campana.ArgumentError, match="output"):
        campana.quantize(MODEL)
    for call in campana.quantize, campana.inspect, campana.Session:
        with pytest.raises(campana.ArgumentError, match="not int"):
            call(3)
    for wrong in (dict(bits="4"), dict(bits=[4]), dict(max_size=[1]), dict(correct="no"), dict(report=3), dict(threads=1.5),
                  dict(samples="9"), dict(resume=1), dict(method=1), dict(shape=(1.5, 3))):
        with pytest.raises(campana.ArgumentTypeError, match=next(iter(wrong))) as caught:
            campana.quantize(MODEL, tmp_path / "out.onnx", **wrong)
        assert isinstance(caught.value, TypeError) and isinstance(caught.value, campana.CampanaError)
    for call in (lambda: campana.evaluate(MODEL, IMAGES, batch="9"), lambda: campana.inspect(MODEL, bits="4"),
                 lambda: campana.evaluate(3, IMAGES), lambda: campana.Session(MODEL, threads="2"),
                 lambda: campana.inspect(MODEL, html=4), lambda: campana.fit([0.5, 1.0], threads="x"),
                 lambda: campana.design([0.5, 1.0], bits="x"), lambda: campana.design([0.5, 1.0], method=3)):
        with pytest.raises(campana.ArgumentTypeError):
            call()


def test_the_memory_that_files_may_take_can_be_set(tmp_path):
    packed, unpacked = tmp_path / "smaller.campana", tmp_path / "smaller.onnx"
    campana.quantize(MODEL, packed, target="campana", correct=False)
    try:
        campana.set_max_memory("1kB")
        with pytest.raises(campana.CampanaError, match="more than the limit of 1000"):
            campana.unpack(packed, unpacked)
        with pytest.raises(campana.CommandError, match="smaller.campana"):
            campana.bench(packed, runs=1)
    finally:
        campana.set_max_memory(2**32)
    campana.unpack(packed, unpacked)
    assert unpacked.exists()
    with pytest.raises(campana.ArgumentError, match="size"):
        campana.set_max_memory("much")
    with pytest.raises(campana.ArgumentError, match="size"):
        campana.set_max_memory(0)


def test_an_exception_in_progress_stops_the_job(tmp_path):
    def stop(done, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        campana.quantize(MODEL, tmp_path / "out.onnx", progress=stop)
    with pytest.raises(ZeroDivisionError):
        campana.evaluate([MODEL], IMAGES, batch=1, progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_stops_a_job_soon():
    # Shells start what runs in the background with the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pressed = []

    def press():
        pressed.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    threading.Timer(0.2, press).start()
    with pytest.raises(KeyboardInterrupt):
        campana.evaluate([MODEL] * 20, IMAGES, batch=1)
    assert time.monotonic() - pressed[0] < 10


def test_other_threads_run_meanwhile(tmp_path):
    ticks = []
    end = threading.Event()

    def tick():
        while not end.wait(0.005):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    campana.quantize(MODEL, tmp_path / "out.onnx")
    elapsed = time.monotonic() - start
    end.set()
    thread.join()
    assert sum(tick < start + elapsed for tick in ticks) > elapsed / 0.1


def in_child(queue, session):
    try:
        queue.put(len(campana.design(np.linspace(0, 1, 100_000), 4)))
        session.run({next(iter(session.inputs)): np.zeros((1, 3, 32, 32), "f4")})
    except campana.ArgumentError as error:
        queue.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_child_works_and_is_told_of_sessions():
    session = campana.Session(MODEL)
    campana.design(np.linspace(0, 1, 100_000), 4)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(queue, session))
    child.start()
    assert queue.get(timeout=60) == 16
    assert "forked" in queue.get(timeout=60)
    child.join()


def test_everything_public_is_documented():
    for name in campana.__all__:
        member = getattr(campana, name)
        if callable(member):
            assert inspect.getdoc(member), name
    for kind in campana.Codebook, campana.Report, campana.Session:
        assert all(inspect.getdoc(member) for name, member in vars(kind).items() if not name.startswith("_"))
