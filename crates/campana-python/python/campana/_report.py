"""What jobs report."""

import html
import os

from .errors import UnsupportedError

#: Where the rows of a table are, by the kind of report, and their columns on a page.
_ROWS = {
    "tensors": ("name", "shape", "bits", "method", "bits_per_weight", "sqnr_db"),
    "models": ("model", "top1", "top5", "agreement", "metric", "images_per_s", "median_ms", "peak_rss_bytes"),
    "rows": ("runtime", "model", "method", "bits", "granularity", "sqnr_db", "bits_per_weight", "output_bytes", "top1",
             "median_ms", "relative_difference", "agreement"),
}


class Report(dict):
    """What a job reports: a dict with the keys of the command's ``--json``, which shows itself shortly, in notebooks as
    a table, and gives its rows to pandas."""

    @property
    def tensors(self):
        """What became of each tensor, a list of dicts; empty where the report is not about tensors."""
        return self.get("tensors", [])

    def to_pandas(self):
        """A ``pandas.DataFrame`` of the report's rows: tensors of ``quantize``, models of ``evaluate`` and ``bench``,
        rows of ``compare`` and ``verify``. Needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise UnsupportedError("to_pandas needs pandas: pip install pandas") from error
        return pandas.DataFrame(self._rows()[1])

    def _rows(self):
        return next(((kind, self[kind]) for kind in _ROWS if kind in self), ("", []))

    def _summary(self):
        facts = []
        if "output_bytes" in self:
            names = [os.path.basename(self[key]) for key in ("input", "output")]
            facts.append(f"{names[0]} ({_bytes(self['input_bytes'])}) -> {names[1]} ({_bytes(self['output_bytes'])})")
        if self.get("bits_per_weight") is not None:
            facts.append(f"{self['bits_per_weight']:.2f} bits a weight")
        if self.get("sqnr_db") is not None:
            facts.append(f"SQNR {self['sqnr_db']:.1f} dB")
        if "n" in self:
            facts.append(f"{self['n']} samples")
        kind, rows = self._rows()
        if rows:
            facts.append(f"{len(rows)} {kind if len(rows) > 1 else kind[:-1]}")
        for row in rows if kind == "models" else []:
            shares = [f"{key} {row[key]:.4g}" for key in ("top1", "metric", "median_ms") if row.get(key) is not None]
            facts.append(" ".join([os.path.basename(row["model"]), *shares]))
        if self.get("warnings"):
            facts.append(f"{len(self['warnings'])} warnings")
        return ", ".join(facts)

    def __repr__(self):
        return f"<campana.Report: {self._summary()}>"

    def _repr_html_(self):
        kind, rows = self._rows()
        columns = [column for column in _ROWS.get(kind, ()) if any(row.get(column) is not None for row in rows)]
        head = "".join(f"<th>{column}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(row.get(column)))}</td>" for column in columns) + "</tr>"
            for row in rows)
        warnings = "".join(f"<p>{html.escape(text)}</p>" for text in self.get("warnings", []))
        return (f"<p>{html.escape(self._summary())}</p>{warnings}"
                f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def __reduce__(self):
        return Report, (dict(self),)


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "x".join(str(part) for part in value)
    return str(value)


def _bytes(count):
    for unit in "B", "kB", "MB":
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"
