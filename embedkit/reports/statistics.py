"""What is measured of every block while its vectors are in memory, and how blocks add up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from embedkit.formats.canonical import load_json
from embedkit.records import Reject
from embedkit.reports.earlier import keys_of_0_1, sections_of_0_1
from embedkit.reports.measured import Measured
from embedkit.reports.packed import pack, unpack
from embedkit.reports.repeats import hash64
from embedkit.reports.sample import RowKeys
from embedkit.reports.section import Measure, Section
from embedkit.reports.sections import SECTIONS, groups, records
from embedkit.vectors import EmbeddingBlock, value_column

Sections = Sequence[Section[Any, Any]]

MOST_HASHES = 256
_ROW_KEYS = TypeAdapter(RowKeys)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of one block, or of several added in block order.

    A monoid: ``empty()`` and ``+``. However a sequence of blocks is grouped, the same bits come
    out.

    Attributes:
        by_section: The statistic of each section that measures blocks, by the section's name. A
            section that an earlier release did not measure of some block is left out.
        keys: The rows that the report looks at one by one.
    """

    by_section: Mapping[str, Any]
    keys: RowKeys = field(default_factory=RowKeys)

    @classmethod
    def empty(cls, sections: Sections = SECTIONS) -> Self:
        """Returns the statistics of no block."""
        return cls({section.name: section.statistic() for section in sections if section.measures})

    @classmethod
    def of(
        cls,
        block: EmbeddingBlock,
        max_tokens: int,
        keep_texts: bool = False,
        sections: Sections = SECTIONS,
    ) -> Self:
        """Measures one block.

        Args:
            block: The block as it is committed.
            max_tokens: Tokens of a row that the model saw at most.
            keep_texts: Whether the beginnings of texts are kept for the report, since the parts
                will not hold them.
            sections: The sections of the report.
        """
        measured = Measured(block, max_tokens)
        column, rows = value_column(block.rows.schema), block.rows.num_rows
        # A block without rows goes with those of every column.
        about = [one for one in sections if column in one.columns or not rows]
        measuring = [section for section in about if section.measures]
        return cls(
            {section.name: section.statistic.of(measured) for section in measuring},
            RowKeys.of(block, keep_texts),
        )

    @classmethod
    def of_rejects(cls, block_id: str, documents: int, rejects: Sequence[Reject]) -> Self:
        """Returns the statistics of a block without rows."""
        of_block = records.Records.of_rejects(block_id, documents, rejects)
        of_sources = groups.Groups.of_rejects(rejects)
        return cls(
            {
                **cls.empty().by_section,
                records.SECTION.name: of_block,
                groups.SECTION.name: of_sources,
            }
        )

    def in_block(self, block_id: str) -> Self:
        """Returns the statistics of one block as those of a block of another name."""
        found: records.Records = self.by_section[records.SECTION.name]
        by_section = {**self.by_section, records.SECTION.name: found.in_block(block_id)}
        return type(self)(by_section, self.keys.in_block(block_id))

    def __add__(self, other: Self) -> Self:
        """Returns the statistics of this sequence of blocks followed by the other."""
        both = [name for name in self.by_section if name in other.by_section]
        return type(self)(
            {name: self.by_section[name] + other.by_section[name] for name in both},
            self.keys + other.keys,
        )

    def get(self, section: Section[Measure, Any]) -> Measure | None:
        """Returns the statistic of a section, or None where a block lacks it."""
        found: Measure | None = self.by_section.get(section.name)
        return found if section.measures else section.statistic()

    def to_dict(self, sections: Sections = SECTIONS) -> dict[str, Any]:
        """Returns plain values for JSON, the same for equal statistics."""
        return {
            "sections": {
                section.name: section.codec.dump_python(self.by_section[section.name], mode="json")
                for section in sections
                if section.name in self.by_section
            },
            "keys": _ROW_KEYS.dump_python(self.keys, mode="json"),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], sections: Sections = SECTIONS) -> Self:
        """Reads back what ``to_dict`` gave.

        Raises:
            ValueError: It is something else.
        """
        found = data["sections"]
        if not isinstance(found, dict) or records.SECTION.name not in found:
            raise ValueError("it accounts for no records")
        return cls(
            {
                section.name: section.codec.validate_python(found[section.name])
                for section in sections
                if section.measures and section.name in found
            },
            _ROW_KEYS.validate_python(data["keys"]),
        )


@dataclass(frozen=True, eq=False)
class Sidecar:
    """The file of statistics beside a part.

    It is some kB, whatever the size of the block: sums and hashes, never a vector or a text.

    Attributes:
        documents: Input records that the block accounts for.
        rows: Its rows.
        statistics: What is measured of it.
        text_hashes: The hashes of its rows' texts, see ``hash64``; None of a larger block, whose
            part is to be read for them.
    """

    documents: int
    rows: int
    statistics: Statistics
    text_hashes: NDArray[np.uint64] | None = None

    @classmethod
    def of(cls, block: EmbeddingBlock, max_tokens: int, keep_texts: bool = False) -> Self:
        """Measures one block, see ``Statistics.of``."""
        rows = block.rows.num_rows
        hashes = hash64(block.rows.column("text_hash")) if rows <= MOST_HASHES else None
        statistics = Statistics.of(block, max_tokens, keep_texts)
        return cls(block.documents, rows, statistics, hashes)

    @classmethod
    def of_rejects(cls, block_id: str, documents: int, rejects: Sequence[Reject]) -> Self:
        """Returns the sidecar of a block without rows."""
        statistics = Statistics.of_rejects(block_id, documents, rejects)
        return cls(documents, 0, statistics, np.empty(0, np.uint64))

    def in_block(self, block_id: str) -> Self:
        """Returns what is measured of a block of another name, with equal rows and rejects."""
        return replace(self, statistics=self.statistics.in_block(block_id))

    def to_json(self) -> bytes:
        """Serializes; equal statistics give equal bytes."""
        data: dict[str, Any] = {
            "documents": self.documents,
            "rows": self.rows,
            **self.statistics.to_dict(),
        }
        if self.text_hashes is not None:
            data["text_hashes"] = pack(self.text_hashes)
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes, block_id: str) -> Self:
        """Reads back what ``to_json`` wrote, or what release 0.1 did.

        Raises:
            ValueError: It is something else.
        """
        said = load_json(data)
        try:
            if "sections" in said:
                statistics = Statistics.from_dict(said)
            else:
                by_section = sections_of_0_1(said, block_id)
                statistics = Statistics(by_section, keys_of_0_1(said, block_id))
            hashes = said.get("text_hashes")
            return cls(
                said["documents"],
                said["rows"],
                statistics,
                None if hashes is None else unpack(hashes).view(np.uint64),
            )
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # JSON of another shape, or with other bytes than were written.
            raise ValueError(f"{type(error).__name__}: {error}") from error
