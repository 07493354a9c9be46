"""Modules of torch, quantized by ONNX and back."""

import copy
import importlib.util
import math

import numpy as np
import pytest

import campana

try:
    import torch
    from torch import nn
except ImportError:
    print("SKIPPED: the tests of campana.torch, without the package torch")
    pytest.skip("torch is not installed", allow_module_level=True)
if importlib.util.find_spec("onnx") is None:
    print("SKIPPED: the tests of campana.torch, without the package onnx, which torch exports with")
    pytest.skip("onnx is not installed", allow_module_level=True)

import campana.torch
from campana import _torch_state
from campana._torch_agreement import difference_of

EXPORTERS = [False]
if importlib.util.find_spec("onnxscript") is None:
    print("SKIPPED: the tests of campana.torch with dynamo=True, without the package onnxscript")
else:
    EXPORTERS.append(True)

#: What other orders of sums make of outputs in float32, and rounding in float16.
MAX_DIFFERENCE, MAX_DIFFERENCE_HALF = 1e-5, 5e-3


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.LSTM(8, 32, batch_first=True, bidirectional=True), nn.Linear(64, 8)

    def forward(self, x):
        values, (hidden, _) = self.layer(x)
        return self.head(values), hidden


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.twice, self.one, self.other = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(32, 32), nn.Linear(32, 32)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(self.one(self.twice(self.twice(x).relu())).relu())


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.z, self.a = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 16, 1), nn.Conv2d(32, 8, 1)

    def forward(self, x):
        values = self.trunk(x).relu()
        return {"z": self.z(values), "a": self.a(values), "rest": (values, None)}


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.unused = nn.Linear(32, 64), nn.Linear(32, 64), nn.Linear(8, 8)

    def forward(self, x, y, factor=2, negate=False, mask=None):
        return self.left(x) * factor + (-self.right(y) if negate else self.right(y))


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.layer = torch.randn(32, 16, 3, 3), nn.Conv2d(32, 8, 1)

    def forward(self, x):
        return self.layer(nn.functional.conv2d(x, self.weight))


def trained(module):
    """The module with channels of several sizes, and normalizations that are none of the same values."""
    torch.manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 2)
            for parameter in part.parameters(recurse=False):
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
                else:
                    parameter.mul_(torch.exp(0.35 * torch.randn(len(parameter))).view(-1, *[1] * (parameter.dim() - 1)))
    return module


def images(batch=2, side=12, channels=3):
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def network():
    return trained(nn.Sequential(
        nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 10)))


def sequential(*parts):
    return lambda: trained(nn.Sequential(*parts))


