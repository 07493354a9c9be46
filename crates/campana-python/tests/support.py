"""What the tests share."""

from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[3] / "fixtures"
MODEL = FIXTURES / "cifar10_resnet8.onnx"
IMAGES = FIXTURES / "cifar10_test_500.bin"
RNG = np.random.default_rng(0)
