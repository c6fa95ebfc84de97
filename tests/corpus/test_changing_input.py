"""A file that becomes another while it is read is named, and nothing of its new content is used."""

import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import COMPRESS, corpus_config, read_plan
from running import Dataset, tiny_job

from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import plan_corpus
from embedkit.corpus.raw_file import RawFile
from embedkit.engines.run import run_job
from embedkit.errors import InputError
from embedkit.flow import embed

ROWS = 6_000
FORMATS = ["jsonl", "txt", "csv", "tsv", "parquet", "jsonl.gz", "txt.zst", "csv.bz2", "jsonl.xz"]


def texts(seed: int) -> list[str]:
    # Hex digits compress to no less than half, so that every format takes many reads.
    return [f"{seed}-{n * n * 0x9E3779B97F4A7C15:0100x}" for n in range(1_000, 1_000 + ROWS)]


def content(form: str, seed: int = 1) -> bytes:
    kind, _, compression = form.partition(".")
    if kind == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": texts(seed)}), sink, 500)
        return sink.getvalue().to_pybytes()
    lines = [json.dumps({"text": text}) if kind == "jsonl" else text for text in texts(seed)]
    head = ["text"] if kind in ("csv", "tsv") else []
    data = "".join(f"{line}\n" for line in [*head, *lines]).encode()
    return COMPRESS[f".{compression}" if compression else ""](data)


def truncate(path: Path, data: bytes) -> None:
    os.truncate(path, len(data) // 2)


def truncate_and_refill(path: Path, data: bytes) -> None:
    os.truncate(path, len(data) // 2)
    os.truncate(path, len(data))


def rewrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data[::-1])


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data[:100])


