"""The figures of earlier days, a line of JSON each, and what is worse today."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, ValidationError

from embedkit import __version__
from embedkit.encoders.hardware import processor_abilities, usable_cores
from tests.benchmarks.machine import LIBRARIES, version_of

HISTORY = Path(__file__).with_name("history.jsonl")

LIMIT_SHARE = "share of the limit"
HOST_RATE = "host side, tokens/s of a core"
START = "start-up, s: "
"""Begins the names of start-up times, of which less is better; of all others more is."""

LEAST_MARGIN = 0.1
MARGIN_OF_FEW = 0.25
FEW = 3
_DEVIATIONS = 3 * 1.4826
_LATEST = 20
_OF_HOST_SIDE = ("tokenizers", "pyarrow", "numpy")
# What decides which kernels libraries choose, by the names of Linux.
_ABILITIES = frozenset(
    "avx2 fma avx_vnni avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8 "
    "asimd asimddp bf16 i8mm sve sve2".split()
)


class HistoryError(Exception):
    """The history is damaged; the message is one line that says where, and what to do."""


@dataclass(frozen=True)
class Measured:
    """What a guarded benchmark found.

    Attributes:
        figures: Medians by name.
        others: Largest share of the machine that other processes used meanwhile.
    """

    figures: dict[str, float]
    others: float


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Machine(_Strict):
    """The kind of a machine; figures of one kind say nothing of another.

    Attributes:
        processor: The processor's model.
        cores: Cores that this process may use.
        abilities: Those of the processor that decide which kernels run, in order.
    """

    processor: str
    cores: int
    abilities: list[str]

    @classmethod
    def here(cls) -> Self:
        """Returns the kind of this machine."""
        model, _, flags = processor_abilities().rpartition(": ")
        return cls(
            processor=model or platform.machine(),
            cores=usable_cores(),
            abilities=sorted(_ABILITIES.intersection(flags.split())),
        )

    def __str__(self) -> str:
        return " ".join([f"{self.processor}, {self.cores} cores,", *self.abilities])


class Row(_Strict):
    """What was measured at one time.

    Attributes:
        date: When, in UTC, such as ``2026-11-29T18:00:00+00:00``.
        machine: On what.
        versions: Of Python, the libraries and embedkit, and the commit of the latter.
        figures: Medians by name.
        others: Largest share of the machine that other processes used during a benchmark.
    """

    date: str
    machine: Machine
    versions: dict[str, str]
    figures: dict[str, PositiveFloat]
    others: NonNegativeFloat


def row_of(figures: Mapping[str, float], others: float) -> Row:
    """Returns the row of figures that were measured here and now."""
    versions = {name: version_of(name) for name in (*LIBRARIES, *_OF_HOST_SIDE)}
    versions |= {"python": platform.python_version(), "embedkit": __version__, "commit": _commit()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Row(
        date=date, machine=Machine.here(), versions=versions, figures=dict(figures), others=others
    )


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=HISTORY.parent, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def read_history(path: Path) -> list[Row]:
    """Returns all rows, the oldest first; none where there is no history yet.

    Raises:
        HistoryError: A line is no row.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where}: {first['msg']}" if where else first["msg"]
            raise HistoryError(
                f"{path}, line {number}: no row of the history ({what}); restore or remove the line"
            ) from None
    return rows


def append(row: Row, path: Path) -> None:
    """Adds a row at the end."""
    cut = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * cut + row.model_dump_json() + "\n")


@dataclass(frozen=True)
class Change:
    """How a figure stands to those of earlier rows.

    Attributes:
        name: The figure's.
        now: What it is.
        before: The median of what it was.
        margin: How much worse it may be before it is said to be, as a share of ``before``.
    """

    name: str
    now: float
    before: float
    margin: float

    @property
    def loss(self) -> float:
        """How much worse it is as a share of what it was; negative where it is better."""
        change = self.now / self.before - 1
        return change if self.name.startswith(START) else -change

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.now:,.4g}, before {self.before:,.4g}, "
            f"{self.now / self.before - 1:+.0%} (margin {self.margin:.0%})"
        )


def margin_of(values: Sequence[float]) -> float:
    """Returns how far from their median a further value may be, as a share of it.

    That is three standard deviations, told from the median of the distances to the median, which
    single outliers do not move, and at least a tenth; of fewer than three values, which tell no
    spread, a quarter.
    """
    if len(values) < FEW:
        return MARGIN_OF_FEW
    middle = median(values)
    distance = median(abs(value - middle) for value in values)
    return max(LEAST_MARGIN, _DEVIATIONS * distance / middle)


def changes(row: Row, earlier: Sequence[Row]) -> list[Change]:
    """Compares the figures of a row with those of the latest earlier rows of the same machine."""
    found = []
    for name, now in row.figures.items():
        values = [one.figures[name] for one in earlier if name in one.figures]
        values = values[-_LATEST:]
        if values:
            found.append(Change(name, now, median(values), margin_of(values)))
    return found


def verdict(row: Row, rows: Sequence[Row]) -> list[str]:
    """Says in lines what of a row is worse, and what is better, than in earlier rows.

    Args:
        row: What was measured now.
        rows: The history without it.
    """
    earlier = [one for one in rows if one.machine == row.machine]
    if not earlier:
        return [f"no earlier row of this kind of machine to compare with ({row.machine})"]
    found = changes(row, earlier)
    worse = [one for one in found if one.loss > one.margin]
    better = [one for one in found if -one.loss > one.margin]
    new = [name for name in row.figures if name not in {one.name for one in found}]
    lines = [
        f"compared with the median of {len(earlier)} earlier "
        f"{'row' if len(earlier) == 1 else 'rows'} of this kind of machine ({row.machine}):",
        *(f"  WORSE   {one}" for one in worse),
        *(f"  better  {one}" for one in better),
        *(f"  new     {name}: {row.figures[name]:,.4g}" for name in new),
        f"  {len(worse) or 'nothing'} worse, {len(found) - len(worse) - len(better)} within their "
        f"margins; others used up to {row.others:.0%} of the machine",
    ]
    if changed := _other_versions(row.versions, earlier[-1].versions):
        lines.append(f"  since the row before: {', '.join(changed)}")
    return lines


def _other_versions(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {before.get(name, 'absent')} -> {version}"
        for name, version in now.items()
        if before.get(name, "absent") != version
    ]


def guard(measured: Sequence[Measured], path: Path, *, record: bool) -> list[str]:
    """Compares what was measured now with the history, and says in lines what came of it.

    Args:
        measured: What the guarded benchmarks found.
        path: The history.
        record: Whether it gets a row of it, which needs all of them.

    Raises:
        HistoryError: The history is damaged.
    """
    figures = {name: value for one in measured for name, value in one.figures.items()}
    row = row_of(figures, max(one.others for one in measured))
    lines = verdict(row, read_history(path))
    if record:
        append(row, path)
        return [*lines, f"appended to {path}"]
    return [*lines, "not appended: a row is of all guarded benchmarks"]
