"""Records of measurements: where, when, with what and how they were made."""

import datetime
import os
import pathlib
import platform
import subprocess
import sys


def processor() -> str:
    """The processor's name."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the source tree, marked where files differ from it."""
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def today() -> str:
    return f"{datetime.date.today()}"


def head(versions: dict[str, str]) -> list[str]:
    """The lines that a record starts with."""
    shown = " ".join(os.path.basename(part) if os.sep in part else part for part in sys.argv)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        f"## {datetime.datetime.now():%Y-%m-%d %H:%M}",
        "",
        f"{processor()}, {os.cpu_count()} threads; commit {commit()}; {named}; Python {platform.python_version()}",
        "",
        f"    python {shown}",
        "",
    ]


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """A table whose first column is text and whose others are numbers."""
    marks = ["---", *["---:" for _ in columns[1:]]]
    return [f"| {' | '.join(row)} |" for row in (columns, marks, *rows)]


def append(path: pathlib.Path, lines: list[str]) -> None:
    """Adds to a record, under its file's name where it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a") as file:
        if new:
            file.write(f"# {path.stem}\n")
        file.write("\n" + "\n".join(lines).rstrip() + "\n")
