#!/usr/bin/env python3
"""Exports torch's networks by both exporters, with random weights of realistic statistics.

    exports.py FOLDER [NAME...]

Weights are drawn as torch draws them, then spread: every output channel by a factor
of its own, log-normal, since trained channels differ in size. Normalizations get
random gains and offsets, and running statistics from photographs in training mode.
A file that exists is kept; an export that fails is said and the others go on.
"""

import pathlib
import random
import sys

import numpy as np
import torch
import torchvision
from torch import nn

import detector
import networks
import sources

CHANNEL_SPREAD = 0.35
CALIBRATION_BATCHES = 3
OPSET_TORCHSCRIPT = 17
OPSET_DYNAMO = 18


class Features(nn.Module):
    """A backbone's feature maps as a tuple, in their order."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor):
        return tuple(self.backbone(images).values())


class FirstOutput(nn.Module):
    """A segmentation network without the dict around its output."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor):
        return self.network(images)["out"]


def build(name: str) -> nn.Module:
    """The architecture, with torch's initial weights."""
    models = torchvision.models
    if name == "yolo":
        return detector.Detector()
    if name == "ssdlite_backbone":
        network = models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        return Features(network.backbone)
    if name == "resnet18_fpn":
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

        return Features(resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5))
    if name in ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"):
        return FirstOutput(getattr(models.segmentation, name)(weights=None, weights_backbone=None, num_classes=21))
    if name == "googlenet":
        return models.googlenet(weights=None, aux_logits=False, init_weights=True)
    return models.get_model(name, weights=None)


def spread(network: nn.Module) -> None:
    """Gives channels sizes of their own, and normalizations gains and offsets."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            factors = torch.exp(CHANNEL_SPREAD * torch.randn(module.weight.shape[0]))
            module.weight.mul_(factors.view(-1, *[1] * (module.weight.dim() - 1)))
            if module.bias is not None:  # torch leaves zeros, which exporters share or drop
                module.bias.copy_(0.1 * torch.randn_like(module.bias))
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            module.weight.copy_(torch.exp(0.3 * torch.randn_like(module.weight)))
            module.bias.copy_(0.3 * torch.randn_like(module.bias))


def settle(network: nn.Module, side: int, rng: random.Random) -> None:
    """Sets running statistics to those of photographs."""
    form = networks.Form((side, side), networks.IMAGENET)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    for _ in range(CALIBRATION_BATCHES):
        batch = np.concatenate([form.array(sources.photograph(rng)) for _ in range(8)])
        network(torch.from_numpy(batch))
    network.eval()


def export(network: nn.Module, side: int, exporter: str, path: pathlib.Path) -> None:
    """Writes the ONNX file, with the exporter's defaults but a dynamic batch."""
    example = torch.zeros(2, 3, side, side)
    if exporter == "ts":
        torch.onnx.export(network, (example,), str(path), dynamo=False, opset_version=OPSET_TORCHSCRIPT,
                          input_names=["input"], dynamic_axes={"input": {0: "batch"}})
    else:
        batch = torch.export.Dim("batch", min=1, max=64)
        torch.onnx.export(network, (example,), str(path), dynamo=True, opset_version=OPSET_DYNAMO,
                          input_names=["input"], dynamic_shapes=({0: batch},), external_data=False)


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    failed = 0
    for name in sys.argv[2:] or networks.EXPORTED:
        paths = {exporter: folder / f"{name}-{exporter}.onnx" for exporter in ("ts", "dynamo")}
        if all(path.is_file() for path in paths.values()):
            continue
        torch.manual_seed(17)
        side, _ = networks.EXPORTED[name]
        network = build(name)
        with torch.no_grad():
            spread(network)
            settle(network, side, random.Random(17))
            for exporter, path in paths.items():
                try:
                    export(network, side, exporter, path)
                    print(f"{path.name}: {path.stat().st_size} bytes", flush=True)
                except Exception as error:  # an exporter's fault stops only its own file
                    failed += 1
                    print(f"{path.name}: export failed: {' '.join(str(error).split())[:300]}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
