"""Makes the pictures of this folder and what Pillow decodes and resizes them to.

Run in this folder with Pillow and numpy installed. The pictures are computed, so nobody's rights are
touched. `expected_*` are lossless, so that they hold Pillow's own bytes.
"""

from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
JPEG = {"quality": 85, "optimize": True}


def scene(width, height):
    """Gradients, rings, an edge and noise: something of all that a filter can get wrong."""
    y, x = np.mgrid[:height, :width].astype(float)
    rings = 127 + 120 * np.sin(np.hypot(x - width / 3, y - height / 2) ** 1.5 / 9)
    edge = np.where(x + 2 * y > 1.2 * height, 230, 20)
    noise = np.random.default_rng(7).integers(0, 256, (height, width))
    planes = [0.7 * rings + 0.3 * noise, 255 * x / width, 0.8 * edge + 0.2 * noise]
    return Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8))


def save(image, name, **options):
    image.save(HERE / name, **options)


def expect(name):
    save(Image.open(HERE / name).convert("RGB"), f"expected_{name.replace('.', '_')}.png")


def main():
    # Smooth, as photographs are: chroma noise at the full resolution is lost by subsampling anyway.
    smooth = scene(120, 92).resize((45, 35), Image.BICUBIC)
    orientation = Image.Exif()
    orientation[274] = 6  # rotated by 90 degrees, which PIL leaves to the caller
    jpegs = {
        "baseline_420.jpg": (smooth, {}),
        "progressive_420.jpg": (smooth, {"progressive": True}),
        "baseline_422.jpg": (smooth, {"subsampling": "4:2:2"}),
        "baseline_444.jpg": (smooth, {"subsampling": "4:4:4"}),
        "rotated_444.jpg": (smooth, {"subsampling": "4:4:4", "exif": orientation}),
        "grey.jpg": (smooth.convert("L"), {}),
        "cmyk.jpg": (smooth.convert("CMYK"), {}),
    }
    for name, (image, options) in jpegs.items():
        save(image, name, **JPEG, **options)
        expect(name)

    alpha = Image.fromarray((np.arange(45 * 35).reshape(35, 45) % 256).astype(np.uint8))
    rgba = smooth.copy()
    rgba.putalpha(alpha)
    grey_alpha = smooth.convert("L")
    grey_alpha.putalpha(alpha)
    pngs = {
        "palette.png": smooth.quantize(16),
        "rgba.png": rgba,
        "grey.png": smooth.convert("L"),
        "grey_alpha.png": grey_alpha,
        "bilevel.png": smooth.convert("1"),
    }
    for name, image in pngs.items():
        save(image, name, optimize=True)
        expect(name)

    scene_image = scene(61, 47)
    save(scene_image, "scene.png", optimize=True)
    for filter_name in ("BILINEAR", "BICUBIC"):
        for width, height in [(23, 18), (61, 20), (30, 47), (90, 70), (5, 100)]:
            resized = scene_image.resize((width, height), getattr(Image, filter_name))
            save(resized, f"expected_{filter_name.lower()}_{width}x{height}.png", optimize=True)


main()
