"""Labelled images as the input of a network, by its sidecar."""

import argparse
import csv
import json
import pathlib

import numpy as np

CIFAR_PIXELS = 3 * 32 * 32


def add_arguments(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    """Options that say which images; scripts that do not need them draw 8 inputs at random."""
    default = "all" if needed else "all, or 8 random inputs"
    parser.add_argument("--data", type=pathlib.Path, required=needed, help="CIFAR binary, or folder with labels.tsv")
    parser.add_argument("--label-bytes", type=int, default=1, help="of a CIFAR record: 1 (CIFAR-10) or 2 (CIFAR-100)")
    parser.add_argument("--sidecar", type=pathlib.Path, help="preprocessing [default: MODEL.json]")
    parser.add_argument("--limit", type=int, help=f"use the first N images [default: {default}]")


def channels_last(values: np.ndarray, shape: tuple) -> np.ndarray:
    """An input as TFLite has it, where the shape says that its channels are last."""
    if values.shape == shape:
        return values
    return np.ascontiguousarray(np.moveaxis(values, 1, -1)).reshape(shape)


def load(args: argparse.Namespace, model: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Normalized images, [N, 3, H, W] float32, and their labels."""
    sidecar = args.sidecar or model.with_suffix(".json")
    settings = json.loads(sidecar.read_text())["input"]
    if args.data.is_dir():
        images, labels = load_folder(args.data, settings, args.limit)
    else:
        images, labels = load_cifar(args.data, args.label_bytes, args.limit)
    mean, std = (np.array(settings[key], np.float32).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    return ((images / np.float32(255) - mean) / std).astype(np.float32), labels


def load_cifar(path: pathlib.Path, label_bytes: int, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Records of label bytes (the last one counts) and 32x32 planes R, G, B."""
    records = np.fromfile(path, np.uint8).reshape(-1, label_bytes + CIFAR_PIXELS)[:limit]
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(int)


def load_folder(folder: pathlib.Path, settings: dict, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pictures named in labels.tsv: shorter side resized, centre cropped."""
    from PIL import Image

    with open(folder / "labels.tsv", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if row[1].isdigit()][:limit]
    height, width = settings["size"]
    short = settings.get("resize_short", min(height, width))
    images = np.empty((len(rows), 3, height, width), np.uint8)
    for image, row in zip(images, rows):
        picture = Image.open(folder / row[0]).convert("RGB")
        scale = short / min(picture.size)
        size = [round(side * scale) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        picture = picture.crop((left, top, left + width, top + height))
        image[:] = np.asarray(picture).transpose(2, 0, 1)
    return images, np.array([int(row[1]) for row in rows])
