"""Estimates of corpora: near what is in them, however it is spread over their files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from reading import COMPRESS, corpus_config, write

from embedkit.corpus.plan import CorpusEstimate, estimate, plan_corpus
from embedkit.errors import InputError


def number(n: int) -> int:
    return n * n * 0x9E3779B97F4A7C15 % 2**64


TEXTS = [f"Record {n}: {'word ' * (number(n) % 40)}{number(n):x}" for n in range(30_000)]


def as_jsonl(texts: list[str]) -> str:
    return "".join(json.dumps({"text": text, "pad": "x" * 30}) + "\n" for text in texts)


FORMS: dict[str, Callable[[list[str]], str]] = {
    "a.txt": lambda texts: "\n".join(texts),
    "a.jsonl": as_jsonl,
    "a.json": lambda texts: json.dumps([{"text": text} for text in texts]),
    "a.csv": lambda texts: "".join(f"{line}\n" for line in ["text", *texts]),
}


def words(texts: Sequence[str], weights: NDArray[np.float64]) -> list[int]:
    assert len(texts) == len(weights)
    return [len(text.split()) for text in texts]


def words_in(texts: list[str]) -> int:
    return sum(len(text.split()) for text in texts)


def estimate_of(*inputs: Path, **settings: Any) -> CorpusEstimate:
    config = corpus_config(*inputs, **settings)
    return estimate(plan_corpus(config), config, words)


def check(found: CorpusEstimate, texts: list[str], within: float) -> None:
    assert found.documents == pytest.approx(len(texts), rel=within)
    assert found.text_bytes == pytest.approx(sum(len(text.encode()) for text in texts), rel=within)
    assert found.tokens == pytest.approx(words_in(texts), rel=within)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.few(6)
def test_estimates_are_near(tmp_path: Path, name: str, compression: str) -> None:
    path = write(tmp_path / f"{name}{compression}", FORMS[name](TEXTS))
    found = estimate_of(path, split_bytes=1 << 19)
    assert (found.files, found.bytes) == (1, path.stat().st_size)
    check(found, TEXTS, 0.25 if compression == ".bz2" else 0.1)


def test_an_estimate_reads_an_array_no_further_than_it_says(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.json", FORMS["a.json"](TEXTS))
    check(estimate_of(plain), TEXTS, 0.1)
    # Of elements longer than what is read, the first is whole.
    texts = ["word " * 60_000] * 30
    check(estimate_of(write(tmp_path / "b.json", FORMS["a.json"](texts))), texts, 0.2)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.few(6)
def test_an_estimate_of_other_encodings_counts_bytes_as_stored(
    tmp_path: Path, name: str, encoding: str
) -> None:
    texts = [f"漢字 {text}" for text in TEXTS]
    path = tmp_path / name
    path.write_bytes(FORMS[name](texts).encode(encoding))
    given = {} if encoding.startswith("utf") else {"encoding": encoding}
    check(estimate_of(path, **given), texts, 0.1)


def test_an_estimate_of_bz2_sees_a_whole_block(tmp_path: Path) -> None:
    # Such digits compress to half, so that a block takes more than the usual sample.
    texts = [f"{number(n):x} {number(n + 7):x}" for n in range(120_000)]
    path = write(tmp_path / "a.txt.bz2", texts)
    assert path.stat().st_size > 3 << 19
    check(estimate_of(path), texts, 0.5)


def test_estimates_of_parquet_and_of_many_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet", 4000)
    check(estimate_of(tmp_path, split_bytes=1 << 18), TEXTS, 0.1)
    for n in range(100):
        write(tmp_path / f"{n:03d}.jsonl", as_jsonl(TEXTS[n * 20 : n * 20 + 20]))
    check(estimate_of(tmp_path), TEXTS + TEXTS[:2000], 0.1)


def test_estimates_of_small_corpora_are_exact(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", as_jsonl(TEXTS[:50]) + "broken\n")
    write(tmp_path / "b.txt.xz", TEXTS[50:60])
    found = estimate_of(tmp_path)
    assert found.documents == 60
    assert found.text_bytes == sum(len(text.encode()) for text in TEXTS[:60])


def test_estimates_of_nothing(tmp_path: Path) -> None:
    found = estimate_of(write(tmp_path / "a.txt", ""))
    assert (found.files, found.documents, found.tokens) == (1, 0, 0)


def test_an_estimate_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "a line of words\n" * 1_000_000)
    seen = 0

    def counted(texts: Sequence[str], weights: NDArray[np.float64]) -> list[int]:
        nonlocal seen
        seen += len(texts)
        return words(texts, weights)

    config = corpus_config(path)
    found = estimate(plan_corpus(config), config, counted)
    assert found.documents == pytest.approx(1_000_000, rel=0.01)
    assert found.tokens == pytest.approx(4_000_000, rel=0.01)
    assert seen <= 512


def test_an_estimate_of_a_changed_file_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "x")
    config = corpus_config(path)
    plan = plan_corpus(config)
    write(path, "xy")
    with pytest.raises(InputError, match="changed since the plan"):
        estimate(plan, config, words)


SHORT = [f"title {number(n):x}" for n in range(20_000)]
LONG = [f"{'word ' * (20_000 + number(n) % 20_000)}{n}" for n in range(20)]


def shuffled(texts: list[str]) -> list[str]:
    return [texts[n] for n in np.random.default_rng(0).permutation(len(texts))]


SPREADS: dict[str, list[str]] = {
    "a record of 5 MB first": ["word " * 1_000_000, *TEXTS],
    "a record of 5 MB last": [*TEXTS, "word " * 1_000_000],
    "long ones among short ones": shuffled(SHORT + LONG),
    "short ones before long ones": SHORT + LONG,
    "sorted by length": sorted(TEXTS * 3, key=len),
    "the longest first": sorted(TEXTS * 3, key=len, reverse=True),
}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_an_estimate_sees_how_texts_are_spread_over_a_file(
    tmp_path: Path, name: str, spread: str
) -> None:
    texts = SPREADS[spread]
    found = estimate_of(write(tmp_path / name, FORMS[name](texts)))
    assert found.records == found.documents == pytest.approx(len(texts), rel=0.15)
    if "5 MB" not in spread:
        assert found.tokens == pytest.approx(words_in(texts), rel=0.3)


@pytest.mark.parametrize("name", FORMS)
def test_a_long_record_before_short_ones(tmp_path: Path, name: str) -> None:
    texts = SPREADS["a record of 5 MB first"]
    found = estimate_of(write(tmp_path / name, FORMS[name](texts)))
    assert found.documents == pytest.approx(len(texts), rel=0.5)


def test_row_groups_of_any_size_and_none(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    texts: list[str] = []
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as writer:
        for group in (["word " * 1000] * 10, [], ["a b"] * 10_000, [], ["one"]):
            writer.write_table(pa.table({"text": group}, schema))
            texts += group
    found = estimate_of(tmp_path)
    assert found.documents == len(texts)
    assert found.tokens == pytest.approx(words_in(texts), rel=0.3)


def test_files_of_one_long_record_each(tmp_path: Path) -> None:
    for n in range(24):
        write(tmp_path / f"{n}.jsonl", as_jsonl(["f" * 1_500_000]))
    assert estimate_of(tmp_path).documents == pytest.approx(24, rel=0.5)
    path = write(tmp_path / "one" / "a.txt", "f" * 5_000_000)
    assert estimate_of(path).documents == 1


def test_of_long_texts_few_are_counted(tmp_path: Path) -> None:
    counted = 0

    def count(texts: list[str], weights: NDArray[np.float64]) -> list[int]:
        nonlocal counted
        counted += sum(map(len, texts))
        return words(texts, weights)

    texts = ["word " * (15_000 + number(n) % 4000) for n in range(400)]
    config = corpus_config(write(tmp_path / "a.jsonl", as_jsonl(texts)))
    found = estimate(plan_corpus(config), config, count)
    assert found.documents == pytest.approx(400, rel=0.4)
    assert counted < 3 << 19


def test_files_of_all_sizes_whose_records_are_alike(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).lognormal(5, 2, 300).astype(int)
    for n, count in enumerate(counts.tolist()):
        write(tmp_path / f"{n}.jsonl", as_jsonl(["the same words"] * count))
    assert estimate_of(tmp_path).documents == pytest.approx(counts.sum(), rel=0.01)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_blank_lines_before_the_records(tmp_path: Path, name: str) -> None:
    header, _, rest = FORMS[name](TEXTS).partition("\n")
    path = write(tmp_path / name, f"{header}\n{' ' * 63}\n" + "\n" * (1 << 20) + rest)
    # CSV is read from its beginning, half of which is blank here.
    check(estimate_of(path), TEXTS, 0.5 if name == "a.csv" else 0.15)


def test_notes_before_the_records(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "# a note\n" * 40_000 + as_jsonl(TEXTS))
    found = estimate_of(path)
    check(found, TEXTS, 0.1)
    assert found.records - found.documents == pytest.approx(40_000, rel=0.1)


def test_small_files_beside_large_ones(tmp_path: Path) -> None:
    texts: list[str] = []
    for n in range(39):
        texts += SHORT[n * 150 : n * 150 + 150]
        write(tmp_path / f"{n:02d}.jsonl", as_jsonl(SHORT[n * 150 : n * 150 + 150]))
    write(tmp_path / "20-large.jsonl", as_jsonl(LONG * 5))
    write(tmp_path / "21-empty.jsonl", "")
    found = estimate_of(tmp_path)
    assert found.documents == pytest.approx(len(texts) + 100, rel=0.1)
    assert found.tokens == pytest.approx(words_in(texts + LONG * 5), rel=0.3)


@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_files_that_alternate(tmp_path: Path, period: int) -> None:
    texts: list[str] = []
    for n in range(96):
        here = [" ".join(TEXTS[:300])] * 40 if n % period else SHORT[n * 160 : n * 160 + 160]
        texts += here
        write(tmp_path / f"{n:02d}.jsonl", as_jsonl(here))
    found = estimate_of(tmp_path)
    assert found.documents == pytest.approx(len(texts), rel=0.3)
    assert found.tokens == pytest.approx(words_in(texts), rel=0.15)


def test_texts_that_are_counted_stand_for_all(tmp_path: Path) -> None:
    stands_for = 0.0

    def counted(texts: Sequence[str], weights: NDArray[np.float64]) -> list[int]:
        nonlocal stands_for
        stands_for += float(weights.sum())
        return words(texts, weights)

    config = corpus_config(write(tmp_path / "a.jsonl", as_jsonl(shuffled(SHORT + LONG))))
    found = estimate(plan_corpus(config), config, counted)
    assert stands_for == pytest.approx(found.documents, abs=1)


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".xz", ".zst"])
def test_where_a_sample_is_cut_nothing_is_rejected(tmp_path: Path, compression: str) -> None:
    texts = [f"{number(n):x} {number(n + 7):x} {'é' * (n % 50)}" for n in range(120_000)]
    path = write(tmp_path / f"a.jsonl{compression}", as_jsonl(texts))
    found = estimate_of(path)
    assert found.records == found.documents == pytest.approx(len(texts), rel=0.2)


@pytest.mark.parametrize("name", FORMS)
def test_a_sample_of_utf_16_rejects_nothing_where_it_is_cut(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name](TEXTS * 2).encode("utf-16"))
    found = estimate_of(path)
    assert found.records == found.documents


@pytest.mark.parametrize("limit", [1, 100, 25_000])
def test_a_trial_is_told_from_the_records_that_it_reads(tmp_path: Path, limit: int) -> None:
    texts = sorted(TEXTS, key=len)
    path = write(tmp_path / "a.jsonl", as_jsonl(texts))
    found = estimate_of(path, limit=limit)
    check(found, texts[:limit], 0.02)
    size = len(as_jsonl(texts[:limit]))
    assert size / 3 < found.read_bytes < 3 * size
    assert found.bytes == path.stat().st_size


def test_a_trial_that_ends_in_a_later_split_has_as_many_records_as_it_was_to_have(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.jsonl", as_jsonl(shuffled(TEXTS)))
    found = estimate_of(path, limit=25_000, split_bytes=1 << 20)
    assert found.splits > 2
    assert found.records == 25_000
