"""The texts of a corpus, read from its files again for every pass over it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from embedkit.config import CorpusConfig
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import Plan, plan_corpus
from embedkit.errors import InputError
from embedkit.flow.read import read_ahead
from embedkit.records import DocumentBlock, Reject

_DIGEST_BYTES = 16
_MOST_SHOWN = 20
_MOST_NAMED = 1000


@dataclass(frozen=True)
class CorpusAccount:
    """What one whole pass over a corpus has read.

    Attributes:
        texts: Texts that could be used.
        rejects: Records that could not, by reason.
        shown: The first of those, up to 20.
        digest: Hash of all texts, in their order.
    """

    texts: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    shown: tuple[Reject, ...] = ()
    digest: str = ""


class CorpusTexts:
    """The texts of a corpus, in the order of its files, as often as they are asked for.

    No more than two blocks of them are in memory.

    Args:
        config: Names the inputs and columns.

    Attributes:
        plan: What is read.
        account: What the first whole pass has read; None before its end.

    Raises:
        ConfigError: The settings do not fit each other or the kinds of the files.
        InputError: A file does not exist, cannot be read, or lacks a column.
    """

    def __init__(self, config: CorpusConfig) -> None:
        self._config = config
        self.plan: Plan = plan_corpus(config)
        self.account: CorpusAccount | None = None

    def __iter__(self) -> Iterator[str]:
        """Reads them once more.

        Raises:
            InputError: A file is gone, or is not what it was when it was first read.
        """
        texts = 0
        rejects: Counter[str] = Counter()
        shown: list[Reject] = []
        hasher = blake2b(digest_size=_DIGEST_BYTES)
        for block in self._blocks():
            texts += block.rows.num_rows
            rejects.update(reject.reason for reject in block.rejects)
            shown += block.rejects[: _MOST_SHOWN - len(shown)]
            hasher.update("".join(block.rows.column("text_hash").to_pylist()).encode())
            yield from block.rows.column("text").to_pylist()
        account = CorpusAccount(
            texts, dict(rejects.most_common()), tuple(shown), hasher.hexdigest()
        )
        self.account = self.account or account
        if account.digest != self.account.digest:
            raise InputError(
                f"{self.plan.base}: its texts are others than when they were first read; leave the "
                "inputs alone while a model is trained"
            )

    def _blocks(self) -> Iterator[DocumentBlock]:
        for split in self.plan.splits:
            yield from read_ahead(read_split(split, self.plan, self._config))

    def fingerprint(self) -> dict[str, Any]:
        """Returns what tells this corpus from others: its files, and a hash of its texts."""
        account = self.account or CorpusAccount()
        sizes = {piece.source: piece.size for split in self.plan.splits for piece in split.ranges}
        return {
            "files": len(sizes),
            "bytes": sum(sizes.values()),
            "named": [
                {"source": name, "bytes": sizes[name]} for name in sorted(sizes)[:_MOST_NAMED]
            ],
            "texts": account.texts,
            "rejects": account.rejects,
            "texts_digest": account.digest,
        }
