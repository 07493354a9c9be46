#!/usr/bin/env python3
"""Lists the rows of `auto` on the pages of results that another method's row
beats: more right answers in no more bytes, whatever its width and granularity.

    tools/results/front.py [PAGE...]      docs/results/*.md, or those named
"""

import pathlib
import re
import sys

ROW = re.compile(r"\| ([\w+]+) \| (\d) \|.*\| (\d+) \| \**([\d.]+)\** \| [\d.]+ \|$")


def rows(page):
    """(method, bits, granularity, bytes, top-1) of each row."""
    granularity = ""
    for line in page.read_text().splitlines():
        if line.startswith("### "):
            granularity = line[4:].lower()
        if found := ROW.match(line):
            method, bits, size, top1 = found.groups()
            yield method, int(bits), granularity, int(size), float(top1)


pages = [pathlib.Path(name) for name in sys.argv[1:]]
for page in pages or sorted(pathlib.Path("docs/results").glob("*.md")):
    print(page.stem)
    found = list(rows(page))
    others = [row for row in found if not row[0].startswith("auto")]
    for method, bits, granularity, size, top1 in found:
        better = [row for row in others if row[3] <= size and row[4] > top1]
        if method.startswith("auto") and better:
            best = max(better, key=lambda row: row[4])
            print(f"  {method}, {bits} bits {granularity}: {top1} % in {size:,} bytes;", end=" ")
            print(f"{best[0]}, {best[1]} bits {best[2]}: {best[4]} % in {best[3]:,}")
