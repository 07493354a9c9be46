"""Tests of data in memory: arrays, batches, images, labels and metrics."""

import json
import struct
import zlib

import campana
import numpy as np
import pytest

from support import IMAGES, MODEL, RNG

SIDECAR = json.loads(MODEL.with_suffix(".json").read_text())
RECORD = 3073


def pixels(count):
    """The first images of the fixture, uint8 of shape [count, 32, 32, 3], and their labels."""
    records = np.frombuffer(IMAGES.read_bytes(), "u1").reshape(-1, RECORD)[:count]
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0].astype("i8")


def prepared(count):
    images, labels = pixels(count)
    return campana.preprocess(list(images), MODEL), labels


def png(path, image):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))


class Loader:
    """Batches as torch's DataLoader gives them: something that can be iterated, of lists of two arrays."""

    def __init__(self, images, labels, size):
        self.images, self.labels, self.size = images, labels, size
        self.read = 0

    def __iter__(self):
        for start in range(0, len(self.images), self.size):
            self.read += 1
            yield [self.images[start:start + self.size], self.labels[start:start + self.size]]


def quantized(tmp_path, name, **options):
    output = tmp_path / f"{name}.onnx"
    campana.quantize(MODEL, output, bits=2, **options)
    return output.read_bytes()


# Preprocessing.


