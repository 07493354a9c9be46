"""Puts the browser page, its scripts, the WebAssembly modules and a sample into one file.

usage: bundle.py MODULES PAGE.html

MODULES is the folder that modules.sh has filled.
"""

import base64
import gzip
import json
import re
import struct
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"

# Pictures of the sample, by their place in the file of test images, each of another class.
SAMPLE_PICTURES = 12
SIDE = 32


def base64_of(data):
    """Text of bytes, compressed."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def png(planes):
    """A PNG of the planes of red, green and blue of a CIFAR picture."""
    area = SIDE * SIDE
    rows = b""
    for y in range(SIDE):
        pixels = range(y * SIDE, (y + 1) * SIDE)
        rows += b"\0" + bytes(planes[plane * area + at] for at in pixels for plane in range(3))
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def sample():
    """A network that can be tried, with its sidecar and some pictures."""
    labels = json.loads((FIXTURES / "cifar10_resnet8.json").read_text())["labels"]
    data = (FIXTURES / "cifar10_test_500.bin").read_bytes()
    length = 1 + 3 * SIDE * SIDE
    records = [data[at : at + length] for at in range(0, len(data), length)]
    # Evenly spread over the classes.
    chosen = records[:: len(records) // SAMPLE_PICTURES][:SAMPLE_PICTURES]
    pictures = [
        {"name": f"{labels[record[0]]} {i + 1}.png", "base64": base64.b64encode(png(record[1:])).decode()}
        for i, record in enumerate(chosen)
    ]
    return {
        "name": "cifar10_resnet8.onnx",
        "model": base64_of((FIXTURES / "cifar10_resnet8.onnx").read_bytes()),
        "sidecar": (FIXTURES / "cifar10_resnet8.json").read_text(),
        "pictures": pictures,
    }


def script(path):
    """An ES module as a part of a plain script, which a page from a disk may start as a worker."""
    text = re.sub(r"^export \{.*\};\n", "", path.read_text(), flags=re.MULTILINE)
    return re.sub(r"^export (?=class |function )", "", text, flags=re.MULTILINE)


def main(modules, page):
    """Writes `page` from the parts in web/ and what modules.sh made."""
    modules, web = Path(modules), ROOT / "web"
    levels = {path.stem.removeprefix("campana-"): base64_of(path.read_bytes()) for path in modules.glob("campana-*.wasm")}
    parts = {
        "REPORT_STYLE": (ROOT / "crates/campana-report/src/page.css").read_text(),
        "STYLE": (web / "page.css").read_text(),
        "WORKER": script(modules / "campana.js") + script(web / "worker.js"),
        "MODULES": json.dumps(levels),
        "SAMPLE": json.dumps(sample()),
        "SCRIPT": script(web / "levels.js") + script(web / "page.js"),
    }
    for name, text in parts.items():
        if re.search(r"</(script|style)", text, re.IGNORECASE):
            sys.exit(f"error: {name} would end its element too early")
    template = (web / "index.html").read_text()
    whole = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
    Path(page).write_text(whole)


if __name__ == "__main__":
    main(*sys.argv[1:])
