"""How good models are on data in memory."""

import contextlib
import math
import os
import time

import numpy as np

from . import _campana
from ._data import Reader, as_array, is_path, path_of, samples_of, whole
from ._images import preparation, prepared
from ._models import as_file, check_model, json_of
from ._report import Report
from ._session import Session
from .errors import ArgumentError, ArgumentTypeError


def evaluate(
    models, data, *, reference=None, limit=None, batch=16, metric=None, transform=None, sidecar=None, threads=None,
    progress=None,
):
    """How often models are right on labelled data.

    ``models`` is a path or ``onnx.ModelProto``, or several. ``data`` is

    - a path of images, labelled by classes or masks or, with ``reference``, not at all, or of arrays, as ``campana
      evaluate --data`` takes it; each model has its sidecar ``MODEL.json`` beside it (the reference's serves those
      without), or ``sidecar``, a dict of its form, serves ModelProtos;
    - or in memory, in the forms of :func:`quantize`'s ``calibrate``: ``(images, labels)``, or a DataLoader or other
      iterable of such batches. ``transform`` is called with each batch and returns what is taken in its place.

    ``reference`` is a model whose answers the others are compared with, ``limit`` the number of samples to look at,
    ``batch`` how many go through a network at once. ``metric(outputs, labels)`` returns a number for data in memory,
    called once with all samples: the outputs as an array, or as a dict of arrays where the model has several, and the
    labels, None where there are none.

    Returns a :class:`Report` with the keys of ``campana evaluate --json``: ``n``, and for each of ``models`` ``top1``,
    ``top5`` and ``agreement``, fractions of 1, ``images_per_s``, and ``metric`` where one is given; on masks ``mean_iou``,
    ``class_iou``, ``pixel_accuracy`` in place of the first two; without labels a list of ``outputs``. Images that cannot
    be read are skipped with a warning.
    """
    single = is_path(models) or hasattr(models, "SerializeToString")
    if not single and not hasattr(models, "__iter__"):
        check_model(models)
    models = [models] if single else list(models)
    limit, batch, threads = whole(limit, "limit"), whole(batch, "batch"), whole(threads, "threads")
    if not models:
        raise ArgumentError("models: name at least one")
    for model in [*models, *([] if reference is None else [reference])]:
        check_model(model)
    if is_path(data):
        for name, value in dict(metric=metric, transform=transform).items():
            if value is not None:
                raise ArgumentError(f"{name} goes with data in memory, not with a path")
        return _of_files(models, data, reference, limit, batch, sidecar, threads, progress)
    runs = [_Run(model, i, threads) for i, model in enumerate(models)]
    expected = None if reference is None else _Run(reference, -1, threads)
    with contextlib.ExitStack() as files:
        reader = _reader(runs[0].session, models[0], sidecar, transform, files)
        labels = _over(runs, expected, reader.batches(data), limit, batch, metric, progress)
    return Report(n=runs[0].count, skipped=[], models=[run.report(metric, labels) for run in runs])


def _of_files(models, data, reference, limit, batch, sidecar, threads, progress):
    with contextlib.ExitStack() as files:
        paths = [files.enter_context(as_file(model, None if is_path(model) else sidecar)) for model in models]
        if reference is not None:
            reference = files.enter_context(as_file(reference, None if is_path(reference) else sidecar))
        report = json_of(_campana.evaluate_files(
            paths, path_of(data, "data"), reference, limit, batch, threads, progress))
    for i, (row, model) in enumerate(zip(report["models"], models)):
        row["model"] = row["model"] if is_path(model) else _name(model, i)
    return report


def _name(model, index):
    return os.fsdecode(model) if is_path(model) else f"ModelProto {index}"


def _reader(session, model, sidecar, transform, files):
    def prepare(image):
        path = sidecar if sidecar is not None else files.enter_context(as_file(model))
        return prepared(image, preparation(path))

    return Reader(session.inputs, session.input_types, prepare, transform)


def _over(runs, expected, batches, limit, most, metric, progress):
    """Runs all models over all batches; the labels for the metric."""
    kept, count, total = [], 0, 0
    for arrays, labels in batches:
        samples = samples_of(arrays)
        if limit is not None and count + samples > limit:
            samples = limit - count
        total += samples
        for start in range(0, samples, most):
            end = min(start + most, samples)
            part = {name: array[start:end] for name, array in arrays.items()}
            own = None if labels is None else labels[start:end]
            scores = None if expected is None else expected.outputs(part, end - start)
            for run in runs:
                run.add(part, own, scores, end - start, metric is not None)
            if metric is not None:
                kept.append(own)
            count += end - start
            if progress is not None:
                progress(count, limit or total)
        if limit is not None and count >= limit:
            break
    if not count:
        raise ArgumentError("the data hold no sample")
    return None if not kept or any(own is None for own in kept) else np.concatenate(kept)


