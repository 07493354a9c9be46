"""Runs a command with a time limit, and measures what it took."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import threading
import time

POLL_S = 0.02


@dataclasses.dataclass
class Step:
    """How a command ended."""

    stdout: str
    stderr: str
    status: int | None
    """Exit status; negative for a signal, None past the time limit."""
    elapsed_s: float
    cpu_s: float
    peak_mb: float

    def error(self) -> str | None:
        """The command's own words on what went wrong, in one line."""
        if self.status == 0:
            return None
        if self.status is None:
            return f"no end within {self.elapsed_s:.0f} s"
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        starts = [at for at, line in enumerate(lines) if "panicked at" in line or line.startswith("error:")]
        told = " ".join(lines[starts[0] :]) if starts else (lines or [""])[-1]
        told = told.removeprefix("error: ")
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}" + (f": {told}" if told else "")
        return told or f"exit status {self.status}"


def _peak_mb(pid: int) -> float:
    """Largest resident memory so far; 0 once the process is gone.

    Not from wait4: its figure counts the memory of the parent before exec too.
    """
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def run(command: list, limit_s: float, environment: dict[str, str] | None = None) -> Step:
    """Runs `command`; past `limit_s` seconds it and its children are ended."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    told: dict[str, str] = {}
    readers = [
        threading.Thread(target=lambda name=name, pipe=pipe: told.__setitem__(name, pipe.read()), daemon=True)
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for reader in readers:
        reader.start()
    peak, status, usage = 0.0, None, None
    while True:
        peak = max(peak, _peak_mb(process.pid))
        pid, raw, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            status = os.waitstatus_to_exitcode(raw)
            break
        if time.perf_counter() - start > limit_s:
            os.killpg(process.pid, signal.SIGKILL)
            _, _, usage = os.wait4(process.pid, 0)
            break
        time.sleep(POLL_S)
    process.returncode = status if status is not None else -signal.SIGKILL
    for reader in readers:
        reader.join(timeout=5)
    elapsed = time.perf_counter() - start
    cpu = usage.ru_utime + usage.ru_stime
    return Step(told.get("stdout", ""), told.get("stderr", ""), status, elapsed, cpu, peak)
