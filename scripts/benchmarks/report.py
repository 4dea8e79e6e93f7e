"""What was measured, beside its yardstick and its budget: as a table, and as JSON."""

import os
import platform
import statistics
import time
from pathlib import Path

import msgspec
from tabulate import tabulate


class Budget(msgspec.Struct, frozen=True):
    """What a figure may be: a bound on relayd's, or on its ratio to the yardstick's; ``then`` is the next aim."""

    least: float | None = None
    most: float | None = None
    ratio_least: float | None = None
    then: float | None = None

    def __str__(self) -> str:
        if self.ratio_least is not None:
            return f">= {self.ratio_least:.0%}" + (f", then {self.then:.0%}" if self.then else "")
        if self.least is not None:
            return f">= {number(self.least)}" + (f", then {number(self.then)}" if self.then else "")
        return f"< {number(self.most)}" if self.most is not None else ""

    def met(self, relayd: float, ratio: float | None) -> bool:
        """Whether a figure keeps to it."""
        if self.ratio_least is not None:
            return ratio is not None and ratio >= self.ratio_least
        return (self.least is None or relayd >= self.least) and (self.most is None or relayd < self.most)


class Figure:
    """One line of the table: a sample of each side a round."""

    def __init__(self, row: str, what: str, unit: str, budget: Budget | None = None) -> None:
        self.row, self.what, self.unit, self.budget = row, what, unit, budget
        self.samples: dict[str, list[float]] = {"yardstick": [], "relayd": []}

    def add(self, label: str, value: float) -> None:
        self.samples[label].append(value)

    def median(self, label: str) -> float:
        return statistics.median(self.samples[label])

    @property
    def ratio(self) -> float | None:
        """relayd's median as a share of the yardstick's."""
        if not (self.samples["yardstick"] and self.samples["relayd"]) or not self.median("yardstick"):
            return None
        return self.median("relayd") / self.median("yardstick")

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept to; None: there is none."""
        return None if self.budget is None else self.budget.met(self.median("relayd"), self.ratio)

    def as_json(self) -> dict[str, object]:
        return {
            "row": self.row,
            "what": self.what,
            "unit": self.unit,
            "samples": self.samples,
            "median": {label: self.median(label) for label, values in self.samples.items() if values},
            "ratio": self.ratio,
            "budget": None if self.budget is None else str(self.budget),
            "met": self.met,
        }


def number(value: float) -> str:
    """Three figures at least, and thousands set apart."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(figures: list[Figure]) -> str:
    """The table; a budget that is kept has ``ok``, another ``MISSED``."""
    lines = []
    for figure in figures:
        yardstick = number(figure.median("yardstick")) if figure.samples["yardstick"] else ""
        ratio = "" if figure.ratio is None else f"{figure.ratio:.0%}"
        mark = {None: "", True: "ok", False: "MISSED"}[figure.met]
        what = f"{figure.what}, {figure.unit}"
        lines.append(
            [figure.row, what, yardstick, number(figure.median("relayd")), ratio, str(figure.budget or ""), mark]
        )
    headers = ["row", "what", "yardstick", "relayd", "ratio", "budget", ""]
    return tabulate(lines, headers, disable_numparse=True, colalign=("left", "left", "right", "right", "right"))


def machine(directory: Path) -> dict[str, object]:
    """The machine and the disk, in the words that make two reports comparable."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "directory": str(directory),
        "filesystem": filesystem(directory),
        "fdatasync_ms": round(_fdatasync_ms(directory), 3),
    }


def filesystem(directory: Path) -> str:
    """The type of the file system that holds ``directory``."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, type_ = line.split()[:3]
        if directory.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, type_
    return kind


def _fdatasync_ms(directory: Path) -> float:
    """The median of 50 appends of 4 KB, each with its fdatasync."""
    path, samples = directory / "probe", []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(50):
            start = time.perf_counter()
            os.write(fd, b"x" * 4096)
            os.fdatasync(fd)
            samples.append((time.perf_counter() - start) * 1000)
    finally:
        os.close(fd)
        path.unlink()
    return statistics.median(samples)
