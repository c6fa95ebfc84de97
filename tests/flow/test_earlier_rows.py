"""Where rows of an earlier version are, and their vectors as they stand there, to the byte."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blocks import (
    DESCRIPTION,
    Job,
    build_block,
    document_columns,
    make_options,
    record_batch,
)
from releases import FIXTURES, version_of
from span_blocks import OF_WORDS, TEXTS, span_block, span_options

from embedkit.dataset.sources import SourceRange
from embedkit.dataset.version import Version, block_of
from embedkit.encoders.spec import VectorSpec
from embedkit.errors import IntegrityError
from embedkit.flow import source_index
from embedkit.flow.earlier_rows import EarlierRows, parts_of
from embedkit.flow.reuse import Reuse
from embedkit.flow.row_index import Places
from embedkit.flow.source_index import SourceIndex
from embedkit.formats.canonical import sha256
from embedkit.quantization import StoredAs
from embedkit.vectors import EmbeddingBlock, Vectors, vectors_of

OF_ROWS = VectorSpec(8, normalize=True, metric="cosine")
AS_FLOATS = StoredAs("float32", 8)


def rows_of(texts, ids=None, source="texts.jsonl") -> pa.RecordBatch:
    names = list(ids) if ids is not None else [f"new-{n}" for n in range(len(texts))]
    return record_batch(document_columns(texts, names, source=source))


def written(tmp_path: Path, *blocks: EmbeddingBlock, complete=True, **changes) -> EarlierRows:
    version = Version(str(tmp_path / "out"), "v1")
    job = Job(list(blocks), **changes)
    (job.complete if complete else job.write)(version)
    return EarlierRows(Reuse(version))


def found(earlier: EarlierRows, rows: pa.RecordBatch) -> list[tuple[int, int, bool]]:
    places = earlier.index.find(rows)
    assert [one.dtype for one in (places.parts, places.rows, places.known)] == [
        np.int32,
        np.int64,
        np.bool_,
    ]
    where = np.where(places.parts >= 0, places.rows, -1)
    return list(zip(places.parts.tolist(), where.tolist(), places.known.tolist(), strict=True))


def of_row(taken, row: int):
    """The vectors of a row, or None where there are none."""
    for rows, vectors in taken.pieces:
        assert (np.diff(rows) > 0).all()
        for place in np.flatnonzero(rows == row):
            return vectors.of_row(int(place))
    return None


def test_a_row_is_found_by_its_text_and_one_with_its_id_before_others(tmp_path):
    first = build_block(["same", "a", "same"], ids=["x", "y", "z"])
    second = build_block(["b", "same"], ids=["p", "q"], split=1)
    earlier = written(tmp_path, first, second)
    rows = rows_of(["same"] * 5 + ["a", "b", "new", "new"], ["z", "q", "x", "y", "w", *"wpyv"])
    assert found(earlier, rows) == [
        (0, 2, True),
        (1, 1, True),
        (0, 0, True),
        (0, 0, True),
        (0, 0, False),
        (0, 1, False),
        (1, 0, True),
        (-1, -1, True),
        (-1, -1, False),
    ]
    taken = earlier.take(rows, OF_ROWS, AS_FLOATS)
    assert taken.same.tolist() == [True] * 3 + [False] * 3 + [True] + [False] * 2
    assert taken.mask.tolist() == [True] * 7 + [False] * 2
    every = {"x": 0, "y": 1, "z": 2}
    for row, name in enumerate(["z", None, "x"]):
        if name:
            assert of_row(taken, row).tobytes() == first.vectors.of_row(every[name]).tobytes()
    assert of_row(taken, 1).tobytes() == second.vectors.of_row(1).tobytes()


def test_only_parts_of_the_sources_are_looked_at(tmp_path, monkeypatch):
    blocks = [
        build_block([f"text {n}", "everywhere"], split=n, ids=[f"{n}", f"{n}e"], source=f"{n}.txt")
        for n in range(5)
    ]
    earlier = written(tmp_path, *blocks)
    read = []
    real = source_index.read_hashes

    def noted(version, part):
        read.append(block_of(part.path)[:5])
        return real(version, part)

    monkeypatch.setattr(source_index, "read_hashes", noted)
    rows = rows_of(["text 3", "text 1", "everywhere"], source="3.txt")
    assert found(earlier, rows) == [(3, 0, False), (-1, -1, False), (3, 1, False)]
    assert found(earlier, rows_of(["everywhere"], source="elsewhere.txt")) == [(-1, -1, False)]
    assert found(earlier, rows) == [(3, 0, False), (-1, -1, False), (3, 1, False)]
    both = pa.Table.from_batches([rows, rows_of(["text 1"], source="1.txt")])
    assert found(earlier, both.combine_chunks().to_batches()[0])[-1] == (1, 0, False)
    # What stays in hand is not read again.
    assert read == ["00003", "00003", "00001"]


def test_parts_of_many_sources_are_found_by_their_range(tmp_path):
    blocks = [build_block([f"text {n}"], split=n, ids=[str(n)], source="s") for n in range(4)]
    earlier = written(tmp_path, *blocks)
    ranges = [("a", "m"), ("b", "c"), ("k", "z"), ("x", "y")]
    parts = [
        replace(part, sources={}, source_range=SourceRange(first, last, 9))
        for part, (first, last) in zip(earlier.parts, ranges, strict=True)
    ]

    def near(source):
        index = SourceIndex(earlier.version, parts)
        rows = rows_of([f"text {n}" for n in range(4)], source=source)
        return [n for n, part in enumerate(index.find(rows).parts.tolist()) if part >= 0]

    expected = {
        source: [n for n, (first, last) in enumerate(ranges) if first <= source <= last]
        for source in ("a", "b", "bb", "c", "d", "k", "m", "n", "w", "x", "xx", "y", "yy", "z", "0")
    }
    assert {source: near(source) for source in expected} == expected


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("column", ["embedding", "score", "scores", "embeddings"])
def test_vectors_of_every_kind_are_taken_bit_for_bit(tmp_path, dtype, column):
    if column == "embeddings":
        block, options, described = span_block(dtype=dtype), span_options, OF_WORDS
        spec = VectorSpec(8, normalize=False, metric="cosine", of="word")
    else:
        width = {"embedding": 8, "score": 1, "scores": 3}[column]
        numbers = np.random.default_rng(0).normal(size=(5, width)).astype(dtype)
        block = build_block(TEXTS, np.ones((5, 8), np.float32))
        stored = Vectors.from_matrix(numbers).to_arrow()
        stored = pa.array(numbers[:, 0]) if column == "score" else stored
        place = block.rows.schema.get_field_index("embedding")
        field = pa.field(column, stored.type, nullable=False)
        block = replace(block, rows=block.rows.set_column(place, field, stored))

        def options(**changes):
            return make_options(width, column=column, **changes)

        described = DESCRIPTION | {"dimension": width, "column": column}
        of = "row" if column == "embedding" else "pair"
        spec = VectorSpec(width, normalize=False, metric="cosine", of=of)
    source = block.rows.column("source")[0].as_py()
    earlier = written(tmp_path, block, options=options(vector_dtype=dtype), description=described)
    rows = rows_of([*TEXTS[::-1], "new", TEXTS[0]], source=source)
    counts = None
    if column == "embeddings":
        counts = np.array([*block.vectors.counts[::-1], 3, block.vectors.counts[0]], np.int32)
    taken = earlier.take(rows, spec, StoredAs(dtype, spec.dimension), counts)
    assert taken.mask.tolist() == [True] * 5 + [False, True]
    for row, place in enumerate([4, 3, 2, 1, 0, None, 0]):
        if place is not None:
            vectors = of_row(taken, row)
            assert vectors.dtype == dtype
            assert vectors.tobytes() == block.vectors.of_row(place).tobytes()
    other = "float16" if dtype == "float32" else "float32"
    assert not earlier.take(rows, spec, StoredAs(other, spec.dimension), counts).pieces
    assert not earlier.take(rows, spec, StoredAs(dtype, 2), counts).pieces
    if counts is not None:
        counts[1] += 1
        assert earlier.take(rows, spec, StoredAs(dtype, spec.dimension), counts).mask.tolist() == [
            True, False, True, True, True, False, True,
        ]  # fmt: skip


def test_a_vector_that_is_not_finite_is_not_taken(tmp_path):
    vectors = np.ones((3, 8), np.float32)
    vectors[1, 4] = np.inf
    earlier = written(tmp_path, build_block(["a", "b", "c"], vectors))
    taken = earlier.take(rows_of(["a", "b", "c"]), OF_ROWS, AS_FLOATS)
    assert taken.mask.tolist() == [True, False, True]


class _Mistaken:
    """Says of every row that it is the first one of the first part, as equal bits might."""

    def find(self, rows):
        places = Places.nowhere(rows.num_rows)
        places.parts[:] = 0
        return places


def test_the_whole_hash_is_compared_before_a_vector_is_taken(tmp_path):
    earlier = written(tmp_path, build_block(["a", "b"]))
    earlier.index = _Mistaken()
    taken = earlier.take(rows_of(["b", "a", "c"]), OF_ROWS, AS_FLOATS)
    assert taken.mask.tolist() == [False, True, False]


NUMERICS = {"precision": "float32", "device": "cpu"}


@pytest.mark.parametrize(
    ("own", "others", "wanted", "taken"),
    [
        (NUMERICS, None, None, True),
        (NUMERICS, None, NUMERICS, True),
        (NUMERICS, [NUMERICS | {"device": "cuda"}], None, True),
        (NUMERICS, [NUMERICS | {"device": "cuda"}], NUMERICS, False),
        (NUMERICS, None, NUMERICS | {"device": "cuda"}, False),
        # The first release hashed them with the recipe, and says none.
        (None, None, NUMERICS, True),
    ],
)
def test_the_numerics_of_a_part_decide_where_they_are_to(tmp_path, own, others, wanted, taken):
    said = {"numerics": own, "reused_numerics": others}
    metadata = {f"embedkit.{name}": json.dumps(one) for name, one in said.items() if one}
    options = replace(make_options(), file_metadata=metadata)
    earlier = written(tmp_path, build_block(["a", "b"]), options=options)
    earlier = EarlierRows(Reuse(earlier.version, numerics=wanted))
    found = earlier.take(rows_of(["b"], ["0/1"]), OF_ROWS, AS_FLOATS)
    assert found.mask.tolist() == [taken]
    # The row is there all the same.
    assert found.known.tolist() == found.same.tolist() == [True]
    assert found.numerics == (() if own is None or not taken else (own, *(others or ())))


@pytest.mark.parametrize("complete", [True, False])
def test_a_version_goes_to_another_process_and_need_not_be_complete(tmp_path, complete):
    block = build_block(["a", "b"])
    earlier = written(tmp_path, block, complete=complete)
    assert len(parts_of(earlier.version)) == 1
    earlier.take(rows_of(["b"]), OF_ROWS, AS_FLOATS)
    there = pickle.loads(pickle.dumps(earlier))
    assert "parts" not in vars(there) and "index" not in vars(there)
    taken = there.take(rows_of(["b"]), OF_ROWS, AS_FLOATS)
    assert of_row(taken, 0).tobytes() == block.vectors.of_row(1).tobytes()


def test_a_block_without_rows_reads_nothing(tmp_path):
    earlier = EarlierRows(Reuse(Version(str(tmp_path / "out"), "v1")))
    assert earlier.take(rows_of([]), OF_ROWS, AS_FLOATS).mask.tolist() == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("damage", ["gone", "short", "torn"])
def test_a_part_that_is_gone_or_damaged_is_named_with_a_way_on(tmp_path, damage, before):
    earlier = written(tmp_path, build_block([f"text {n}" for n in range(50)]))
    rows = rows_of(["text 7"])
    if not before:
        earlier.take(rows, OF_ROWS, AS_FLOATS)
    part = Path(earlier.version.url) / earlier.parts[0].path
    data = part.read_bytes()
    part.unlink()
    if damage != "gone":
        part.write_bytes(data[:-20] if damage == "short" else b"PAR1" + data[:-8] + b"\0" * 8)
    with pytest.raises(IntegrityError) as raised:
        earlier.take(rows, OF_ROWS, AS_FLOATS)
    said = str(raised.value)
    assert "part-00000-00000.parquet" in said and said.endswith("with --reuse off")
    assert "\n" not in said


@pytest.mark.parametrize("name", ["complete", "half-done", "named-half-done"])
def test_versions_of_the_first_release_are_looked_into(name):
    version = Version(str(FIXTURES / "0.1.0" / "root"), version_of("0.1.0", name))
    earlier = EarlierRows(Reuse(version))
    assert all(not part.sources and part.source_range is None for part in earlier.parts)
    for number, part in enumerate(earlier.parts):
        table = pq.read_table(Path(version.url) / part.path).combine_chunks()
        rows = table.select(["id", "text_hash", "source"]).to_batches()[0]
        places = earlier.index.find(rows)
        assert (places.parts == number).all() and places.known.all()
        assert places.rows.tolist() == list(range(part.rows))
        width, dtype = table["embedding"].type.list_size, str(vectors_of(table).values.dtype)
        taken = earlier.take(rows, replace(OF_ROWS, dimension=width), StoredAs(dtype, width))
        assert taken.same.all() and taken.numerics == ()
        ((_, vectors),) = taken.pieces
        assert vectors.values.tobytes() == vectors_of(table).values.tobytes()


def test_a_flipped_bit_of_a_vector_is_found_before_it_is_taken(tmp_path):
    block = build_block([f"text {n}" for n in range(200)])
    earlier = written(tmp_path, block, options=replace(make_options(), store_text=False))
    part = Path(earlier.version.url) / earlier.parts[0].path
    table = pq.read_table(part)
    # Written again without compression, so that no checksum of Zstandard's tells.
    pq.write_table(table, part, compression="none", use_dictionary=False)
    data = bytearray(part.read_bytes())
    vector = block.vectors.of_row(7).tobytes()
    place = data.index(vector)
    sound = replace(earlier.parts[0], size=len(data), sha256=sha256(bytes(data)))
    data[place] ^= 1
    part.write_bytes(data)

    def take(texts):
        there = EarlierRows(Reuse(earlier.version))
        there.parts = (sound,)
        return there.take(rows_of(texts), OF_ROWS, AS_FLOATS)

    with pytest.raises(IntegrityError, match=r"part-00000-00000.parquet: its SHA-256 is not"):
        take([f"text {n}" for n in range(100)])
    assert of_row(take(["text 9"]), 0).tobytes() == block.vectors.of_row(9).tobytes()
    part.write_bytes(bytes(data[:place]) + vector + bytes(data[place + len(vector) :]))
    assert take([f"text {n}" for n in range(100)]).mask.all()
