"""Puts the browser page, its scripts and the WebAssembly module into one file.

usage: bundle.py GLUE.js MODULE.wasm PAGE.html
"""

import base64
import gzip
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(glue, module, page):
    """Writes `page` from the parts in web/ and what wasm-bindgen made."""
    web = ROOT / "web"
    compressed = gzip.compress(Path(module).read_bytes(), 9, mtime=0)
    parts = {
        "REPORT_STYLE": (ROOT / "crates/campana-report/src/page.css").read_text(),
        "STYLE": (web / "page.css").read_text(),
        "WORKER": Path(glue).read_text() + (web / "worker.js").read_text(),
        "MODULE": base64.b64encode(compressed).decode(),
        "SCRIPT": (web / "page.js").read_text(),
    }
    for name, text in parts.items():
        if re.search(r"</(script|style)", text, re.IGNORECASE):
            sys.exit(f"error: {name} would end its element too early")
    template = (web / "index.html").read_text()
    whole = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
    Path(page).write_text(whole)


if __name__ == "__main__":
    main(*sys.argv[1:])