class _Run:
    """A model and what came of it."""

    def __init__(self, model, index, threads):
        self.session = Session(model, threads=threads)
        self.count, self.elapsed = 0, 0.0
        self._name, self._tally, self._kept = _name(model, index), _campana.Tally(), []

    def outputs(self, arrays, samples):
        return in_runs(self.session.inputs, arrays, samples, self.session.run)

    def add(self, arrays, labels, expected, samples, keeps):
        start = time.perf_counter()
        outputs = self.outputs(arrays, samples)
        self.elapsed += time.perf_counter() - start
        self.count += samples
        if keeps:
            self._kept.append(outputs)
        scores, expected = scores_of(outputs, samples), None if expected is None else scores_of(expected, samples)
        if scores is not None:
            labels = class_labels(labels, needed=not keeps)
            self._tally.add(scores, labels, expected)
        elif not keeps:
            raise ArgumentError(f"'{self._name}' gives no float scores for each sample; give metric=")

    def report(self, metric, labels):
        top1, interval, top5, agreement = self._tally.shares()
        row = dict(model=self._name, top1=top1, top1_interval_95=interval, top5=top5, agreement=agreement,
                   images_per_s=self.count / max(self.elapsed, 1e-9))
        if metric is not None:
            row["metric"] = judged(metric, self._kept, labels)
        return row


def in_runs(shapes, arrays, samples, run):
    """The outputs of a model for some samples, in as many runs as it needs where it takes a fixed number at once."""
    fixed = {name: shape[0] for name, shape in shapes.items() if shape and isinstance(shape[0], int)}
    size = next((extent for extent in fixed.values()), None)
    if size is None or size == samples:
        return run(arrays)
    parts = []
    for start in range(0, samples, size):
        indices = [min(at, samples - 1) for at in range(start, start + size)]
        outputs = run({name: array[indices] for name, array in arrays.items()})
        missing = max(start + size - samples, 0)
        parts.append({name: output[:size - missing] for name, output in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def scores_of(outputs, samples):
    """The first output as scores of classes, or None."""
    scores = next(iter(outputs.values()))
    if scores.dtype.kind != "f" or scores.ndim < 2 or len(scores) != samples or not scores.size:
        return None
    return np.require(scores.reshape(samples, -1), np.float32, ["C", "A"])


def class_labels(labels, needed):
    """Labels as indices of classes; None where there are none, or where they are of another kind and not needed."""
    if labels is None:
        return None
    labels = as_array(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels.tolist()
    if needed:
        raise ArgumentError("labels must be whole numbers, one a sample; for others give metric=")
    return None


def judged(metric, batches, labels):
    """What a metric says of the outputs of all batches."""
    outputs = {name: _all([batch[name] for batch in batches]) for name in batches[0]}
    value = metric(next(iter(outputs.values())) if len(outputs) == 1 else outputs, labels)
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"metric must return a number, not {type(value).__name__}") from None
    if not math.isfinite(value):
        raise ArgumentError(f"metric must return a finite number, not {value}")
    return value


def _all(parts):
    return np.concatenate(parts) if parts[0].ndim else np.stack(parts)


def measure(reader, shapes, data, metric, batch=16):
    """What the native side needs to measure a network on data in memory; see its ``Metric``."""
    arrays, labels = reader.gathered(data)
    samples = samples_of(arrays)
    fixed = [shape[0] for shape in shapes.values() if shape and isinstance(shape[0], int)]
    batch = fixed[0] if fixed else batch
    if metric is None and labels is None:
        raise ArgumentError("data has no labels to measure max_drop with; give (arrays, labels), or leave it out")
    batches = []
    for start in range(0, samples, batch):
        end = start + batch if fixed else min(start + batch, samples)
        indices = [min(at, samples - 1) for at in range(start, end)]
        batches.append([(name, np.ascontiguousarray(array[indices])) for name, array in arrays.items()])

    def score(native):
        outputs, left = [], samples
        for run in native:
            run = {name: flat.reshape(shape) for name, shape, flat in run}
            outputs.append({name: output[:left] if output.ndim else output for name, output in run.items()})
            left -= batch
        if metric is not None:
            return judged(metric, outputs, labels)
        tally = _campana.Tally()
        for at, run in enumerate(outputs):
            own = labels[at * batch:(at + 1) * batch]
            scores = scores_of(run, len(own))
            if scores is None:
                raise ArgumentError("the model gives no float scores for each sample; give metric=")
            tally.add(scores, class_labels(own, needed=True), None)
        return tally.shares()[0]

    return dict(batches=batches, samples=samples, is_top1=metric is None, score=score)
