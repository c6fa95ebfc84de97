"""How a run shows what it is at: a bar on a terminal, a line every 30 s elsewhere."""

import logging
from dataclasses import dataclass, replace
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
)

_LOG = logging.getLogger("embedkit")

LOADING = "loading the model"
"""The phase of a run that every engine has."""


@dataclass(frozen=True)
class Snapshot:
    """A moment of a run.

    Attributes:
        documents: Documents committed, those of earlier runs included.
        documents_expected: Estimate of all documents.
        tokens: Tokens that encoders have finished in this run.
        tokens_expected: Estimate of the tokens that this run has to encode.
        tokens_per_second: Over the last minute, or since the last answer of an encoder but one.
        busy: Share of its time that an encoder encoded, averaged over encoders.
        seconds_left: At the present rate, or None while there is none.
        tokens_before: Tokens that earlier runs of the version encoded.
    """

    documents: int
    documents_expected: int
    tokens: int
    tokens_expected: int
    tokens_per_second: float
    busy: float
    seconds_left: float | None
    tokens_before: int = 0

    @property
    def share(self) -> float:
        """Share of the tokens of the whole version that are encoded."""
        done = self.tokens_before + self.tokens
        total = self.tokens_before + max(self.tokens, self.tokens_expected)
        return done / total if total else 1.0

    def finished(self) -> "Snapshot":
        """Returns this moment as a run's last, when no estimate is needed any more."""
        return replace(
            self,
            documents_expected=self.documents,
            tokens_expected=self.tokens,
            seconds_left=0.0,
        )


class Display(Protocol):
    """Shows what a run does: its phases, and snapshots while it encodes."""

    interval: float

    def __enter__(self) -> Self:
        """Begins to show."""
        ...

    def __exit__(self, *error: object) -> None:
        """Ends the showing."""
        ...

    def phase(self, name: str) -> None:
        """Says what begins, such as ``loading the model``."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Shows one moment."""
        ...


def clock(seconds: float | None) -> str:
    """Returns seconds as ``1:02:03`` or ``2:03``; ``-:--`` for None."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Bar:
    """A progress bar on a terminal; of a run that encodes nothing, nothing stays."""

    interval = 0.5

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            # One column, so that a narrow terminal takes its room from the bar.
            TextColumn("{task.fields[state]}", markup=False),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, state="planning")
        self._last: Snapshot | None = None

    def __enter__(self) -> Self:
        """Begins to draw."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leaves the last moment on the screen."""
        if self._last is None:
            self._progress.live.transient = True
        else:
            self.show(self._last)
        self._progress.stop()

    def phase(self, name: str) -> None:
        """Shows it in the place of figures."""
        self._progress.update(self._task, state=name)

    def show(self, snapshot: Snapshot) -> None:
        """Redraws the bar."""
        self._last = snapshot
        state = (
            f"{snapshot.documents}/{snapshot.documents_expected} docs  "
            f"{snapshot.tokens_per_second:,.0f} tokens/s  encoders {snapshot.busy:.0%} busy  "
            f"{clock(snapshot.seconds_left)} left"
        )
        self._progress.update(self._task, completed=snapshot.share, total=1.0, state=state)


class Lines:
    """A log line every 30 seconds."""

    interval = 30.0

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end."""

    def phase(self, name: str) -> None:
        """Logs one line."""
        _LOG.info(name)

    def show(self, snapshot: Snapshot) -> None:
        """Logs one line, its figures as fields for JSON logs."""
        _LOG.info(
            "%.0f %% encoded, %d of about %d documents written, %.0f tokens/s, "
            "encoders %.0f %% busy, %s left",
            100 * snapshot.share,
            snapshot.documents,
            snapshot.documents_expected,
            snapshot.tokens_per_second,
            100 * snapshot.busy,
            clock(snapshot.seconds_left),
            extra={"progress": vars(snapshot)},
        )


class Nothing:
    """Shows nothing."""

    interval = 30.0

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end."""

    def phase(self, name: str) -> None:
        """Passes over the phase."""

    def show(self, snapshot: Snapshot) -> None:
        """Passes over the snapshot."""
