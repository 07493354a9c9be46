"""Writes the page of the zoo."""

import gate

COLUMNS = {
    "lut4": "`lut` 4",
    "lut4-nc": "not corrected",
    "lut4-data": "on data",
    "lut3": "`lut` 3",
    "lut3-nc": "not corrected",
    "w4a8": "`w4a8`",
    "w4a8-nc": "not corrected",
    "w4a8-data": "on data",
    "int8": "`int8`",
    "int8-nc": "not corrected",
    "int8-data": "on data",
    "static": "ORT static",
    "dynamic": "ORT dynamic",
}
DIFFERENT_DB = 1.0
"""Runtimes that differ by more are shown apart."""
LONGEST_ERROR = 220

HEAD = """# The zoo

Networks that packages ship and torch exports, through every form; made by
`tools/zoo/setup.sh --torch && .venv-zoo/bin/python tools/zoo/run.py`{short} with {version}.
Nothing here is written by hand.

Numbers are the SQNR in dB of the network's worst output in onnxruntime at its default optimization, on inputs that
the calibration did not see: rendered text, photographs, speech, EEG-like noise. Where onnxruntime without optimization
(`off`) or OpenVINO (`ov`) differs by more than {different:g} dB, its number follows. `lut` 4, `lut` 3, `w4a8` and
`int8` are campana's on synthetic inputs, *on data* its own on examples; *ORT static* is onnxruntime's QDQ form with a
scale per channel on the same examples, *ORT dynamic* its dynamic form. A number in brackets is the note that has the
tool's own line of error. torch's architectures have random weights of realistic statistics, so their numbers compare
forms, not accuracies.

"""


class Notes:
    """Error lines, numbered; equal lines have one number."""

    def __init__(self):
        self._numbers: dict[str, int] = {}

    def mark(self, line: str) -> str:
        """The line's number in brackets."""
        line = " ".join(line.split()).replace("|", "\\|")
        line = line if len(line) <= LONGEST_ERROR else line[:LONGEST_ERROR] + " ..."
        return f"[{self._numbers.setdefault(line, len(self._numbers) + 1)}]"

    def lines(self) -> list[str]:
        """All, in their order."""
        return [f"{number}. {line}" for line, number in self._numbers.items()]


def _db(made: dict, runtime: str) -> str | None:
    value = gate.worst_db(made, runtime)
    if value is not None:
        return f"{value:.1f}"
    equal = [v for k, v in made.get("runtimes", {}).get(runtime, {}).get("sqnr_db", {}).items() if k.endswith("(equal)")]
    return f"{min(equal):.0%} equal" if equal else None


def _cell(found: dict, made: dict | None, notes: Notes) -> str:
    """SQNR by runtime, or the numbers of what went wrong."""
    if made is None:
        return ""
    if "error" in made:
        return notes.mark(made["error"])
    parts = [_db(made, "ort") or ""]
    best = gate.worst_db(made, "ort")
    for runtime, short in (("ort", ""), ("ort-off", "off "), ("openvino", "ov ")):
        line = made.get("runtimes", {}).get(runtime, {})
        if "error" in line:
            if "error" not in found["runtimes"][runtime]:
                parts.append(short + notes.mark(line["error"]))
            continue
        value = gate.worst_db(made, runtime)
        if runtime != "ort" and value is not None and (best is None or abs(value - best) > DIFFERENT_DB):
            parts.append(f"{short}{value:.1f}")
    return " ".join(part for part in parts if part)


def _corrected(made: dict | None, notes: Notes) -> str:
    report = (made or {}).get("report") or {}
    correction = report.get("correction")
    if correction:
        return str(correction.get("corrected", "yes"))
    reason = report.get("not_corrected")
    return notes.mark(f"not corrected: {reason}") if reason else ""


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f}"


def _milliseconds(found: dict) -> str:
    """Fastest run in onnxruntime of the float, lut 4 and int8 files, and onnxruntime's static."""
    made = found["configurations"]
    lines = [found["runtimes"].get("ort", {})]
    lines += [made.get(name, {}).get("runtimes", {}).get("ort", {}) for name in ("lut4", "int8", "static")]
    return " / ".join(f"{line['fastest_ms']:.1f}" if "fastest_ms" in line else "-" for line in lines)


def _answers(found: dict) -> str:
    made = found["configurations"]
    shares = [
        made.get(name, {}).get("runtimes", {}).get("ort", {}).get("same_answers") for name in ("lut4", "int8", "static")
    ]
    return " / ".join("-" if share is None else f"{share:.0%}" for share in shares) if any(
        share is not None for share in shares) else ""


def _row(found: dict, notes: Notes) -> list[str]:
    made = found["configurations"]
    lut = made.get("lut4") or {}
    share = lut.get("share")
    verify = [notes.mark("verify: " + entry["verify"]["error"]) for entry in made.values() if "error" in entry.get("verify", {})]
    sizes = [_megabytes(found.get("bytes"))] + [_megabytes((made.get(n) or {}).get("bytes")) for n in ("lut4", "container")]
    return [
        found["name"],
        _corrected(lut, notes),
        "" if share is None else f"{share:.1%}",
        " / ".join(size or "-" for size in sizes),
        *(_cell(found, made.get(name), notes) for name in COLUMNS),
        _answers(found),
        _milliseconds(found),
        f"{lut['cpu_s']:.0f} / {lut['peak_mb']:.0f}" if "cpu_s" in lut else "",
        " ".join(sorted(set(verify))),
    ]


def page(results: list[dict], version: str, short: bool, note: str = "") -> str:
    """The page in Markdown."""
    notes = Notes()
    head = ["network", "layers corrected", "weights quantized", "MB float / lut 4 / container", *COLUMNS.values()]
    head += ["same answers lut 4 / int8 / ORT static", "ms float / lut 4 / int8 / ORT static", "CPU s / peak MB", "verify"]
    present = [found for found in results if "missing" not in found]
    rows = [_row(found, notes) for found in present]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    goals = ["| goal | reached by |", "| --- | --- |"] + [f"| {goal} | {reached} |" for goal, reached in gate.goals(present)]
    missing = [f"- {found['name']}" for found in results if "missing" in found]
    text = HEAD.format(version=version, short=" --short" if short else "", different=DIFFERENT_DB)
    parts = [note] if note else []
    parts += ["\n".join(lines), "\n".join(goals)]
    if notes.lines():
        parts.append("## Notes\n\n" + "\n".join(notes.lines()))
    if missing:
        parts.append("## Not measured\n\n" + "\n".join(missing))
    return text + "\n\n".join(parts) + "\n"


def brief(made: dict) -> str:
    """One line for the terminal."""
    if "error" in made:
        return made["error"][:300]
    told = [f"{made.get('bytes', 0) / 1e6:.2f} MB", f"{made['cpu_s']:.0f} CPU s"]
    for runtime, line in made.get("runtimes", {}).items():
        told.append(f"{runtime} {_db(made, runtime) or line.get('error', '')[:160]}")
    report = made.get("report") or {}
    if report.get("not_corrected"):
        told.append(f"not corrected: {report['not_corrected'][:160]}")
    if "error" in made.get("verify", {}):
        told.append(f"verify: {made['verify']['error'][:160]}")
    return ", ".join(told)
