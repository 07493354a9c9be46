"""Images as models take them."""

import json
import os

import numpy as np

from . import _campana
from ._data import is_image, is_path
from .errors import ArgumentError, ArgumentTypeError, FileError, FormatError


def preparation(model):
    """How images are prepared for a model: that of the sidecar beside it, of a sidecar's file, or of a dict."""
    if is_path(model):
        path = os.fspath(model)
        if os.path.splitext(os.fsdecode(path))[1].lower() != ".json":
            return _campana.Preparation.of_model(path)
        return _campana.Preparation.of_text(_text(path))
    if hasattr(model, "items"):
        return _campana.Preparation.of_text(json.dumps(model))
    raise ArgumentTypeError(f"give the path of a model, or a sidecar as a path or dict, not {type(model).__name__}")


def _text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no text: {error}") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error}") from error


def prepared(image, how):
    """One image as an array."""
    if is_path(image):
        flat = how.file(os.fspath(image))
    else:
        pixels = np.asarray(image.convert("RGB") if is_image(image) else image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3:
            raise ArgumentError(
                f"an image is a path, PIL's, or uint8 of shape [height, width, 3], not {pixels.dtype} of shape "
                f"{list(pixels.shape)}")
        flat = how.pixels(np.require(pixels, requirements=["C", "A"]))
    return flat.reshape(how.shape)


def preprocess(image, model):
    """An image resized, cropped and normalized as a model takes it: the very values that the command makes.

    ``image`` is the path of a JPEG or PNG, an image of PIL, or pixels, uint8 of shape ``[height, width, 3]`` in the
    order red, green, blue. ``model`` is the path of a model with its sidecar ``MODEL.json`` beside it, or a sidecar:
    the path of such a file, or a dict of its form.

    Returns float32 of shape ``[3, H, W]``, or ``[H, W, 3]`` where the sidecar says so; of a list of images, these
    stacked, as :meth:`Session.run` takes them.
    """
    how = preparation(model)
    if isinstance(image, (list, tuple)):
        if not image:
            raise ArgumentError("give at least one image")
        return np.stack([prepared(one, how) for one in image])
    return prepared(image, how)