def test_images_are_prepared_as_the_command_does(tmp_path):
    images, _ = pixels(3)
    mean, std = (np.array(SIDECAR["input"][key], "f4") for key in ("mean", "std"))
    by_hand = ((images.astype("f4") / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    batch = campana.preprocess(list(images), MODEL)
    assert batch.dtype == np.float32 and batch.shape == (3, 3, 32, 32)
    assert np.array_equal(batch, by_hand)
    path = tmp_path / "image.png"
    png(path, images[0])
    for model in MODEL, MODEL.with_suffix(".json"), SIDECAR:
        assert np.array_equal(campana.preprocess(path, model), batch[0])
    last = {"input": {**SIDECAR["input"], "layout": "NHWC", "size": [16, 24], "resize_short": 24, "crop": [16, 24]}}
    assert campana.preprocess(images[0], last).shape == (16, 24, 3)
    for wrong in images[0, 0], images[0].astype("f4"), images[0][:0], np.zeros((32, 32, 4), "u1"), []:
        with pytest.raises(campana.ArgumentError):
            campana.preprocess(wrong, MODEL)
    with pytest.raises(campana.ArgumentError, match="input.mean"):
        campana.preprocess(images[0], {"input": {"size": 32}})
    with pytest.raises(campana.FileError, match="no-such"):
        campana.preprocess(images[0], tmp_path / "no-such.json")


def test_images_of_pil_are_taken():
    image_of = pytest.importorskip("PIL.Image").fromarray
    images, labels = pixels(40)
    of_pil = [image_of(image) for image in images]
    assert np.array_equal(campana.preprocess(of_pil, MODEL), prepared(40)[0])
    report = campana.evaluate(MODEL, zip(of_pil, labels.tolist()))
    assert report["models"][0]["top1"] == campana.evaluate(MODEL, IMAGES, limit=40)["models"][0]["top1"]
    grey = image_of(images[0]).convert("L")
    assert np.array_equal(campana.preprocess(grey, MODEL), campana.preprocess(grey.convert("RGB"), MODEL))


# Calibration.


def test_calibration_takes_every_form_of_data_alike(tmp_path):
    images, labels = prepared(48)
    path = tmp_path / "images.npy"
    np.save(path, images)
    expected = quantized(tmp_path, "file", calibrate=path)
    assert expected != quantized(tmp_path, "synthetic")
    loader = Loader(images, labels, 10)
    forms = dict(array=images, dict={"input": images}, pair=(images, labels), loader=loader,
                 list=[images[:20], images[20:]], samples=list(images), dicts=({"input": image} for image in images),
                 doubles=np.asfortranarray(images.astype("f8")), labelled=[{"input": images, "labels": labels}])
    for name, form in forms.items():
        assert quantized(tmp_path, name, calibrate=form) == expected, name
    half = quantized(tmp_path, "half", calibrate=images * np.float32(0.5))
    halved = quantized(tmp_path, "transform", calibrate=loader, transform=lambda batch: batch[0] * np.float32(0.5))
    assert half == halved != expected


def test_images_of_pil_calibrate_as_their_file_does(tmp_path):
    image_of = pytest.importorskip("PIL.Image").fromarray
    onnx = pytest.importorskip("onnx")
    (tmp_path / "data.bin").write_bytes(IMAGES.read_bytes()[:32 * RECORD])
    expected = quantized(tmp_path, "file", calibrate=tmp_path / "data.bin")
    of_pil = [image_of(image) for image in pixels(32)[0]]
    assert quantized(tmp_path, "pil", calibrate=of_pil) == expected
    smaller = campana.quantize(onnx.load(MODEL), bits=2, calibrate=of_pil, sidecar=SIDECAR)
    assert smaller == onnx.load_from_string(expected)
    with pytest.raises(campana.CampanaError, match="model.json"):
        campana.quantize(onnx.load(MODEL), bits=2, calibrate=of_pil)


def test_no_more_samples_are_read_than_asked_for(tmp_path):
    images, labels = prepared(64)
    loader = Loader(images, labels, 8)
    from_loader = quantized(tmp_path, "loader", calibrate=loader, samples=20)
    assert loader.read == 3
    path = tmp_path / "images.npy"
    np.save(path, images)
    evenly = [quantized(tmp_path, f"{i}", calibrate=data, samples=20) for i, data in enumerate([path, images])]
    assert evenly[0] == evenly[1] != from_loader

    def endless():
        while True:
            yield images[:8]

    assert quantized(tmp_path, "endless", calibrate=endless(), samples=8) == quantized(
        tmp_path, "eight", calibrate=images[:8])


def test_ranges_come_from_data_in_memory_without_a_correction(tmp_path):
    images, _ = prepared(16)
    results = [quantized(tmp_path, f"{i}", target="int8", correct=False, calibrate=data)
               for i, data in enumerate([images, images * np.float32(4)])]
    assert results[0] != results[1]
    with pytest.raises(campana.ArgumentError, match="correct=False"):
        quantized(tmp_path, "none", correct=False, calibrate=images)


def test_calibration_data_that_do_not_fit_say_why(tmp_path):
    images, labels = prepared(4)
    cases = [
        (images[:, :2], "shape"), (np.zeros((4, 3, 32, 32), "c8"), "float32"), ({"x": images}, "'x'"), ([], "no sample"),
        (3, "not int"), (b"bytes", "bytes"), ([(images, labels, labels)], "3 parts"), (iter([]), "no sample"),
        ([images, images[:, :, :16]], "different shapes"), (images[:0], "sample")]
    for data, text in cases:
        with pytest.raises(campana.CampanaError, match=text):
            quantized(tmp_path, "out", calibrate=data)
    with pytest.raises(campana.ArgumentError, match="transform"):
        quantized(tmp_path, "out", transform=lambda batch: batch)
    with pytest.raises(ZeroDivisionError):
        quantized(tmp_path, "out", calibrate=images, transform=lambda batch: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_networks_of_several_inputs_are_calibrated(tmp_path):
    onnx = pytest.importorskip("onnx")
    from test_campana import open_network

    model = open_network(onnx)
    a = RNG.normal(size=(12, 3, 20, 20)).astype("f4")
    b = a * np.float32(5)
    results = [campana.quantize(model, target="int8", calibrate=data) for data in (
        {"b": b, "a": a}, [(a[:6], b[:6]), (a[6:], b[6:])], zip(a, b), [{"a": a, "b": b, "label": np.zeros(12, "i8")}])]
    assert all(result == results[0] for result in results)
    assert campana.quantize(model, target="int8", calibrate={"a": b, "b": a}) != results[0]
    with pytest.raises(campana.ArgumentError, match="'a', 'b'"):
        campana.quantize(model, calibrate=a)


# Evaluation.


def test_arrays_are_evaluated_as_their_file_is():
    images, labels = prepared(120)
    expected = campana.evaluate(MODEL, IMAGES, limit=120, reference=MODEL)
    for data in (images, labels), Loader(images, labels, 50), zip(images, labels):
        report = campana.evaluate([MODEL, MODEL], data, reference=MODEL, limit=120)
        assert report["n"] == expected["n"] == 120
        for row in report["models"]:
            for key in "model", "top1", "top1_interval_95", "top5", "agreement":
                assert row[key] == expected["models"][0][key], key
            assert row["images_per_s"] > 0
    wrong = campana.evaluate(MODEL, (images, (labels + 1) % 10))["models"][0]
    assert wrong["top1"] < 0.1
    unlabelled = campana.evaluate(MODEL, images, reference=MODEL)["models"][0]
    assert unlabelled["top1"] is None and unlabelled["agreement"] == 1


def test_limits_transforms_and_progress_of_evaluations():
    images, labels = prepared(40)
    told = []
    loader = Loader(images * 2, labels, 8)
    report = campana.evaluate(MODEL, loader, limit=20, batch=4, transform=lambda batch: (batch[0] / 2, batch[1]),
                              progress=lambda *state: told.append(state))
    assert report["n"] == 20 and loader.read == 3 and told[-1] == (20, 20)
    assert report["models"][0]["top1"] == campana.evaluate(MODEL, (images[:20], labels[:20]))["models"][0]["top1"]
    for data, text in (((images, labels[:9]), "labels"), ((images, labels + 90), "classes"), ([], "no sample"),
                       ((images, labels - 9), "classes"), (3, "not int")):
        with pytest.raises(campana.ArgumentError, match=text):
            campana.evaluate(MODEL, data)
    with pytest.raises(campana.ArgumentError, match="metric"):
        campana.evaluate(MODEL, [(images, np.zeros((40, 2), "f4"))])


def test_model_protos_are_evaluated():
    onnx = pytest.importorskip("onnx")
    model = onnx.load(MODEL)
    images, labels = prepared(20)
    expected = campana.evaluate(MODEL, IMAGES, limit=20)["models"][0]["top1"]
    in_memory = campana.evaluate([model, MODEL], (images, labels), reference=model)
    assert [row["top1"] for row in in_memory["models"]] == [expected] * 2
    assert [row["model"] for row in in_memory["models"]] == ["ModelProto 0", str(MODEL)]
    from_file = campana.evaluate(model, IMAGES, limit=20, sidecar=SIDECAR)
    assert from_file["models"][0]["top1"] == expected and from_file["models"][0]["model"] == "ModelProto 0"


def test_a_metric_judges_all_outputs_at_once():
    images, labels = prepared(30)
    seen = []

    def error_rate(outputs, labels):
        seen.append((outputs.shape, labels.shape))
        return (outputs.argmax(axis=1) != labels).mean()

    row = campana.evaluate(MODEL, Loader(images, labels, 7), metric=error_rate)["models"][0]
    assert seen == [((30, 10), (30,))] and row["metric"] == pytest.approx(1 - row["top1"])
    # Labels that are no classes are the metric's own.
    targets = RNG.normal(size=(30, 10)).astype("f4")
    row = campana.evaluate(MODEL, [(images, targets)], metric=lambda o, t: np.abs(o - t).mean())["models"][0]
    assert row["top1"] is None and row["metric"] > 0
    assert campana.evaluate(MODEL, images, metric=lambda o, t: t is None)["models"][0]["metric"] == 1
    for wrong in "x", None, float("nan"):
        with pytest.raises(campana.ArgumentError, match="metric"):
            campana.evaluate(MODEL, images, metric=lambda o, t: wrong)
    for wrong in dict(metric=error_rate), dict(transform=list):
        with pytest.raises(campana.ArgumentError, match=next(iter(wrong))):
            campana.evaluate(MODEL, IMAGES, **wrong)


def test_a_network_of_a_fixed_batch_is_evaluated(tmp_path):
    onnx = pytest.importorskip("onnx")
    fixed = campana.quantize(onnx.load(MODEL), bits=8, correct=False, shape=(8, 3, 32, 32))
    free = campana.quantize(onnx.load(MODEL), bits=8, correct=False)
    images, labels = prepared(29)
    rows = campana.evaluate([fixed, free], (images, labels), metric=lambda outputs, _: float(outputs.mean()))["models"]
    assert rows[0]["top1"] == rows[1]["top1"] and rows[0]["metric"] == pytest.approx(rows[1]["metric"], abs=1e-6)


# Drops.


def test_a_drop_is_measured_on_data_in_memory(tmp_path):
    images, labels = prepared(100)
    (tmp_path / "data.bin").write_bytes(IMAGES.read_bytes()[:100 * RECORD])
    drops = [campana.quantize(MODEL, tmp_path / f"{i}.onnx", max_drop=0.03, data=data, effort="quick")["allocation"]
             for i, data in enumerate([tmp_path / "data.bin", Loader(images, labels, 30)])]
    assert drops[0]["drop"]["top1"] == pytest.approx(drops[1]["drop"]["top1"])
    assert drops[1]["met"] and drops[1]["drop"]["images"] == 100 and drops[1]["drop"]["drop"] <= 0.03
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()


def test_a_drop_is_one_of_the_metric(tmp_path):
    images, labels = prepared(40)
    float_outputs = campana.Session(MODEL).run({"input": images})
    (target,) = float_outputs.values()

    def closeness(outputs, _):
        return -float(((outputs - target) ** 2).mean() / (target**2).mean())

    sizes = []
    for most in 0.2, 0.01:
        report = campana.quantize(MODEL, tmp_path / f"{most}.onnx", max_drop=most, data=(images, labels), metric=closeness,
                                  effort="quick")
        drop = report["allocation"]["drop"]
        assert report["allocation"]["met"] and drop["how"] == "measured" and drop["top1"] is None
        assert drop["metric"][0] == pytest.approx(0, abs=1e-6) and 0 < drop["drop"] <= most
        after = campana.evaluate(tmp_path / f"{most}.onnx", images, metric=closeness)["models"][0]["metric"]
        assert after == pytest.approx(drop["metric"][1], abs=1e-3)
        sizes.append(report["output_bytes"])
    assert sizes[0] < sizes[1]
    # What the metric raises is what the call raises.
    with pytest.raises(ZeroDivisionError):
        campana.quantize(MODEL, tmp_path / "out.onnx", max_drop=0.1, data=images, metric=lambda *_: 1 / 0)
    for wrong in dict(max_drop=0.1, data=images), dict(data=(images, labels)), dict(metric=closeness, max_drop=0.1), dict(
            metric=closeness, max_drop=0.1, data=IMAGES):
        with pytest.raises(campana.ArgumentError, match="max_drop"):
            campana.quantize(MODEL, tmp_path / "out.onnx", **wrong)
    assert not (tmp_path / "out.onnx").exists()
