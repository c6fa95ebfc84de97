"""Compressed and Parquet files with bytes changed, cut out or put in: nothing is lost unsaid."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fuzzing import EXAMPLES, rounds
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from reading import counted, read_corpus

from embedkit.errors import InputError

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}  # fmt: skip
"""Each with checksums, so that what is changed can be told at all."""
SPAN = 1 << 16
changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "drop", "insert", "zeros", "append"]),
        st.integers(0, SPAN),
        st.binary(min_size=1, max_size=12),
    ),
    max_size=3,
)
FORMS: dict[str, tuple[str, str]] = {"txt": ("", "{}"), "jsonl": ("", '{{"text": "{}"}}'),
                                     "csv": ("text\n", "{}")}  # fmt: skip


def changed(data: bytes, given: list[tuple[str, int, bytes]]) -> bytes:
    for kind, share, more in given:
        at = share * len(data) // (SPAN + 1)
        if kind == "flip" and data:
            data = data[:at] + bytes((data[at] ^ (more[0] or 1),)) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + len(more) :]
        elif kind == "insert":
            data = data[:at] + more + data[at:]
        elif kind == "zeros":
            data = data[:at] + bytes(len(data[at : at + 8])) + data[at + 8 :]
        else:
            data += more
    return data


def check_compressed(
    folder: Path,
    suffix: str,
    form: str,
    rows: int,
    members: int,
    given: list[tuple[str, int, bytes]],
) -> None:
    head, line = FORMS[form]
    texts = [f"{n} {n * 0x9E3779B97F4A7C15:x}" for n in range(1, rows + 1)]
    content = (head + "".join(line.format(text) + "\n" for text in texts)).encode()
    size = max(1, -(-len(content) // members))
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    whole = b"".join(map(PACK[suffix], pieces))
    data = changed(whole, given)
    path = folder / f"fuzz.{form}{suffix}"
    path.write_bytes(data)
    try:
        corpus = read_corpus(path, max_decompressed_bytes=1 << 24)
    except InputError as error:
        assert str(path) in str(error)
        return
    counts = counted(corpus)
    assert counts.lines == counts.accounted
    ends = {0}
    for piece in pieces:
        ends.add(max(ends) + len(PACK[suffix](piece)))
    # Nothing tells a file that is cut between two members, nor one of a few letters, from text; and
    # where there was nothing, what was put in is all there is.
    if (
        corpus.reasons == []
        and whole
        and len(data) > 9
        and data.rstrip(b"\0") not in {whole[:end].rstrip(b"\0") for end in ends}
    ):
        assert corpus.texts == texts
    if [kind for kind, _, _ in given] == ["cut"] and len(data) not in ends:
        assert corpus.texts == texts[: len(corpus.texts)]
        assert corpus.reasons == ["damaged_file"]
    if [kind for kind, _, _ in given] == ["append"] and rows:
        assert corpus.texts[:rows] == texts


def table_bytes(rows: int, group: int, codec: str) -> bytes:
    texts = [f"{n} {n * 0x9E3779B97F4A7C15:x}" for n in range(rows)]
    table = pa.table({"id": list(map(str, range(rows))), "text": texts, "n": range(rows)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=group, compression=codec, write_page_checksum=True,
                   data_page_size=512)  # fmt: skip
    data: bytes = sink.getvalue().to_pybytes()
    return data


def check_parquet(
    folder: Path, rows: int, group: int, codec: str, given: list[tuple[str, int, bytes]]
) -> None:
    path = folder / "fuzz.parquet"
    path.write_bytes(changed(table_bytes(rows, group, codec), given))
    try:
        corpus = read_corpus(path, metadata_columns=("n",))
    except InputError as error:
        assert str(path) in str(error)
        return
    lost = [one for one in corpus.rejects if one.reason == "damaged_file"]
    missing = sum(int(one.detail.split(" rows, is missing")[0].split()[-1]) for one in lost)
    others = len(corpus.rejects) - len(lost)
    assert len(corpus.texts) + others + missing == pq.ParquetFile(path).metadata.num_rows
    assert all(one.line for one in corpus.rejects)


def fuzz_compressed(examples: int) -> Callable[..., None]:
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.sampled_from(sorted(PACK)), st.sampled_from(sorted(FORMS)), st.integers(0, 300),
        st.integers(1, 4), changes,
    )  # fmt: skip
    @example(".bz2", "txt", 99, 2, [("flip", SPAN * 3 // 4, b"\x55")])
    @example(".zst", "txt", 99, 1, [("append", 0, bytes(12))])
    def run(
        tmp_path: Path, suffix: str, form: str, rows: int, members: int,
        given: list[tuple[str, int, bytes]],
    ) -> None:  # fmt: skip
        check_compressed(tmp_path, suffix, form, rows, members, given)

    return run


def fuzz_parquet(examples: int) -> Callable[..., None]:
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.integers(0, 300), st.sampled_from([40, 1000]),
        st.sampled_from(["none", "snappy", "zstd"]), changes,
    )  # fmt: skip
    @example(30, 40, "none", [("zeros", 45710, b"\0")])
    def run(
        tmp_path: Path, rows: int, group: int, codec: str, given: list[tuple[str, int, bytes]]
    ) -> None:
        check_parquet(tmp_path, rows, group, codec, given)

    return run


def test_a_changed_compressed_file(tmp_path: Path) -> None:
    fuzz_compressed(200)(tmp_path=tmp_path)


def test_a_changed_parquet_file(tmp_path: Path) -> None:
    fuzz_parquet(80)(tmp_path=tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fuzz", [fuzz_compressed, fuzz_parquet])
def test_changed_files_for_long(tmp_path: Path, fuzz: Callable[[int], Callable[..., None]]) -> None:
    for number in rounds(fuzz.__name__):
        seed(number)(fuzz(EXAMPLES))(tmp_path=tmp_path)
