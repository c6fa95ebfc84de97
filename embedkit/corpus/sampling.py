"""Estimates how much work a plan is, from samples of places all over its files."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.config import CorpusConfig
from embedkit.corpus.candidates import SEPARATOR
from embedkit.corpus.columns import Columns
from embedkit.corpus.documents import Records, make_documents
from embedkit.corpus.encodings import is_plain
from embedkit.corpus.formats import BY_BYTES, read_records, records_of_lines
from embedkit.corpus.parts import in_parts
from embedkit.corpus.splits import FileRange, Plan, Split

_PLACES = 32
_PLACE_BYTES = 1 << 16
_MOST_PLACE_BYTES = 1 << 19
_FEWEST_RECORDS = 16
"""Of fewer records at all places together more is read there, up to the most."""
_FEWEST_BYTES_OF = {"bz2": 1 << 20}
"""Of a bz2 file nothing comes out before a whole block is in, and that has up to 900 kB."""
_MOST_COUNTED = 512
_MOST_COUNTED_CHARS = 1 << 20
_FEWEST_COUNTED = 16
_MOST_TEXT_BYTES = 1 << 25
"""Of one place; a template may make far more text than was read."""
_TRIAL_BYTES = 1 << 23
_GOLDEN = (5**0.5 - 1) / 2

CountTokens = Callable[[list[str], NDArray[np.float64]], list[int]]
"""Counts the tokens of texts; told besides how many documents of the corpus each stands for."""


@dataclass(frozen=True)
class CorpusEstimate:
    """The size of a corpus; all but the first three are estimates.

    Attributes:
        files: Input files.
        splits: Splits.
        bytes: Bytes of the files as stored.
        read_bytes: Those of them that are read, all unless it is a trial.
        records: All records, with those that cannot be embedded.
        documents: Records that can be embedded.
        text_bytes: UTF-8 bytes of their text.
        tokens: Tokens of their text.
    """

    files: int
    splits: int
    bytes: int
    read_bytes: int
    records: int
    documents: int
    text_bytes: int
    tokens: int


@dataclass
class _Place:
    """What was read at a place.

    Attributes:
        stands_for: How much of the corpus it stands for, in the units of its files.
        units: How much it is.
        whole: Whether all of what it stands for was read.
        records: Records that begin in it.
        texts: Texts of those that can be embedded.
    """

    stands_for: float
    units: float
    whole: bool
    records: int
    texts: list[str]

    @property
    def factor(self) -> float:
        """How many records of the corpus each of its records stands for."""
        return self.stands_for / max(1, self.units)


def estimate(plan: Plan, config: CorpusConfig, count_tokens: CountTokens) -> CorpusEstimate:
    """Estimates a corpus from what stands at some places of it, or from all of a small one.

    Files are taken with probabilities that are half their share of the bytes and half one of
    their number; what is found at a place counts by the inverse (Hansen and Hurwitz, 1943). Where
    a file can be read from anywhere, records that begin in a piece of it are counted, for which
    their lengths make no difference; of any other file its beginning has to do.

    Args:
        plan: The plan, with its splits.
        config: How records become rows.
        count_tokens: Counts the tokens of texts.

    Raises:
        InputError: A sampled file is gone or has changed since the plan.
    """
    sampler = _Sampler(plan, config)
    places: list[_Place] = []
    read_bytes = 0.0
    for split in plan.splits:
        if split.documents is not None:
            in_all = sum(one.records * one.factor for one in sampler.places(split.ranges))
            places.append(sampler.first_records(split))
            share = min(1.0, split.documents / in_all) if in_all else 1.0
            read_bytes += share * sum(piece.stored for piece in split.ranges)
    ranges = [one for split in plan.splits if split.documents is None for one in split.ranges]
    read_bytes += sum(one.stored for one in ranges)
    places.extend(sampler.places(ranges))

    records = sum(place.records * place.factor for place in places)
    if records and any(split.documents is not None for split in plan.splits):
        # A trial that ends inside a split has as many records as it was to have.
        for place in places:
            place.stands_for *= (config.limit or records) / records
        records = config.limit or records
    documents = sum(len(place.texts) * place.factor for place in places)
    text_bytes = sum(_size(place.texts) * place.factor for place in places)
    chosen, weights = _chosen(places)
    tokens = float(np.dot(count_tokens(chosen, weights), weights)) if chosen else 0.0
    return CorpusEstimate(
        files=plan.files,
        splits=len(plan.splits),
        bytes=plan.total_bytes,
        read_bytes=round(read_bytes),
        records=round(records),
        documents=round(documents),
        text_bytes=round(text_bytes),
        tokens=round(tokens),
    )


class _Sampler:
    def __init__(self, plan: Plan, config: CorpusConfig) -> None:
        self._plan = plan
        self._config = config
        self._columns = Columns.of(config, plan.metadata)

    def places(self, ranges: Sequence[FileRange]) -> list[_Place]:
        """Reads some places of ranges, by their format and compression."""
        kinds: dict[tuple[str, str], list[FileRange]] = defaultdict(list)
        for file in ranges:
            if _units(file):
                kinds[file.format, file.compression].append(file)
        return [place for files in kinds.values() for place in self._places(files)]

    def _places(self, files: Sequence[FileRange]) -> list[_Place]:
        size = _PLACE_BYTES
        found = list(self._at_places(files, size))
        while _too_few(found) and size < _MOST_PLACE_BYTES:
            size *= 2
            found = list(self._at_places(files, size))
        if _too_few(found):
            # Of the longest records beginnings of files tell more, where one always begins.
            found = list(self._at_places(files, size, anywhere=False))
        # Where all files hold as many records for their size as each other, this is exact.
        share = sum(map(_units, files)) / sum(place.stands_for for place in found)
        for place in found:
            place.stands_for *= share
        return found

    def _at_places(
        self, files: Sequence[FileRange], size: int, anywhere: bool = True
    ) -> Iterator[_Place]:
        """Chooses ranges, and reads so many bytes at each place of them."""
        stored = np.array([file.stored for file in files], np.float64)
        if len(files) <= _PLACES and stored.sum() <= _PLACES * size:
            for file in files:
                # What the whole sample may take, as most of it may be this file's.
                yield from self._in_range(file, np.zeros(_PLACES), _units(file), size, anywhere)
            return
        chances = 0.5 / len(files) + 0.5 * stored / max(1.0, stored.sum())
        ends = np.cumsum(chances)
        numbers = np.arange(_PLACES)
        # Neither at equal distances, of which files may have a rhythm, nor left to chance.
        at = ends[-1] * (numbers + (numbers + 1) * _GOLDEN % 1.0) / _PLACES
        hits = np.minimum(np.searchsorted(ends, at, side="right"), len(files) - 1)
        within = (at - (ends - chances)[hits]) / chances[hits]
        for number in np.unique(hits):
            file, here = files[number], within[hits == number]
            stands_for = len(here) * _units(file) / (_PLACES * chances[number])
            yield from self._in_range(file, here, stands_for, size, anywhere)

    def _in_range(
        self,
        file: FileRange,
        places: NDArray[np.float64],
        stands_for: float,
        size: int,
        anywhere: bool,
    ) -> Iterator[_Place]:
        """Reads a range at some places of it, from 0 to 1, or once where it has no others."""
        most = max(len(places) * size, _FEWEST_BYTES_OF.get(file.compression, 0))
        if file.format == "parquet":
            yield self._read(file, stands_for, most)
        elif file.stored <= most or (file.format == "text" and self._config.text_unit == "file"):
            yield self._read(file, stands_for)
        elif anywhere and self._can_begin_anywhere(file):
            for begin in file.start + (places * (file.stored - size)).astype(np.int64):
                piece = replace(file, start=int(begin), end=int(begin) + size, stored=size)
                yield self._read(piece, stands_for / len(places), whole=False)
        else:
            # Cut short, a compressed file looks damaged, and what comes before that is the sample.
            piece = replace(file, end=file.start + most, stored=most)
            place = self._read(piece, stands_for, whole=False)
            if place.texts and file.compression == "none" and not self._columns.templated:
                # What begins in a beginning may end far behind it, as one always begins with it.
                place.units += _size(place.texts[-1:]) / 2
            yield place

    def _can_begin_anywhere(self, file: FileRange) -> bool:
        if file.format not in BY_BYTES or file.compression != "none":
            return False
        return file.stored < file.size or is_plain(file, self._config)

    def _read(
        self, piece: FileRange, stands_for: float, most: int | None = None, whole: bool = True
    ) -> _Place:
        """Reads the records that begin in a piece.

        Args:
            piece: The piece.
            stands_for: See ``_Place``.
            most: Bytes of text after which a piece is left whose records are known.
            whole: Whether the piece is all that it stands for.
        """
        texts: list[str] = []
        records = read = size = 0
        for part, count in self._parts(piece):
            read += count
            if size <= _MOST_TEXT_BYTES:
                found = self._texts(part)
                texts += found
                records += count
                size += _size(found)
            if most is not None and size > most:
                break
        if piece.rows is not None:
            return _Place(stands_for, records, most is None or size <= most, records, texts)
        units = piece.stored * (records / read if records < read else 1.0)
        return _Place(stands_for, units, whole, records, texts)

    def _parts(self, piece: FileRange) -> Iterator[tuple[Records, int]]:
        """Reads a piece, part by part, and counts the records of each."""
        most = self._config.max_record_bytes
        with closing(read_records(piece, self._config, self._columns)) as batches:
            for batch in batches:
                for part in in_parts(batch, self._columns, most):
                    # Damage stands for the rest of a file, and where a piece of one ends.
                    yield part, records_of_lines(part)

    def _texts(self, records: Records) -> list[str]:
        columns, most = self._columns, self._config.max_record_bytes
        rows = make_documents(records, columns, self._plan.schema, most).rows
        texts: list[str] = rows.column("text").to_pylist()
        if columns.query is None:
            return texts
        return [
            f"{one} {text.replace(SEPARATOR, f'{SEPARATOR}{one} ')}"
            for one, text in zip(rows.column(columns.query).to_pylist(), texts, strict=True)
        ]

    def first_records(self, split: Split) -> _Place:
        """Reads the first records of a split, as many as a trial does, or the first of these."""
        wanted = split.documents or 0
        texts: list[str] = []
        records = size = 0
        for part, count in (found for piece in split.ranges for found in self._parts(piece)):
            taken = min(wanted - records, count)
            found = self._texts(part)
            found = found if taken == count else found[: round(len(found) * taken / count)]
            texts += found
            records += taken
            size += _size(found)
            if records == wanted or size > _TRIAL_BYTES:
                break
        return _Place(wanted, records, records == wanted, records, texts)


def _units(file: FileRange) -> int:
    """Returns the size of a range: rows where they are known, else bytes as stored."""
    return file.stored if file.rows is None else file.rows


def _too_few(places: Sequence[_Place]) -> bool:
    records = sum(place.records for place in places)
    return records < _FEWEST_RECORDS and not all(place.whole for place in places)


def _chosen(places: Sequence[_Place]) -> tuple[list[str], NDArray[np.float64]]:
    """Chooses texts to count, and tells how many documents of the corpus each stands for.

    They are chosen as files are, see ``estimate``: a long text makes many rows, a short one one.
    """
    texts = [text for place in places for text in place.texts]
    stand_for = np.repeat([one.factor for one in places], [len(one.texts) for one in places])
    sizes = np.array([len(text) for text in texts], np.float64)
    if len(texts) <= _FEWEST_COUNTED:
        return texts, stand_for.astype(np.float64)
    bulk = stand_for * sizes
    chances = 0.5 * stand_for / stand_for.sum() + 0.5 * bulk / max(1.0, bulk.sum())
    mean = float(np.dot(chances, sizes)) / float(chances.sum())
    count = int(min(_MOST_COUNTED, max(_FEWEST_COUNTED, _MOST_COUNTED_CHARS / max(1.0, mean))))
    if len(texts) <= count:
        return texts, stand_for.astype(np.float64)
    order = np.argsort(sizes, kind="stable")
    ends = np.cumsum(chances[order])
    at = ends[-1] * (np.arange(count) + 0.5) / count
    found, times = np.unique(order[np.searchsorted(ends, at)], return_counts=True)
    weights = times * stand_for[found] / chances[found]
    weights *= stand_for.sum() / weights.sum()
    return [texts[number] for number in found], weights


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)
