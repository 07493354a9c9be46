"""The notebooks of examples/, executed as a reader would."""

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
#: Packages that a notebook may do without: it is skipped where they are not.
OPTIONAL = ["torch", "onnx"]

try:
    import ipykernel  # noqa: F401
    import nbclient
    import nbformat
except ImportError:
    print("SKIPPED: the notebooks, without the packages nbclient and ipykernel")
    pytest.skip("nbclient or ipykernel is not installed", allow_module_level=True)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "clear its outputs"
    text = "\n".join(cell.source for cell in code)
    for package in OPTIONAL:
        if f"import {package}\n" in text:
            try:
                __import__(package)
            except ImportError:
                print(f"SKIPPED: {path.name}, without {package}")
                pytest.skip(f"{package} is not installed")
    nbclient.NotebookClient(notebook, timeout=300, resources=dict(metadata=dict(path=str(EXAMPLES)))).execute()


def test_there_are_three():
    assert len(list(EXAMPLES.glob("*.ipynb"))) == 3
