"""Comparisons on a cluster of Ray; needs ray, and campana on every machine of it."""

import contextlib
import functools
import io
import os
import tarfile
import tempfile
import warnings

import ray

from . import _campana
from ._command import compare as _compare_here
from ._command import merge
from ._data import is_path, path_of, whole
from ._models import as_file
from .errors import ArgumentError, CampanaError, CommandError, OutputExistsError

#: Shares that each place for a task gets, so that all end at about the same time.
_SHARES_A_PLACE = 4

#: What is written of each model into the folder of the output, by the ending of its name.
_FORMS = {"csv": ".csv", "html": ".html", "markdown": ".md"}


def compare(
    models, data, *, output=None, bits=(2, 3, 4, 8), methods="all", calibrate=None, samples=256,
    granularity=("tensor", "channel"), limit=None, batch=64, shards=None, cpus=1, retries=3, force=False, progress=None,
):
    """Measures methods at widths on labelled images, as :func:`campana.compare` does, the rows of each model in shares
    that are tasks of Ray.

    ``models`` is a path or ``onnx.ModelProto``, or several. Models, ``data`` and ``calibrate`` are read here and go
    into Ray's object store once; the other machines need no files. ``shards`` is the number of shares of each model,
    by default four for each ``cpus`` CPUs of the cluster: a task has that many, and begins again up to ``retries``
    times where its machine is lost. ``output`` is a folder into which the rows of each model ``NAME.onnx`` are
    written as ``NAME.csv``, ``NAME.html`` and ``NAME.md``, and where pyarrow is installed as ``NAME.parquet``; the
    bytes do not depend on the cluster. ``progress(done, total)`` is called with numbers of shares.

    Runs in the cluster to which ``ray.init`` has connected, or that ``RAY_ADDRESS`` names, or else in one of this
    machine. Returns the report of :func:`campana.compare`, a list of them for several models.
    """
    single = is_path(models) or hasattr(models, "SerializeToString")
    models = [models] if single else list(models)
    options = dict(bits=bits, methods=methods, granularity=granularity, limit=limit, batch=batch, samples=samples)
    cpus, retries = whole(cpus, "cpus"), whole(retries, "retries", 0)
    data, calibrate = path_of(data, "data"), path_of(calibrate, "calibrate")
    names = [os.path.splitext(os.path.basename(os.fspath(model)))[0] if is_path(model) else f"model-{i}"
             for i, model in enumerate(models)]
    _check_outputs(output, names, force)
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    shards = whole(shards, "shards") or _SHARES_A_PLACE * max(int(ray.cluster_resources().get("CPU", 1)) // cpus, 1)
    bundles = dict(data=ray.put(_packed([data], os.path.dirname(os.path.abspath(data)))))
    if calibrate is not None:
        bundles["calibrate"] = ray.put(_packed([calibrate], os.path.dirname(os.path.abspath(calibrate))))
    tasks = {}
    for at, model in enumerate(models):
        with as_file(model) as path:
            packed = ray.put(_packed_model(path))
            first = os.path.basename(path)
        for index in range(1, shards + 1):
            task = _measure.options(num_cpus=cpus, max_retries=retries, name=f"{names[at]} {index}/{shards}")
            tasks[task.remote(packed, first, bundles, options, f"{index}/{shards}", cpus)] = at, index
    rows = _results(tasks, retries, progress)
    reports = [
        _merged([rows[at, index] for index in range(1, shards + 1)], name, output, force)
        for at, name in enumerate(names)]
    for report, model in zip(reports, models):
        if is_path(model):
            report["model"] = os.fspath(model)
    return reports[0] if single else reports


def _check_outputs(output, names, force):
    """Refuses what cannot be written before there is work for it."""
    if output is None:
        return
    if len(set(names)) < len(names):
        raise ArgumentError("models: two have the same name, and would be written to the same files")
    folder = path_of(output, "output")
    os.makedirs(folder, exist_ok=True)
    for name in names:
        for ending in [*_FORMS.values(), ".parquet"]:
            path = os.path.join(folder, name + ending)
            if os.path.exists(path) and not force:
                raise OutputExistsError(f"'{path}' exists; force=True replaces it")


def _packed_model(path):
    """A model with its sidecar and the files that hold its data."""
    sidecar = os.path.splitext(path)[0] + ".json"
    beside = [sidecar] if os.path.exists(sidecar) else []
    files = [os.fspath(file) for file in _campana.data_files(path)]
    return _packed([path, *beside, *files], os.path.dirname(os.path.abspath(path)))


def _packed(paths, folder):
    """Files and folders as an archive, by their places in a folder."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for path in paths:
            try:
                tar.add(path, os.path.relpath(os.path.abspath(path), folder))
            except FileNotFoundError:
                raise CommandError(f"cannot read '{path}': there is no such file") from None
    return archive.getvalue()


@functools.lru_cache(maxsize=4)
def _unpacked(reference):
    """The folder with what an archive in the object store holds, as long as this process works for the cluster."""
    folder = tempfile.TemporaryDirectory(prefix="campana-")
    with tarfile.open(fileobj=io.BytesIO(ray.get(reference))) as tar:
        tar.extractall(folder.name, filter="data")
    return folder


def _only(folder):
    (name,) = os.listdir(folder.name)
    return os.path.join(folder.name, name)


@ray.remote
def _measure(model, first, bundles, options, shard, cpus):
    """The journal of a share."""
    folders = {name: _unpacked(bundle) for name, bundle in bundles.items()}
    paths = {name: _only(folder) for name, folder in folders.items()}
    with tempfile.TemporaryDirectory(prefix="campana-") as folder:
        with tarfile.open(fileobj=io.BytesIO(model)) as tar:
            tar.extractall(folder, filter="data")
        rows = os.path.join(folder, "rows.jsonl")
        with warnings.catch_warnings():
            # Images that are skipped are in the journal.
            warnings.simplefilter("ignore")
            _compare_here(
                os.path.join(folder, first), resume=rows, shard=shard, threads=cpus, **paths, **options)
        with open(rows, "rb") as file:
            return file.read()


def _results(tasks, retries, progress):
    """What all tasks return, by their keys."""
    results, waiting = {}, list(tasks)
    try:
        while waiting:
            (done, *_), waiting = ray.wait(waiting)
            results[tasks[done]] = ray.get(done)
            if progress is not None:
                progress(len(results), len(tasks))
    except ray.exceptions.RayTaskError as error:
        _cancel(waiting)
        if isinstance(error.cause, CampanaError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        _cancel(waiting)
        raise CommandError(f"a share was lost, begun again {retries} times at most: {error}") from error
    except BaseException:
        _cancel(waiting)
        raise
    return results


def _cancel(tasks):
    for task in tasks:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.cancel(task, force=True)


def _merged(journals, name, output, force):
    """The report of the rows of one model; its files are written."""
    with tempfile.TemporaryDirectory(prefix="campana-") as folder:
        paths = []
        for index, journal in enumerate(journals):
            paths.append(os.path.join(folder, f"{index + 1}.jsonl"))
            with open(paths[-1], "wb") as file:
                file.write(journal)
        files = {}
        if output is not None:
            base = os.path.join(os.fspath(output), name)
            files = {form: base + ending for form, ending in _FORMS.items()}
        report = merge(paths, force=force, **files)
    if report["skipped"]:
        warnings.warn(f"skipped {len(report['skipped'])} images that cannot be read", stacklevel=3)
    if output is not None:
        _write_parquet(report["rows"], base + ".parquet")
    return report


def _write_parquet(rows, path):
    """Writes the rows, without those of single tensors, where pyarrow is installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return
    flat = [{key: value for key, value in row.items() if key != "tensors"} for row in rows]
    unfinished = path + ".unfinished"
    try:
        parquet.write_table(pyarrow.Table.from_pylist(flat), unfinished)
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)