KINDS = {
    "no normalization, no bias": (
        sequential(nn.Conv2d(3, 32, 3, bias=False), nn.ReLU(), nn.Conv2d(32, 16, 3, stride=2, bias=False)), images()),
    "depthwise": (
        sequential(nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32), nn.ReLU6(), nn.Conv2d(32, 32, 3, groups=32, bias=False),
                   nn.BatchNorm2d(32), nn.ReLU6(), nn.Conv2d(32, 16, 1)), images()),
    "linear in three dimensions": (
        sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 64, bias=False), nn.LayerNorm(64)),
        torch.randn(2, 5, 16)),
    "convolution in one dimension": (
        sequential(nn.Conv1d(8, 32, 5), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 16, 1)), torch.randn(2, 8, 40)),
    "transposed": (
        sequential(nn.Conv2d(16, 64, 1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, stride=2, bias=False),
                   nn.BatchNorm2d(32), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, stride=2)), images(channels=16)),
    "other normalizations": (
        sequential(nn.Conv2d(3, 32, 3), nn.GroupNorm(4, 32), nn.SiLU(), nn.Conv2d(32, 32, 3),
                   nn.InstanceNorm2d(32, affine=True), nn.ReLU(), nn.Conv2d(32, 8, 1)), images()),
    "recurrent": (lambda: trained(Recurrent()), torch.randn(2, 5, 8)),
    "attention": (
        lambda: trained(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)), torch.randn(2, 6, 32)),
    "tied": (lambda: trained(Tied()), images(channels=16, side=32)),
    "dict of outputs": (lambda: trained(Heads()), images()),
    "two inputs": (lambda: trained(TwoInputs()), (torch.randn(2, 32), torch.randn(2, 32), 3)),
    "inputs by name": (
        lambda: trained(TwoInputs()), {"y": torch.randn(2, 32), "x": torch.randn(2, 32), "negate": True}),
    "weight norm": (
        sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 32, 3)), nn.ReLU(), nn.Conv2d(32, 32, 3)),
        images()),
}


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_codes_decode_to_is_in_a_copy(kind, dynamo):
    make, example = KINDS[kind]
    module = make()
    before = copy.deepcopy(module.state_dict())
    result = campana.torch.quantize(module, example, bits=4, effort="quick", dynamo=dynamo)
    assert isinstance(result.module, type(module)) and result.module is not module
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    report = result.report
    assert 0 <= report["module"]["difference"] < MAX_DIFFERENCE
    changed = report["module"]["changed"]
    quantized = [tensor["name"] for tensor in report.tensors if tensor["method"] is not None]
    assert quantized and set(quantized) <= set(changed)
    after = result.module.state_dict()
    assert list(after) == list(before)
    for name, tensor in after.items():
        if tensor.is_floating_point():
            assert (name in changed) != torch.equal(tensor, before[name])
            assert (name in changed) != (name in report["module"]["unchanged"])


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_a_module_becomes_what_its_onnx_model_becomes(dynamo):
    module, example = network(), images()
    module.train()
    module[1].eval()
    result, report = campana.torch.quantize(
        module, example, bits=3, method="kmeans", keep="0.*", bits_for={"7.*": 2}, calibrate=images(40), samples=33,
        dynamo=dynamo)
    assert result.training and not result[1].training and module.training and not module[1].training
    assert [len(result[place].weight.unique()) for place in (3, 7)] == [8, 4]
    assert torch.equal(result[0].weight, module[0].weight)
    assert {"3.weight", "3.bias", "7.weight", "7.bias"} <= set(report["module"]["changed"])
    assert result[7].weight.requires_grad and result[7].weight.is_leaf
    assert "Sequential" in repr(report)


def test_corrected_normalizations_still_suit_training():
    module, example = network(), images(16)
    result, report = campana.torch.quantize(module, example)
    assert {"1.weight", "1.bias"} <= set(report["module"]["changed"])
    assert torch.equal(result[1].running_mean, module[1].running_mean)
    assert torch.equal(result[1].running_var, module[1].running_var)
    # Codes of 4 bits change the outputs by some 10 %; a scale without statistics would by more than half.
    expected, found = module.train()(example), result.train()(example)
    assert (found - expected).norm() < 0.3 * expected.norm()


def test_normalizations_without_scale_stay_without():
    module = trained(nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32, affine=False), nn.ReLU(),
                                   nn.Conv2d(32, 8, 1)))
    result, report = campana.torch.quantize(module, images())
    assert result[1].weight is None and result[1].bias is None
    assert list(result.state_dict()) == list(module.state_dict())
    assert {"1.running_mean", "1.running_var"} <= set(report["module"]["changed"])
    assert report["module"]["difference"] < MAX_DIFFERENCE


def test_tied_parameters_stay_tied():
    result, report = campana.torch.quantize(trained(Tied()), images(channels=16, side=32))
    assert result.one.weight is result.other.weight
    assert {"one.weight", "other.weight"} <= set(report["module"]["changed"])


def test_modules_in_float16_stay_so():
    module = network().half()
    result, report = campana.torch.quantize(module, images().half())
    assert {tensor.dtype for tensor in result.parameters()} == {torch.float16}
    assert report["module"]["difference"] < MAX_DIFFERENCE_HALF


@pytest.mark.parametrize("forgotten", ["0.weight", "1.weight", "1.bias", "3.weight", "3.bias", "7.weight", "7.bias"])
def test_a_tensor_that_is_not_put_back_is_noticed(forgotten, monkeypatch):
    state_of = _torch_state.state_of
    monkeypatch.setattr(_torch_state, "state_of", lambda module: [
        (names, tensor.detach().clone() if forgotten in names else tensor) for names, tensor in state_of(module)])
    with pytest.raises(campana.UnsupportedError, match="output 0 of the module differs from that of the quantized"):
        campana.torch.quantize(network(), images())


