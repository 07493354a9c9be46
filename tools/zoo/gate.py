"""The rules that no change may break, and the goals that the table counts."""

import statistics

import configurations

CORRECTION_SLACK_DB = 0.1
"""Synthetic inputs are not the test inputs: so much less may happen by chance."""
LEAST_SQNR_DB = 3.0
"""Below it a file answers something else."""
GOOD_DB = 30.0
"""Above it a file answers as the float one does: the gate leaves differences alone there, the goals do not. A saturated
answer, such as a probability of 0.9999, moves by tens of dB for errors of 1e-4."""
LEAST_SHARE = 0.97


def worst_db(made: dict | None, runtime: str = "ort") -> float | None:
    """The lowest SQNR of a file's float outputs in a runtime."""
    line = (made or {}).get("runtimes", {}).get(runtime, {})
    values = [value for name, value in line.get("sqnr_db", {}).items() if not name.endswith(" (equal)")]
    return min(values) if values else None


def _crashed(error: str) -> bool:
    return any(word in error for word in ("panicked at", "ended by", "no end within"))


def _faults_of_file(found: dict, name: str, made: dict) -> list[str]:
    """What is wrong with one configuration."""
    error = made.get("error")
    if error:
        faults = ["left a file behind"] if made.get("left_behind") else []
        if name.startswith("lut") or name == "container" or _crashed(error):
            faults.append(error)
        return faults
    faults = []
    for runtime, line in made.get("runtimes", {}).items():
        if "error" in line and "error" not in found["runtimes"][runtime]:
            faults.append(f"does not run in {runtime}: {line['error'][:200]}")
        if (db := worst_db(made, runtime)) is not None and db < LEAST_SQNR_DB:
            faults.append(f"{db:.1f} dB in {runtime}")
    verify = made.get("verify", {}).get("error", "")
    if _crashed(verify):
        faults.append(f"verify: {verify}")
    return faults


def faults(results: list[dict]) -> list[str]:
    """Every broken rule as NETWORK: CONFIGURATION: what."""
    told = []
    for found in results:
        if "missing" in found:
            told.append(f"{found['name']}: no file {found['missing']}")
        for name, made in found["configurations"].items():
            if name in ("static", "dynamic"):
                continue
            told += [f"{found['name']}: {name}: {fault}" for fault in _faults_of_file(found, name, made)]
            plain = found["configurations"].get(configurations.CORRECTED.get(name, ""))
            ours, theirs = worst_db(made), worst_db(plain)
            if ours is not None and theirs is not None and ours < min(theirs - CORRECTION_SLACK_DB, GOOD_DB):
                told.append(f"{found['name']}: {name}: {ours:.1f} dB, without correction {theirs:.1f}")
    return told


def _pairs(results: list[dict], first: str, second: str) -> list[float]:
    """Differences in dB of two configurations on the networks that have both."""
    both = [
        (worst_db(found["configurations"].get(first)), worst_db(found["configurations"].get(second)))
        for found in results
    ]
    return [one - other for one, other in both if one is not None and other is not None]


def _against_baseline(results: list[dict]) -> list[float]:
    """int8 (on data where that ran) less the better of onnxruntime's, in dB."""
    differences = []
    for found in results:
        made = found["configurations"]
        ours = [db for name in ("int8", "int8-data") if (db := worst_db(made.get(name))) is not None]
        theirs = [db for name in ("static", "dynamic") if (db := worst_db(made.get(name))) is not None]
        if ours and theirs:
            differences.append(max(ours) - max(theirs))
    return differences


def _count(differences: list[float], least: float) -> str:
    if not differences:
        return "none measured"
    reached = sum(difference >= least for difference in differences)
    return f"{reached} of {len(differences)}, median {statistics.median(differences):+.1f} dB"


def goals(results: list[dict]) -> list[tuple[str, str]]:
    """Each goal and how far it is reached."""
    made = [found["configurations"] for found in results]
    reports = [entry["lut4"].get("report") for entry in made if "lut4" in entry]
    corrected = sum(1 for report in reports if report and report.get("correction"))
    shares = [entry["lut4"]["share"] for entry in made if (entry.get("lut4") or {}).get("share") is not None]
    return [
        ("`lut` corrected", f"{corrected} of {len(reports)}"),
        (f"{LEAST_SHARE:.0%} of the weights quantized",
         f"{sum(share >= LEAST_SHARE for share in shares)} of {len(shares)}"),
        ("`lut` 4 bits as good as without correction", _count(_pairs(results, "lut4", "lut4-nc"), -0.1)),
        ("`lut` 3 bits as good as without correction", _count(_pairs(results, "lut3", "lut3-nc"), -0.1)),
        ("`w4a8` within 3 dB of `lut`", _count(_pairs(results, "w4a8", "lut4"), -3)),
        ("`int8` within 1 dB of the better of onnxruntime's", _count(_against_baseline(results), -1)),
    ]
