"""Writes the ONNX node tests that tests/onnx_backend.rs runs: write_onnx_node_tests.py FOLDER.

Needs the packages onnx and numpy. Cases whose values are neither tensors nor None are left out.
"""

import pathlib
import sys
import warnings

import numpy as np
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    warnings.filterwarnings("ignore")
    written = 0
    for case in collect_testcases(None):
        if case.model is None or not case.data_sets:
            continue
        sets = [(list(inputs), list(outputs)) for inputs, outputs in case.data_sets]
        values = [value for pair in sets for side in pair for value in side]
        if not all(isinstance(value, (np.ndarray, np.generic)) for value in values):
            continue
        target = folder / case.name
        target.mkdir(parents=True, exist_ok=True)
        (target / "model.onnx").write_bytes(case.model.SerializeToString())
        for number, (inputs, outputs) in enumerate(sets):
            data = target / f"test_data_set_{number}"
            data.mkdir(exist_ok=True)
            for kind, side in (("input", inputs), ("output", outputs)):
                for i, value in enumerate(side):
                    tensor = numpy_helper.from_array(np.asarray(value))
                    (data / f"{kind}_{i}.pb").write_bytes(tensor.SerializeToString())
        written += 1
    print(f"{written} cases written to {folder}")


if __name__ == "__main__":
    main()