def test_constants_without_a_name_find_their_tensor_by_value():
    module = trained(nn.Sequential(nn.Linear(8, 16), nn.Conv2d(16, 16, 3)))
    weight, kernel = (module[place].weight.detach().numpy().copy() for place in (0, 1))
    before = {"onnx::MatMul_12": weight.T, "val_3": kernel, "0.bias": module[0].bias.detach().numpy().copy()}
    after = {"onnx::MatMul_12": weight.T + 1, "val_3": kernel - 1, "0.bias": before["0.bias"]}
    _torch_state.put_back(module, before, after, {})
    assert np.array_equal(module[0].weight.detach().numpy(), weight + 1)
    assert np.array_equal(module[1].weight.detach().numpy(), kernel - 1)
    assert np.array_equal(module[0].bias.detach().numpy(), before["0.bias"])


@pytest.mark.parametrize("change", [0, 2])
def test_a_tensor_that_became_several_different_ones_is_refused(change):
    module = trained(nn.Linear(8, 16))
    weight = module.weight.detach().numpy().copy()
    with pytest.raises(campana.UnsupportedError, match="'weight' is several tensors of the exported graph"):
        _torch_state.put_back(module, {"a": weight.T, "b": weight}, {"a": weight.T + change, "b": weight + 1}, {})
    assert np.array_equal(module.weight.detach().numpy(), weight)


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_weights_that_are_no_parameters_are_refused_by_name(dynamo):
    module = trained(Constant())
    with pytest.raises(campana.UnsupportedError, match="neither a parameter nor a buffer") as refused:
        campana.torch.quantize(module, images(channels=16), dynamo=dynamo)
    name = str(refused.value).split("'")[1]
    result, report = campana.torch.quantize(module, images(channels=16), keep=[name], dynamo=dynamo)
    assert torch.equal(result.weight, module.weight) and "layer.weight" in report["module"]["changed"]


class Unexportable(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x[0, 0])[0]


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_a_module_that_cannot_be_exported_is_refused_with_what_torch_says(dynamo):
    with pytest.raises(campana.UnsupportedError, match=rf"\(Unexportable\) with dynamo={dynamo}: .*linalg_svd"):
        campana.torch.quantize(Unexportable(), images(), dynamo=dynamo)


def test_wrong_arguments_are_refused():
    module, example = network(), images()
    for arguments, kind, text in [
        ((module.state_dict(), example), campana.ArgumentTypeError, "torch.nn.Module, not"),
        ((torch.jit.trace(module, example), example), campana.UnsupportedError, "ScriptModule"),
        ((module, example.numpy()), campana.ArgumentTypeError, "with a tensor among them, not ndarray"),
        ((module, (example, example)), campana.ArgumentError, "does not fit the module's forward"),
        ((module, example[:, :2]), campana.ArgumentError, "cannot be called with example_input: .*3 channels"),
        ((module, example.to("meta")), campana.UnsupportedError, "'input' is on meta"),
        ((copy.deepcopy(module).to("meta"), example), campana.UnsupportedError, "'0.weight' is on meta"),
        ((copy.deepcopy(module).double(), example.double()), campana.UnsupportedError, "torch.float64"),
        ((copy.deepcopy(module).bfloat16(), example.bfloat16()), campana.UnsupportedError, "torch.bfloat16"),
    ]:
        with pytest.raises(kind, match=text):
            campana.torch.quantize(*arguments)
    for options, text in [(dict(tolerance=0), "tolerance"), (dict(bits=9), "bits"), (dict(keep="none"), "none")]:
        with pytest.raises(campana.ArgumentError, match=text):
            campana.torch.quantize(module, example, **options)
    with pytest.raises(campana.BoundMissedError):
        campana.torch.quantize(module, example, max_size="1kB", correct=False)
    assert "forward" not in vars(module)


def test_the_tolerance_is_that_of_the_comparison():
    module, example = network(), images()
    with pytest.raises(campana.UnsupportedError, match="its export to ONNX, before quantization"):
        campana.torch.quantize(module, example, tolerance=1e-12)
    report = campana.torch.quantize(module, example, correct=False, tolerance=math.inf).report
    assert report["module"]["difference"] is None


def test_differences_are_relative_to_the_output():
    values = np.array([3.0, 4.0], "f4")
    assert difference_of(values, values + np.array([0, 0.5], "f4")) == pytest.approx(0.1)
    assert difference_of(values, values[:1]) == math.inf
    assert difference_of(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0
    assert difference_of(np.array([np.nan, 1.0]), np.array([1.0, 1.0])) == math.inf
    assert difference_of(np.zeros(2), np.full(2, 1e-9)) == math.inf
    assert difference_of(np.arange(200), np.arange(200)) == 0
    assert difference_of(np.arange(200), np.arange(200) + 1) == math.inf
