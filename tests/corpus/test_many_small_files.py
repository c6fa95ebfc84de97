"""Corpora of many small files: what they ask of a store, and how planning grows with them."""

import asyncio
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import corpus_config, read_corpus, read_plan, write

from embedkit.corpus import finding
from embedkit.corpus.duplicates import check_ids, id_hashes
from embedkit.corpus.plan import plan_inputs
from embedkit.errors import InputError


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts the requests that s3fs sends, by their kind."""
    import s3fs

    counts: Counter[str] = Counter()
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: object, method: str, *arguments: object, **more: object) -> object:
        counts[method] += 1
        return await call(self, method, *arguments, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    yield counts


def parquet(number: int) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"id": [f"{number}"], "text": [f"text {number} " * 99]})
    pq.write_table(table, sink, compression="none")
    return sink.getvalue()


MAKE: dict[str, Callable[[int], bytes]] = {
    "jsonl": lambda n: json.dumps({"id": n, "text": f"text {n}"}).encode(),
    "json": lambda n: json.dumps([{"id": n, "text": f"text {n}"}]).encode(),
    "csv": lambda n: f"id,text\n{n},text {n}\n".encode(),
    "parquet": parquet,
}


@pytest.mark.parametrize("form", MAKE)
@pytest.mark.few(2)
def test_each_costs_a_store_a_constant_number_of_requests(
    bucket: str, requests: Counter[str], form: str
) -> None:
    import s3fs

    store = s3fs.S3FileSystem()
    config = corpus_config(f"s3://{bucket}/in", id_column="id")
    counted = []
    for files in (16, 48):
        for number in range(files):
            store.pipe_file(f"{bucket}/in/{number:03d}.{form}", MAKE[form](number))
        requests.clear()
        plan = plan_inputs(config)
        planned = Counter(requests)
        requests.clear()
        checked = check_ids(plan, config)
        looked = Counter(requests)
        requests.clear()
        assert len(read_plan(checked, config).ids) == files
        counted.append((planned, looked, Counter(requests)))
        assert len(plan.splits) == 1
    few, many = counted
    # The files are listed together; the first bytes of each are one request, and so is a look at
    # its columns, with one behind it that tells whether it is still the same. Of a Parquet file,
    # which is larger than a pointer of Git LFS, that look tells all.
    assert len(parquet(0)) > 1024
    columns = form in ("json", "csv", "parquet")
    first_bytes = form != "parquet"
    assert few[0]["list_objects_v2"] == many[0]["list_objects_v2"] <= 8
    assert many[0]["get_object"] - few[0]["get_object"] == 32 * (first_bytes + columns)
    assert many[0]["head_object"] - few[0]["head_object"] == 32 * columns
    for step in (1, 2):
        assert few[step] == {"get_object": 16, "head_object": 16}
        assert many[step] == {"get_object": 48, "head_object": 48}


def test_requests_for_files_of_a_split_wait_together(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    store = s3fs.S3FileSystem()
    for number in range(60):
        store.pipe_file(f"{bucket}/in/{number:03d}.jsonl", MAKE["jsonl"](number))
    # One that is larger than what is read ahead, and one that may unpack to anything.
    long = json.dumps({"id": "long", "text": "word " * 30_000})
    store.pipe_file(f"{bucket}/in/020-long.jsonl", long.encode())
    packed = gzip.compress(b'{"id": "packed", "text": "some"}')
    store.pipe_file(f"{bucket}/in/040-packed.jsonl.gz", packed)
    config = corpus_config(f"s3://{bucket}/in", id_column="id")
    plan = plan_inputs(config)
    call = s3fs.S3FileSystem._call_s3
    waiting: list[int] = [0]

    async def slow(self: object, method: str, *arguments: object, **more: object) -> object:
        waiting.append(waiting[-1] + 1)
        await asyncio.sleep(0.02)
        waiting.append(waiting[-1] - 1)
        return await call(self, method, *arguments, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", slow)
    checked = check_ids(plan, config)
    assert 8 <= max(waiting) <= 17
    waiting[:] = [0]
    read = read_plan(checked, config)
    assert 8 <= max(waiting) <= 17
    ids = [f"{n}" for n in range(60)]
    assert read.ids == [*ids[:20], "long", *ids[20:40], "packed", *ids[40:]]


@pytest.mark.parametrize("how", ["rewritten", "longer", "deleted"])
@pytest.mark.parametrize("form", MAKE)
@pytest.mark.few(4)
def test_one_that_changes_after_the_plan_is_noticed(bucket: str, form: str, how: str) -> None:
    import s3fs

    store = s3fs.S3FileSystem()
    path = f"{bucket}/in/0.{form}"
    store.pipe_file(path, MAKE[form](1))
    config = corpus_config(f"s3://{bucket}/in", id_column="id")
    plan = check_ids(plan_inputs(config), config)
    if how == "deleted":
        store.rm_file(path)
    else:
        store.pipe_file(path, MAKE[form](2) if how == "rewritten" else MAKE[form](1) + b"  ")
    with pytest.raises(InputError, match=f"{path}.*(since the plan|was deleted|no such file)"):
        read_plan(plan, config)


def test_of_parquet_the_id_column_alone_is_fetched(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    texts = [f"{n * 0x9E3779B97F4A7C15:x}" * 40 for n in range(20_000)]
    table = pa.table({"id": [f"{n}" for n in range(20_000)], "text": texts, "more": texts})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=5_000, compression="none", use_dictionary=False)
    s3fs.S3FileSystem().pipe_file(f"{bucket}/a.parquet", sink.getvalue())
    config = corpus_config(f"s3://{bucket}/a.parquet", id_column="id")
    (split,) = plan_inputs(config).splits
    fetched = []
    cat = s3fs.S3FileSystem._cat_file

    async def counted(self: object, path: str, **more: object) -> bytes:
        data = await cat(self, path, **more)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", counted)
    assert sum(map(len, id_hashes(split, config))) == 20_000
    ids = sum(
        pq.read_metadata(sink).row_group(group).column(0).total_compressed_size
        for group in range(4)
    )
    assert len(sink.getvalue()) > 20 << 20
    # The footer, and at most one piece more than there is for each row group.
    assert sum(fetched) < ids + 5 * (64 << 10) + (1 << 20)
    assert len(fetched) <= 2 + 4 * 3


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_of_a_large_file_the_plan_fetches_its_beginning_and_a_range_itself(
    bucket: str, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    import s3fs

    rows = [{"id": f"{n}", "text": f"{n * 0x9E3779B97F4A7C15:x}" * 60} for n in range(20_000)]
    lines = [json.dumps(row) for row in rows]
    if form == "csv":
        lines = ["id,text", *(f"{row['id']},{row['text']}" for row in rows)]
    data = "\n".join(lines).encode()
    s3fs.S3FileSystem().pipe_file(f"{bucket}/a.{form}", data)
    fetched = []
    cat = s3fs.S3FileSystem._cat_file

    async def counted(self: object, path: str, **more: object) -> bytes:
        found = await cat(self, path, **more)
        fetched.append(len(found))
        return found

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", counted)
    config = corpus_config(f"s3://{bucket}/a.{form}", id_column="id", split_bytes=3 << 20)
    plan = plan_inputs(config)
    # A sample of the records of JSONL is asked for as reading asks; nothing of the others.
    assert sum(fetched) < (1 << 20 if form == "csv" else 10 << 20)
    if form == "jsonl":
        assert len(plan.splits) == -(-len(data) // (3 << 20)) > 5
    for split in plan.splits:
        fetched.clear()
        sum(map(len, id_hashes(split, config)))
        (piece,) = split.ranges
        assert piece.end - piece.start <= sum(fetched) <= piece.end - piece.start + (1 << 19)


def test_nothing_is_asked_twice_of_local_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        write(tmp_path / f"{number % 3}" / f"{number}.txt", f"text {number}\n")
    resolved = []
    real = finding.os.path.realpath
    monkeypatch.setattr(
        finding.os.path, "realpath", lambda path: resolved.append(path) or real(path)
    )
    assert len(read_corpus(tmp_path).texts) == 300
    # The folders, and not every file in them.
    assert len(resolved) < 20