def replace(path: Path, data: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(data)
    status = path.stat()
    # Size and time are those of the file whose place it takes.
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def delete(path: Path, data: bytes) -> None:
    path.unlink()


CHANGES = [truncate, truncate_and_refill, rewrite, append, replace, delete]


def check_noticed(url: Path | str, form: str, change: Callable[[], None], **settings: int) -> None:
    """Reads some blocks, changes the file, and reads on."""
    config = corpus_config(url, block_rows=400, **settings)
    plan = plan_corpus(config)
    found = []
    with pytest.raises(InputError) as error:
        for split in plan.splits:
            for block in read_split(split, plan, config):
                found += block.rows.column("text").to_pylist()
                assert not block.last or len(plan.splits) > 1
                if len(found) == 400:
                    change()
    said = str(error.value)
    assert str(url) in said
    assert "while it was read" in said or "since the plan" in said
    assert "\n" not in said
    assert found == texts(1)[: len(found)]
    assert 400 <= len(found) < ROWS


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.few(18)
def test_a_local_file_that_changes(
    tmp_path: Path, form: str, change: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / f"a.{form}"
    data = content(form)
    path.write_bytes(data)
    check_noticed(path, form, lambda: change(path, data))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("unit", ["line", "paragraph", "file"])
def test_a_small_file_that_one_read_holds(
    tmp_path: Path,
    unit: str,
    change: Callable[[Path, bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n\nthree\n")
    config = corpus_config(path, block_rows=1, text_unit=unit)
    plan = plan_corpus(config)
    original = RawFile.read

    def read(file: RawFile, size: int = -1) -> bytes:
        data = original(file, size)
        if data:
            change(path, data)
        return data

    # Lines are read without a second read that could tell.
    monkeypatch.setattr(RawFile, "read", read)
    with pytest.raises(InputError, match=r"a\.txt: .* while it was read"):
        list(read_split(plan.splits[0], plan, config))


def test_one_of_several_ranges_and_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_bytes(content("jsonl"))
    path = tmp_path / "a.jsonl"
    check_noticed(path, "jsonl", lambda: append(path, b"x" * 200), split_bytes=200_000)
    # The change of a file that was read to its end, and is not read again, harms nothing.
    config = corpus_config(tmp_path / "[bc].jsonl", split_bytes=1 << 30)
    plan = plan_corpus(config)
    assert len(read_plan(plan, config).texts) == 2 * ROWS


def test_a_link_that_leads_elsewhere_meanwhile(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_bytes(content("jsonl"))
    link = tmp_path / "x.jsonl"
    link.symlink_to("a/x.jsonl")

    def turn() -> None:
        link.unlink()
        link.symlink_to("b/x.jsonl")

    check_noticed(link, "jsonl", turn)


def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content("jsonl"))
    config = corpus_config(path)
    plan = plan_corpus(config)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"a\.jsonl: not a regular file"):
        read_plan(plan, config)


@pytest.mark.parametrize("how", ["truncate", "rewrite", "append", "delete"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "jsonl.gz", "txt.zst"])
@pytest.mark.few(6)
def test_an_object_of_s3_that_changes(bucket: str, s3_server: str, form: str, how: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server)
    data = content(form)
    bodies = {"truncate": data[: len(data) // 2], "rewrite": content(form, 2), "append": data * 2}
    client.put_object(Bucket=bucket, Key="a", Body=data)
    client.put_object(Bucket=bucket, Key=f"a.{form}", Body=data)

    def change() -> None:
        if how == "delete":
            client.delete_object(Bucket=bucket, Key=f"a.{form}")
        else:
            client.put_object(Bucket=bucket, Key=f"a.{form}", Body=bodies[how])

    check_noticed(f"s3://{bucket}/a.{form}", form, change)


def test_no_request_mixes_two_objects_of_s3(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setattr("embedkit.corpus.opening.FETCH_BYTES", 100_000)
    client = boto3.client("s3", endpoint_url=s3_server)
    client.put_object(Bucket=bucket, Key="a.jsonl", Body=content("jsonl"))

    def change() -> None:
        client.put_object(Bucket=bucket, Key="a.jsonl", Body=content("jsonl", 2))

    check_noticed(f"s3://{bucket}/a.jsonl", "jsonl", change)


class _Served(BaseHTTPRequestHandler):
    """One file by ranges, with an etag or a time of its last change, or neither."""

    data = b""
    headers_of_data: ClassVar[dict[str, str]] = {}

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"", 200, len(self.data))

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        if wanted is None:
            self._answer(self.data, 200, len(self.data))
            return
        first, last = wanted.removeprefix("bytes=").split("-")
        part = self.data[int(first) : int(last) + 1]
        place = f"bytes {first}-{int(first) + len(part) - 1}/{len(self.data)}"
        self._answer(part, 206, len(part), {"Content-Range": place})

    def _answer(
        self, body: bytes, code: int, size: int, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(size))
        for name, value in {**self.headers_of_data, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def http_file() -> Iterator[tuple[str, type[_Served]]]:
    handler = type("Handler", (_Served,), {})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()


@pytest.mark.parametrize("mark", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("form", ["jsonl", "parquet", "jsonl.gz"])
def test_a_file_of_a_web_server_that_changes(
    http_file: tuple[str, type[_Served]], form: str, mark: str
) -> None:
    root, served = http_file
    served.data, served.headers_of_data = content(form), {mark: "first"}

    def change() -> None:
        served.data = served.data[::-1]
        served.headers_of_data = {mark: "second"}

    check_noticed(f"{root}/a.{form}", form, change)


def test_a_run_over_a_changing_file_completes_once_it_is_restored(
    tmp_path: Path, tiny_model: str
) -> None:
    lines = [json.dumps({"text": f"text number {n}"}) for n in range(200)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    job = tiny_job(tiny_model, path, tmp_path / "out", store_text=True, split_bytes=1 << 20)
    status = path.stat()

    original = embed.write_embeddings
    written = []

    def write_and_cut(*arguments: object) -> object:
        record = original(*arguments)
        written.append(record)
        # The reader is a block ahead, and far from the end.
        os.truncate(path, 100)
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "write_embeddings", write_and_cut)
        with pytest.raises(InputError, match=r"a\.jsonl: changed \("):
            run_job(job)
    assert written
    assert not (tmp_path / "out" / "LATEST").exists()
    path.write_text("\n".join(lines))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    run_job(job)
    dataset = Dataset.latest(tmp_path / "out")
    dataset.check_accounts(200)
    assert sorted(dataset.table["text"].to_pylist()) == sorted(
        f"text number {n}" for n in range(200)
    )
