"""A detector in the manner of YOLO: cross-stage blocks, a pyramid, boxes from distributions."""

import torch
from torch import nn

BINS = 8
CLASSES = 20
STRIDES = (8, 16, 32)


class Block(nn.Sequential):
    """Convolution, normalization, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
        )


class CrossStage(nn.Module):
    """Half of the channels pass through residual blocks; all are joined."""

    def __init__(self, inputs: int, outputs: int, shortcut: bool):
        super().__init__()
        half = outputs // 2
        self.shortcut = shortcut
        self.enter = Block(inputs, outputs, 1)
        self.inner = nn.Sequential(Block(half, half), Block(half, half))
        self.leave = Block(3 * half, outputs, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        first, second = self.enter(values).chunk(2, 1)
        third = self.inner(second)
        if self.shortcut:
            third = third + second
        return self.leave(torch.cat((first, second, third), 1))


class PooledPyramid(nn.Module):
    """One pooling thrice in a row, all joined."""

    def __init__(self, channels: int):
        super().__init__()
        self.enter = Block(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = Block(2 * channels, channels, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        maps = [self.enter(values)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        return self.leave(torch.cat(maps, 1))


class Head(nn.Module):
    """Boxes and classes of one map, [batch, 4 * BINS + CLASSES, height * width]."""

    def __init__(self, channels: int):
        super().__init__()
        self.boxes = nn.Sequential(Block(channels, 32), nn.Conv2d(32, 4 * BINS, 1))
        self.classes = nn.Sequential(Block(channels, 32), nn.Conv2d(32, CLASSES, 1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.boxes(values), self.classes(values)), 1).flatten(2)


class Detector(nn.Module):
    """Images to [batch, 4 + CLASSES, boxes]: corners in pixels and class scores."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(Block(3, 16, 3, 2), Block(16, 32, 3, 2), CrossStage(32, 32, True))
        self.third = nn.Sequential(Block(32, 64, 3, 2), CrossStage(64, 64, True))
        self.fourth = nn.Sequential(Block(64, 128, 3, 2), CrossStage(128, 128, True))
        self.fifth = nn.Sequential(Block(128, 192, 3, 2), CrossStage(192, 192, True), PooledPyramid(192))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.join_fourth = CrossStage(192 + 128, 128, False)
        self.join_third = CrossStage(128 + 64, 64, False)
        self.heads = nn.ModuleList(Head(channels) for channels in (64, 128, 192))
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        third = self.third(self.stem(images))
        fourth = self.fourth(third)
        fifth = self.fifth(fourth)
        fourth = self.join_fourth(torch.cat((self.up(fifth), fourth), 1))
        third = self.join_third(torch.cat((self.up(fourth), third), 1))
        maps = [head(values) for head, values in zip(self.heads, (third, fourth, fifth))]
        places, strides = self._places(images.shape[-1])
        boxes, scores = torch.cat(maps, 2).split((4 * BINS, CLASSES), 1)
        distances = boxes.view(boxes.shape[0], 4, BINS, -1).softmax(2)
        distances = (distances * self.bins.view(1, 1, BINS, 1)).sum(2)
        near, far = distances.chunk(2, 1)
        corners = torch.cat((places - near, places + far), 1) * strides
        return torch.cat((corners, scores.sigmoid()), 1)

    def _places(self, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Middles of the cells in cells, and the cells' sides in pixels."""
        places, strides = [], []
        for stride in STRIDES:
            line = torch.arange(side // stride, dtype=torch.float32) + 0.5
            rows, columns = torch.meshgrid(line, line, indexing="ij")
            places.append(torch.stack((columns.flatten(), rows.flatten())))
            strides.append(torch.full((1, rows.numel()), float(stride)))
        return torch.cat(places, 1)[None], torch.cat(strides, 1)[None]
