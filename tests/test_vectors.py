"""Vectors against Arrow's own reading of the same columns, value by value."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import IntegrityError
from embedkit.records import SPANS_FIELD
from embedkit.vectors import Vectors, flat_list, spans_of, vector_type

DTYPES = ["float32", "float16"]
COUNTS = st.lists(st.integers(0, 4), max_size=8)


def ragged(counts, width=3, dtype="float32", seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal((count, width)).astype(dtype) for count in counts]


def plain(rows):
    return [vectors.tolist() for vectors in rows]


@pytest.mark.parametrize("dtype", DTYPES)
@given(counts=COUNTS, data=st.data())
def test_rows_of_many_vectors_there_and_back(dtype, counts, data):
    rows = ragged(counts, dtype=dtype)
    vectors = Vectors.from_rows(rows, 3, dtype)
    column = vectors.to_arrow()
    column.validate(full=True)
    assert column.type == vectors.arrow_type == vector_type(3, dtype, many=True)
    assert column.to_pylist() == plain(rows)
    assert vectors.counts.tolist() == counts
    start = data.draw(st.integers(0, len(rows)))
    length = data.draw(st.integers(0, len(rows) - start))
    part = Vectors.from_arrow(column.slice(start, length))
    wanted = rows[start : start + length]
    assert len(part) == length
    assert [part.of_row(row).tolist() for row in range(length)] == plain(wanted)
    assert part.stacked.tolist() == [vector for row in plain(wanted) for vector in row]
    with pytest.raises(IntegrityError, match="rows have any number of them"):
        _ = part.matrix
    assert part.to_arrow().to_pylist() == plain(wanted)
    picks = st.lists(st.integers(0, len(rows) - 1), max_size=9) if rows else st.just([])
    chosen = data.draw(picks)
    taken = vectors.take(np.array(chosen, dtype=np.intp))
    assert taken.to_arrow().to_pylist() == [rows[place].tolist() for place in chosen]


@pytest.mark.parametrize("dtype", DTYPES)
@given(count=st.integers(0, 6), width=st.integers(1, 5), data=st.data())
def test_rows_of_one_vector_there_and_back(dtype, count, width, data):
    matrix = ragged([count], width, dtype)[0]
    vectors = Vectors.from_matrix(matrix)
    column = vectors.to_arrow()
    assert (
        column.type
        == vectors.arrow_type
        == pa.list_(pa.field("item", pa.from_numpy_dtype(dtype), nullable=False), width)
    )
    assert column.to_pylist() == matrix.tolist()
    assert (len(vectors), vectors.counts.tolist()) == (count, [1] * count)
    start = data.draw(st.integers(0, count))
    part = Vectors.from_arrow(column.slice(start))
    assert part.matrix.shape == (count - start, width)
    assert part.matrix.tolist() == matrix[start:].tolist()
    assert [part.of_row(row).tolist() for row in range(len(part))] == [
        [vector] for vector in matrix[start:].tolist()
    ]
    order = np.random.default_rng(1).permutation(count)
    assert vectors.take(order).matrix.tolist() == matrix[order].tolist()


def test_a_view_is_no_copy_and_several_chunks_are_read_as_one():
    rows = ragged([2, 0, 3])
    many, one = Vectors.from_rows(rows, 3), Vectors.from_matrix(np.concatenate(rows))
    for vectors in (many, one):
        column = vectors.to_arrow()
        assert Vectors.from_arrow(column).values.base is not None
        assert np.shares_memory(Vectors.from_arrow(column).values, vectors.values)
        assert np.shares_memory(
            Vectors.from_arrow(pa.chunked_array([column])).values, vectors.values
        )
        twice = Vectors.from_arrow(pa.chunked_array([column, column.slice(1)]))
        assert twice.to_arrow().to_pylist() == column.to_pylist() + column.to_pylist()[1:]
        none = Vectors.from_arrow(pa.chunked_array([], column.type))
        assert (len(none), none.arrow_type) == (0, column.type)


@pytest.mark.parametrize(
    ("values", "width", "offsets", "said"),
    [
        (np.zeros(6, np.float32), 0, None, "their width is 0, expected at least 1"),
        (np.zeros(6, np.float32), -3, None, "their width is -3"),
        (np.zeros(6), 3, None, "they are float64, expected float32, float16, int8, uint8"),
        (np.zeros(6, np.int32), 3, None, "they are int32"),
        (np.zeros(7, np.float32), 3, None, "no whole number of vectors of width 3"),
        (np.zeros((2, 3), np.float32), 3, None, r"shape \(2, 3\) is no whole number"),
        (np.zeros(6, np.float32), 3, [0, 2, 1, 2], "offsets do not rise from 0 to the 2 vectors"),
        (np.zeros(6, np.float32), 3, [0, 1], "offsets do not rise"),
        (np.zeros(6, np.float32), 3, [1, 2], "offsets do not rise"),
        (np.zeros(0, np.float32), 3, [], r"expected int32 \(n \+ 1,\)"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(values, width, offsets, said):
    with pytest.raises(IntegrityError, match=f"^vectors: .*{said}") as caught:
        Vectors(values, width, None if offsets is None else np.array(offsets, np.int32))
    assert "\n" not in str(caught.value)


def test_offsets_of_another_type_are_refused():
    with pytest.raises(IntegrityError, match="offsets are int64"):
        Vectors(np.zeros(3, np.float32), 3, np.array([0, 1]))


INNER = pa.list_(pa.float32(), 2)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([[1, 2], None], INNER), "a null in a column of fixed_size_list"),
        (pa.array([[1, None]], INNER), "a null in"),
        (pa.array([[[1, 2]], None], pa.list_(INNER)), "a null in a column of list"),
        (pa.array([[[1, 2], None]], pa.list_(INNER)), "a null in"),
        (
            pa.array([[1, 2]], pa.list_(pa.float32())),
            "a column of float, expected fixed-size lists",
        ),
        (pa.array([1.0, 2.0], pa.float32()), "a column of float"),
        (pa.array([[1, 2]], pa.list_(pa.float64(), 2)), "they are double|they are float64"),
    ],
)
def test_columns_that_are_no_vectors_are_refused_in_one_line(column, said):
    with pytest.raises(IntegrityError, match=said):
        Vectors.from_arrow(column)


def test_a_null_outside_the_slice_does_not_matter():
    column = pa.array([None, [1, 2]], INNER)
    assert Vectors.from_arrow(column.slice(1)).matrix.tolist() == [[1, 2]]


@given(rows=st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=6), start=st.integers(0, 6))
def test_a_list_column_is_taken_apart_where_its_slice_begins(rows, start):
    column = pa.array(rows, pa.list_(pa.int32()))[start:]
    items, offsets = flat_list(column)
    assert offsets.dtype == np.int32
    assert [items[a:b].to_pylist() for a, b in itertools.pairwise(offsets)] == rows[start:]


@pytest.mark.parametrize("start", [0, 1, 3])
def test_the_tokens_of_spans_are_taken_from_where_the_rows_begin(start):
    spans = [[(0, 3, 1, 2), (3, 5, 2, 4)], [], [(1, 2, 5, 6)]]
    names = [field.name for field in SPANS_FIELD.type.value_type]
    lists = [[dict(zip(names, span, strict=True)) for span in row] for row in spans]
    schema = pa.schema([SPANS_FIELD])
    rows = pa.RecordBatch.from_pydict({"spans": lists}, schema=schema).slice(start)
    taken = spans_of(rows)
    assert (taken.starts.dtype, taken.ends.dtype, taken.offsets.dtype) == (np.int32,) * 3
    wanted = spans[start:]
    assert [
        list(zip(taken.starts[a:b].tolist(), taken.ends[a:b].tolist(), strict=True))
        for a, b in itertools.pairwise(taken.offsets)
    ] == [[span[2:] for span in row] for row in wanted]
