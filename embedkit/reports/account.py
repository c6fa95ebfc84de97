"""The account of a run: what it found, what it did, and what its version holds."""

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # It brings pyarrow, which a command line that only says --help need not wait for.
    from embedkit.formats.reused import ReusedRows
    from embedkit.records import LineCounts

_PRINTED = (
    "version", "documents", "rows", "rejects", "tokens", "tokens_encoded", "rows_resumed",
    "truncated_share", "encode_seconds", "encoder_busy_share", "tokens_per_second", "report",
    "nulled", "published", "reject_reasons", "rows_reused", "rows_encoded", "rows_added",
    "rows_removed", "rows_changed", "tokens_saved",
)  # fmt: skip
_OF_THE_RUN = (
    "created", "wall_seconds", "encode_seconds", "tokens_encoded", "tokens_per_second",
    "encoder_busy_share", "rows_resumed", "encoders", "by_encoder", "worker_idle_share",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncoderWork:
    """What one encoder did in a run, over all the processes that had its name.

    Attributes:
        encoder: The encoder's name.
        processes: How many processes had it: one, and one more for every loss.
        rows: Rows encoded.
        tokens: Tokens encoded.
        busy_seconds: Time spent encoding.
    """

    encoder: str
    processes: int
    rows: int
    tokens: int
    busy_seconds: float


@dataclass(frozen=True)
class RunAccount:
    """What a run found, what it did, and what its version holds.

    It begins with what earlier tries committed; the engine adds what its encoders did, and the
    completion what the version holds.

    Attributes:
        started: When the run began, in seconds since the epoch.
        rows_resumed: Rows that earlier tries of the version had committed.
        tokens_resumed: Tokens that those had sent to encoders.
        already_complete: Whether there was nothing left to do.
        encode_seconds: From the first call to an encoder to the end of the last; None, as the two
            rates, where nobody measured it.
        encoder_busy_share: Share of that time that an encoder spent encoding, averaged over them.
        by_encoder: What each of them did.
        worker_idle_share: Share of their time that workers had no split, averaged over them; None
            where nobody measured it.
        device: Name of what the encoders ran on; None where that is not known.
        created: When the version was finished, as ISO 8601 text.
        wall_seconds: From the start of the run to then.
        version: Name of the version.
        dataset: Where it is.
        title: Name of the dataset, which may be written anywhere.
        report: Where its HTML report is.
        files: Input files.
        bytes: Their size as stored.
        lines: What the lines of the inputs were; None where nobody counted.
        documents: Input records accounted for, rejects included.
        rows: Rows of the version.
        rejects: Records that could not be embedded.
        reject_reasons: The rejects by their reason.
        nulled: Metadata values that did not fit their columns and became null.
        tokens: Tokens of all rows as the model sees them, after truncation.
        tokens_encoded: Tokens that this run sent to encoders; equal texts of a block count once.
        truncated: Rows that were longer than the model sees.
        n_unknown: Tokens of them that stand for unknown text; None where these are not counted.
        trial: How many documents a trial was to read; None of the whole corpus.
        reused: How the rows stand to those of an earlier version; None where they were compared
            with none.
        not_reused: Why nothing was taken over from the earlier version there is, for a person; None
            of any other run.
        published: Whether the version is one that ``LATEST`` may name.
        refusal: Why this run did not publish it, for who runs it.
        verdict: Whether it may go live, by its report, see ``Verdict``; None where nobody judged.
        gates: What became of each gate, see ``GateResult``.
        evaluation: What the version is worth, see ``report.json``; None where nothing was asked.
    """

    started: float = field(default_factory=time.time)
    rows_resumed: int = 0
    tokens_resumed: int = 0
    already_complete: bool = False
    encode_seconds: float | None = None
    encoder_busy_share: float | None = None
    by_encoder: tuple[EncoderWork, ...] = ()
    worker_idle_share: float | None = None
    device: str | None = None
    created: str = ""
    wall_seconds: float = 0.0
    version: str = ""
    dataset: str = ""
    title: str = "Embeddings"
    report: str = ""
    files: int = 0
    bytes: int = 0
    lines: "LineCounts | None" = None
    documents: int = 0
    rows: int = 0
    rejects: int = 0
    reject_reasons: dict[str, int] = field(default_factory=dict)
    nulled: int = 0
    tokens: int = 0
    tokens_encoded: int = 0
    truncated: int = 0
    n_unknown: int | None = None
    trial: int | None = None
    reused: "ReusedRows | None" = None
    not_reused: str | None = None
    published: bool = True
    refusal: str | None = None
    verdict: dict[str, Any] | None = None
    gates: tuple[dict[str, Any], ...] = ()
    evaluation: dict[str, Any] | None = None

    @property
    def truncated_share(self) -> float:
        """Share of rows that were longer than the model sees."""
        return self.truncated / self.rows if self.rows else 0.0

    @property
    def unknown_share(self) -> float | None:
        """Share of the tokens that stand for unknown text; None where these are not counted."""
        if self.n_unknown is None:
            return None
        return self.n_unknown / self.tokens if self.tokens else 0.0

    @property
    def rows_reused(self) -> int:
        """Rows of the version that have the very vectors of an earlier one."""
        return self.reused.rows if self.reused else 0

    @property
    def rows_encoded(self) -> int:
        """The other rows of the version."""
        return self.rows - self.rows_reused

    @property
    def rows_added(self) -> int | None:
        """Rows whose id the earlier version does not have; None where there is none."""
        return self.reused.added if self.reused else None

    @property
    def rows_removed(self) -> int | None:
        """Rows of the earlier version whose id is gone; None where there is none, or unknown."""
        return self.reused.removed if self.reused else None

    @property
    def rows_changed(self) -> int | None:
        """Rows whose id the earlier version has with another text; None where there is none."""
        return self.reused.changed if self.reused else None

    @property
    def tokens_saved(self) -> int:
        """Tokens of reused rows, which were not encoded again."""
        return self.reused.tokens if self.reused else 0

    @property
    def tokens_per_second(self) -> float | None:
        """``tokens_encoded`` by ``encode_seconds``."""
        if self.encode_seconds is None:
            return None
        return self.tokens_encoded / self.encode_seconds if self.encode_seconds else 0.0

    @property
    def encoders(self) -> int | None:
        """How many encoders there were; None where that is not known."""
        return len(self.by_encoder) or None

    def to_dict(self) -> dict[str, Any]:
        """Returns what ``run --json`` prints, by name."""
        printed = {name: getattr(self, name) for name in _PRINTED}
        names = ("unknown_share", "trial", "not_reused", "verdict")
        of_some = {name: getattr(self, name) for name in names} | {"gates": self.gates or None}
        if self.evaluation is not None:
            of_some["evaluation"] = _without_worst(self.evaluation)
        return printed | {name: value for name, value in of_some.items() if value is not None}

    def to_json(self) -> str:
        """Returns one line of JSON."""
        return json.dumps(self.to_dict())

    def of_the_run(self) -> dict[str, Any]:
        """Returns what differs between two runs that wrote the same bytes, as JSON values."""
        figures = {name: getattr(self, name) for name in _OF_THE_RUN}
        return {
            **figures,
            "by_encoder": [asdict(work) for work in self.by_encoder],
            "dataset": self.title,
        }


def _without_worst(value: Any) -> Any:
    """Returns the figures of an evaluation without the queries that fare worst."""
    if not isinstance(value, dict):
        return value
    return {name: _without_worst(one) for name, one in value.items() if name != "worst"}
