"""check_safetensors_form.py PAGE CODES FLOATS: the decoder on PAGE, run on the file CODES, must give exactly what is in
the file FLOATS."""

import re
import sys

import numpy as np

page, codes, floats = sys.argv[1:]
(decoder,) = re.findall(r"```python\n(.*?)```", open(page).read(), re.S)
exec(decoder)
decoded, expected = load(codes), load(floats)  # noqa: F821: the page defines it
assert sorted(decoded) == sorted(expected), (sorted(decoded), sorted(expected))
for name, values in expected.items():
    assert decoded[name].shape == values.shape, name
    assert np.array_equal(decoded[name].astype(values.dtype), values), name
print(len(expected), "tensors are equal")
