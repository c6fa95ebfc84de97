"""What a run on a cluster shows to Prometheus, through the endpoint that every Ray node has.

Every name begins with ``ray_embedkit_`` there, and what only grows ends with ``_total``. The driver
sets them all, from what it knows of its encoders, its queue and its commits; only the count of
repeated calls comes from the workers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ray.util.metrics import Counter, Gauge

from embedkit.encoders.meter import EncoderLoad, busy_share, padding_share
from embedkit.flow.account import work_by_encoder


@dataclass(frozen=True)
class RunState:
    """A moment of a run.

    Attributes:
        documents: Documents committed in this run, rejects included.
        rejects: Rejects among them.
        splits_waiting: Splits that no worker has yet.
        splits_claimed: Splits that are being worked on.
        workers: Workers at work.
        lost_workers: Workers lost so far.
        encoders: Encoders that run.
        loads: The last known load of every encoder process.
    """

    documents: int
    rejects: int
    splits_waiting: int
    splits_claimed: int
    workers: int
    lost_workers: int
    encoders: int
    loads: tuple[EncoderLoad, ...]


class RunMetrics:
    """The metrics of one run.

    Args:
        version: The version's name, which tags them all.
    """

    def __init__(self, version: str) -> None:
        self._tags = {"version": version}
        self._gauges = {
            name: Gauge(f"embedkit_{name}", description=text, tag_keys=("version",))
            for name, text in _GAUGES.items()
        }
        self._counters = {
            name: Counter(f"embedkit_{name}", description=text, tag_keys=("version",))
            for name, text in _COUNTERS.items()
        }
        tags = ("version", "encoder")
        self._by_encoder = {
            name: Counter(f"embedkit_{name}", description=text, tag_keys=tags)
            for name, text in _BY_ENCODER.items()
        }
        self._past: dict[tuple[str, str], float] = {}

    def show(self, state: RunState) -> None:
        """Sets all metrics to a moment."""
        values = {
            "splits_waiting": state.splits_waiting,
            "splits_claimed": state.splits_claimed,
            "workers": state.workers,
            "encoders": state.encoders,
            "encoder_busy_share": busy_share(state.loads),
            "padding_share": padding_share(state.loads),
        }
        for name, value in values.items():
            self._gauges[name].set(float(value), self._tags)
        totals = {
            "documents": state.documents,
            "rejects": state.rejects,
            "lost_workers": state.lost_workers,
        }
        for name, total in totals.items():
            self._raise(self._counters[name], name, "", total)
        self._show_encoders(state.loads)

    def _show_encoders(self, loads: Iterable[EncoderLoad]) -> None:
        for work in work_by_encoder(loads):
            values = {
                "encoder_tokens": work.tokens,
                "encoder_rows": work.rows,
                "encoder_busy_seconds": work.busy_seconds,
                "encoder_restarts": work.processes - 1,
            }
            for name, total in values.items():
                self._raise(self._by_encoder[name], name, work.encoder, total)

    def _raise(self, counter: Counter, name: str, encoder: str, total: float) -> None:
        """Adds what a total has grown by; the calls in flight may take a little of it back."""
        grown = total - self._past.get((name, encoder), 0.0)
        if grown > 0:
            counter.inc(grown, self._tags | ({"encoder": encoder} if encoder else {}))
            self._past[name, encoder] = total


_GAUGES = {
    "splits_waiting": "Splits that no worker has yet.",
    "splits_claimed": "Splits that are being worked on.",
    "workers": "Workers at work.",
    "encoders": "Encoders that run.",
    "encoder_busy_share": "Share of its time that an encoder encoded, averaged over encoders.",
    "padding_share": "Share of what encoders computed that was fill.",
}
_COUNTERS = {
    "documents": "Documents committed, rejects included.",
    "rejects": "Documents that could not be embedded.",
    "lost_workers": "Workers lost and replaced.",
}
_BY_ENCODER = {
    "encoder_tokens": "Tokens encoded.",
    "encoder_rows": "Rows encoded.",
    "encoder_busy_seconds": "Seconds spent encoding.",
    "encoder_restarts": "Times that an encoder's process was lost and started again.",
}
REPEATED_CALLS = "encode_retries"
EXPORTED = tuple(
    f"ray_embedkit_{name}"
    for name in (
        *_GAUGES,
        *(f"{counter}_total" for counter in (*_COUNTERS, *_BY_ENCODER, REPEATED_CALLS)),
    )
)
"""All metrics, by the names that Prometheus sees."""


def repeated_calls() -> Counter:
    """Returns the count of calls that were repeated because their encoder was lost."""
    return Counter(f"embedkit_{REPEATED_CALLS}", description="Calls whose encoder was lost.")
