"""Comparisons on a cluster of three node processes on this machine, one of which is killed in the middle."""

import json
import os
import shutil
import time

import pytest

import campana
from support import IMAGES, MODEL

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
    from ray.cluster_utils import Cluster
except ImportError:
    print("SKIPPED: the tests of campana.ray, without the package ray")
    pytest.skip("ray is not installed", allow_module_level=True)

#: Eight cells.
TABLE = dict(bits=[2, 4], methods=["ks", "kmeans"], granularity=["tensor", "channel"], limit=40)


@pytest.fixture(scope="module")
def cluster():
    # This process alone has the data: what runs on the head could not be lost with its machine.
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, include_dashboard=False))
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster, nodes
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def alone(tmp_path):
    """The files that one process writes."""
    paths = {form: tmp_path / f"alone{ending}" for form, ending in [("csv", ".csv"), ("html", ".html"),
                                                                  ("markdown", ".md")]}
    report = campana.compare(MODEL, IMAGES, threads=1, **paths, **TABLE)
    return report, [path.read_bytes() for path in paths.values()]


def written(folder):
    return [(folder / f"{MODEL.stem}{ending}").read_bytes() for ending in (".csv", ".html", ".md")]


def living_nodes(wanted, seconds=60):
    """How many nodes the cluster says are alive: `wanted` as soon as it says so. It takes a while to notice a death."""
    end = time.monotonic() + seconds
    while True:
        living = sum(node["Alive"] for node in ray.nodes())
        if living == wanted or time.monotonic() > end:
            return living
        time.sleep(0.2)


def test_a_lost_machine_changes_no_byte(cluster, alone, tmp_path):
    import campana.ray

    cluster, nodes = cluster
    report, files = alone
    seen = []

    def progress(done, total):
        seen.append((done, total))
        if done == 2:
            cluster.remove_node(nodes[0], allow_graceful=False)

    found = campana.ray.compare(MODEL, IMAGES, output=tmp_path / "out", shards=8, progress=progress, **TABLE)
    assert seen == [(done, 8) for done in range(1, 9)]
    assert living_nodes(2) == 2
    assert written(tmp_path / "out") == files
    assert json.dumps(found) == json.dumps(report)


def test_several_models_have_files_each(cluster, alone, tmp_path):
    import campana.ray

    for ending in ".onnx", ".json":
        shutil.copy(MODEL.with_suffix(ending), tmp_path / f"copy{ending}")
    reports = campana.ray.compare([MODEL, tmp_path / "copy.onnx"], IMAGES, output=tmp_path / "out", shards=1, **TABLE)
    assert reports[0]["rows"] == reports[1]["rows"] == alone[0]["rows"]
    assert written(tmp_path / "out") == alone[1] and (tmp_path / "out/copy.csv").read_bytes() == alone[1][0]
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(tmp_path / "out/copy.parquet").to_pylist()
    assert [row["mse"] for row in rows] == [row["mse"] for row in alone[0]["rows"]]
    with pytest.raises(campana.OutputExistsError, match="force=True"):
        campana.ray.compare(MODEL, IMAGES, output=tmp_path / "out", **TABLE)


def test_errors_are_those_of_one_process(cluster, tmp_path):
    import campana.ray

    with pytest.raises(campana.ArgumentError, match="9"):
        campana.ray.compare(MODEL, IMAGES, shards=1, bits=9)
    with pytest.raises(campana.CommandError, match="nowhere"):
        campana.ray.compare(tmp_path / "nowhere.onnx", IMAGES)
    with pytest.raises(campana.CommandError, match="nowhere"):
        campana.ray.compare(MODEL, tmp_path / "nowhere")
