"""The Python code of the package's pages, run as a reader would: the blocks of a page one after another, in a folder
with a model, its sidecar and labelled images."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", "docs/python.md", "crates/campana-python/README.md"]
#: Packages that are not needed: a block that imports one where it is not is skipped.
OPTIONAL = ["onnx", "torch"]


def installed(package):
    try:
        __import__(package)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    for extension in ".onnx", ".json":
        shutil.copy(ROOT / f"fixtures/cifar10_resnet8{extension}", tmp_path / f"model{extension}")
    shutil.copy(ROOT / "fixtures/cifar10_test_500.bin", tmp_path / "test.bin")
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        missing = [package for package in OPTIONAL if f"import {package}\n" in block and not installed(package)]
        if missing:
            print(f"SKIPPED in {page}, without {missing}:\n{block}")
            continue
        exec(compile(block, page, "exec"), names)
