"""What a name means, what a search passes over, and which folders are refused."""

import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from reading import corpus_config, read_corpus, write
from running import Dataset, tiny_job, write_corpus

from embedkit.corpus.plan import plan_corpus
from embedkit.corpus.sources import list_inputs
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, EmbedkitError, InputError


def sources(*inputs: Path | str, **settings: object) -> list[str]:
    return [file.source for file in list_inputs(corpus_config(*inputs, **settings)).files]


def said_of(*inputs: Path | str, kind: type[EmbedkitError] = InputError, **settings: Any) -> str:
    with pytest.raises(kind) as error:
        plan_corpus(corpus_config(*inputs, **settings))
    assert "\n" not in str(error.value)
    return str(error.value)


EXACT = ["data[12]", "data [v1]", "what?", "all*", "[!a]", "notes::2024", "s3::x", "{a,b}", "~old"]
OTHERS = ["data1", "data v", "whats", "all of it", "b", "notes", "a", "s3"]


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_name_comes_before_any_pattern(tmp_path: Path, name: str) -> None:
    for other in {*OTHERS, name}:
        write(tmp_path / other / "a.txt", other)
        write(tmp_path / f"{other}.txt", other)
    assert read_corpus(tmp_path / name).texts == [name]
    assert read_corpus(tmp_path / f"{name}.txt").texts == [name]
    assert read_corpus(f"file://{tmp_path}/{name}").texts == [name]
    # So does a part of a pattern.
    assert read_corpus(tmp_path / name / "*.txt").texts == [name]
    plan = plan_corpus(corpus_config(tmp_path / name / "[ab].txt"))
    assert (plan.base, plan.splits[0].ranges[0].source) == (str(tmp_path / name), "a.txt")


def test_relative_exact_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a::b.jsonl", "http:x.jsonl", "[1].jsonl", "~nobody.jsonl", "~~/a.jsonl"):
        write(Path(name), [json.dumps({"text": name})])
        assert read_corpus(name).texts == [name]


def test_names_that_are_patterns_only(tmp_path: Path) -> None:
    for name in ("data1", "data2", "data3"):
        write(tmp_path / name / "a.txt", name)
    assert read_corpus(tmp_path / "data[12]").texts == ["data1", "data2"]
    assert "no such file" in said_of(tmp_path / "a::b.txt")
    assert "chains" in said_of("simplecache::s3://bucket/x.txt", kind=ConfigError)


def test_exact_names_of_s3(bucket: str, s3_server: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server)
    for key in ("q[1]/a.txt", "q1/a.txt", "w?.txt", "wo.txt", "n::1.txt", "n.txt", "x::y/a.txt"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    root = f"s3://{bucket}"
    for key in ("q[1]/a.txt", "w?.txt", "n::1.txt", "x::y/a.txt"):
        assert read_corpus(f"{root}/{key}").texts == [key]
    assert read_corpus(f"{root}/q[1]").texts == ["q[1]/a.txt"]
    assert read_corpus(f"{root}/q[1]/").texts == ["q[1]/a.txt"]
    assert read_corpus(f"{root}/q[1]/*.txt").texts == ["q[1]/a.txt"]
    assert read_corpus(f"{root}/x::y").texts == ["x::y/a.txt"]
    assert read_corpus(f"{root}/q[12]/*").texts == ["q1/a.txt"]


def test_folder_marks_of_s3_are_no_files(bucket: str, s3_server: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server)
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), sink)
    for key in ("pq/", "pq/sub/", "pq/x.jsonl/", "pq/old_$folder$"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    for key in ("pq/part-0", "pq/sub/part-1", "pq/x.jsonl/part-2"):
        client.put_object(Bucket=bucket, Key=key, Body=sink.getvalue())
    found = ["part-0", "sub/part-1", "x.jsonl/part-2"]
    for name in ("pq", "pq/"):
        assert sources(f"s3://{bucket}/{name}", format="parquet") == found
    assert sources(f"s3://{bucket}/pq/**", format="parquet") == found
    assert len(read_corpus(f"s3://{bucket}/pq/", format="parquet").texts) == 3


def test_locks_backups_and_half_written_files_are_no_input(tmp_path: Path) -> None:
    for name in ("part-0", "deep/part-1", "a.part"):
        write(tmp_path / name, name)
    for name in ("x.lock", "part-2.tmp", "a.txt~", "#a.txt#", "~$a.txt", ".~lock.a.txt#", "b.swp",
                 "c.crdownload", "Thumbs.db", "d.incomplete", "_SUCCESS", ".part.crc"):  # fmt: skip
        write(tmp_path / name, "no input")
    for name in ("@eaDir/part-0", "deep/$RECYCLE.BIN/x", "#recycle/x", "lost+found/x",
                 "dataset_infos.json", "deep/dataset_info.json", "__MACOSX/._part-0"):  # fmt: skip
        write(tmp_path / name, "no input")
    # Emacs locks by a link that leads nowhere.
    (tmp_path / ".#part-0").symlink_to("somebody@machine.123")
    (tmp_path / "deep" / "current.lock").symlink_to("nowhere")
    assert sources(tmp_path, format="text") == ["a.part", "deep/part-1", "part-0"]
    write(tmp_path / "y.txt", "y")
    (tmp_path / "latest").symlink_to("nowhere")
    assert sources(tmp_path) == ["y.txt"]


def test_a_link_that_leads_nowhere_is_no_input_that_is_there(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a")
    (tmp_path / "b.txt").symlink_to("gone.txt")
    assert "b.txt: no such file" in said_of(tmp_path)
    assert "b.txt: no such file" in said_of(tmp_path / "b.txt")


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A corpus with links inside and out of it."""
    corpus = tmp_path / "corpus"
    write(corpus / "good.txt", "good")
    write(corpus / "z" / "inside.txt", "inside")
    write(tmp_path / "home" / "secret.txt", "private one")
    write(tmp_path / "home" / "keys" / "k.txt", "private two")
    (corpus / "out.txt").symlink_to("../home/secret.txt")
    (corpus / "absolute.txt").symlink_to(tmp_path / "home/secret.txt")
    (corpus / "more").symlink_to("../home/keys")
    (corpus / "detour").symlink_to("z/../../home")
    (corpus / "zero.txt").symlink_to("/dev/zero")
    (corpus / "again.txt").symlink_to("good.txt")
    (corpus / "y").symlink_to("z")
    (corpus / "loop").symlink_to(".")
    return corpus


INSIDE = ["good", "good", "inside"]


def test_links_are_not_followed_out_of_the_corpus(
    linked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert sorted(read_corpus(linked).texts) == INSIDE
    assert "5 symbolic links lead out of the corpus" in caplog.text
    assert "--follow-symlinks" in caplog.text
    assert sorted(read_corpus(linked / "**").texts) == INSIDE
    assert sorted(read_corpus(f"{linked}/*.txt").texts) == ["good", "good"]
    # What is named itself may be a link, a directory as well as a file.
    link = linked.parent / "link"
    link.symlink_to("corpus")
    assert sorted(read_corpus(link).texts) == INSIDE
    assert sorted(read_corpus(f"{link}/").texts) == INSIDE
    assert read_corpus(linked / "out.txt").texts == ["private one"]
    assert read_corpus(linked / "more").texts == ["private two"]


def test_a_pattern_and_links_to_folders(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_corpus(f"{linked}/[y]").texts == ["inside"]
    # As a glob would that goes on behind links.
    info = {"type": "file", "islink": False}
    found = {f"{linked}/{name}": info for name in ("good.txt", "more/k.txt")}
    monkeypatch.setattr(LocalFileSystem, "glob", lambda *_, **__: found)
    assert read_corpus(f"{linked}/*/*").texts == ["good"]
    assert sorted(read_corpus(f"{linked}/*/*", follow_symlinks=True).texts) == [
        "good", "private two",
    ]  # fmt: skip


def test_a_folder_whose_name_begins_like_the_corpus_is_not_in_it(tmp_path: Path) -> None:
    write(tmp_path / "corpus" / "a.txt", "inside")
    write(tmp_path / "corpus-2" / "b.txt", "outside")
    (tmp_path / "corpus" / "link.txt").symlink_to(tmp_path / "corpus-2" / "b.txt")
    (tmp_path / "corpus" / "folder").symlink_to(tmp_path / "corpus-2")
    assert read_corpus(tmp_path / "corpus").texts == ["inside"]


def test_links_out_of_the_corpus_on_request(linked: Path) -> None:
    found = sorted(read_corpus(linked, follow_symlinks=True).texts)
    # The folder of keys is reached by two links, and read once; a device is never read.
    assert found == [*INSIDE, "private one", "private one", "private one", "private two"]


def test_a_corpus_of_links_alone_names_the_flag(tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--a--b/snapshots/0f"
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").symlink_to("../../blobs/readme")
    for name in ("train.jsonl", "test.jsonl"):
        write(tmp_path / "datasets--a--b/blobs" / name[:4], [json.dumps({"text": name})])
        (snapshot / name).symlink_to(f"../../blobs/{name[:4]}")
    for pattern in (snapshot, snapshot / "*.jsonl"):
        said = said_of(pattern)
        assert str(snapshot) in said
        assert "--follow-symlinks" in said
    assert len(read_corpus(snapshot, follow_symlinks=True).texts) == 2


@pytest.mark.parametrize("name", ["pipe.jsonl", "device.jsonl", "socket.jsonl"])
def test_only_regular_files_are_read(tmp_path: Path, name: str) -> None:
    import socket

    corpus = tmp_path / "corpus"
    write(corpus / "a.jsonl", ['{"text": "a"}'])
    special = corpus / name
    if name.startswith("pipe"):
        os.mkfifo(special)
    elif name.startswith("socket"):
        socket.socket(socket.AF_UNIX).bind(os.path.relpath(special))
    else:
        special.symlink_to("/dev/zero")
    (corpus / "link.jsonl").symlink_to(special)
    for settings in ({}, {"follow_symlinks": True}):
        assert read_corpus(corpus, **settings).texts == ["a"]
        assert read_corpus(corpus / "*.jsonl", **settings).texts == ["a"]
    assert "not a regular file" in said_of(special)
    assert "not a regular file" in said_of(corpus / "link.jsonl")


def table(folder: Path, form: str) -> str:
    """Makes the folder of a table of a format; returns a word of the command that exports it."""
    data = {"delta": "", "delta-parts": "day=1/", "iceberg": "data/", "iceberg-elsewhere": "b0f1/",
            "hudi": "2024/01/"}[form]  # fmt: skip
    path = write(folder / data / "part-0.parquet", "")
    pq.write_table(pa.table({"text": ["old"]}), path)
    if form.startswith("delta"):
        write(folder / "_delta_log/00000000000000000000.json", "{}")
        return f"delta_scan('{folder}')"
    if form.startswith("iceberg"):
        write(folder / "metadata/00000-6d1d.metadata.json", "{}")
        if form == "iceberg-elsewhere":
            write(folder / "metadata/snap-1.avro", "")
        return f"iceberg_scan('{folder}')"
    write(folder / ".hoodie/hoodie.properties", "")
    return f"load('{folder}')"


@pytest.mark.parametrize("form", ["delta", "delta-parts", "iceberg", "iceberg-elsewhere", "hudi"])
def test_a_table_with_a_log_is_refused_with_what_exports_it(tmp_path: Path, form: str) -> None:
    write(tmp_path / "corpus/a.jsonl", ['{"text": "a"}'])
    folder = tmp_path / "corpus" / "tbl"
    command = table(folder, form)
    [part] = folder.rglob("*.parquet")
    inputs = [folder, tmp_path / "corpus", folder / "**/*.parquet", tmp_path / "corpus/*/"]
    if form not in ("hudi", "iceberg-elsewhere"):
        inputs += [part, part.parent]
    for given in inputs:
        assert command in said_of(given)


def test_plain_folders_are_no_tables(tmp_path: Path) -> None:
    for name in ("data/a.parquet", "day=1/b.parquet", "metadata/c.parquet"):
        path = write(tmp_path / name, "")
        pq.write_table(pa.table({"text": [name]}), path)
    assert len(read_corpus(tmp_path).texts) == 3
    assert len(read_corpus(tmp_path / "data/a.parquet").texts) == 1


def test_a_table_on_s3_is_refused(bucket: str, s3_server: str, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server)
    for form in ("delta-parts", "iceberg"):
        table(tmp_path / form, form)
        for path in (tmp_path / form).rglob("*"):
            if path.is_file():
                key = path.relative_to(tmp_path).as_posix()
                client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        for given in (form, f"{form}/**/*.parquet", ""):
            assert "export it first" in said_of(f"s3://{bucket}/{given}")
    assert "delta_scan" in said_of(f"s3://{bucket}/delta-parts/day=1/part-0.parquet")


@pytest.mark.parametrize("where", ["corpus/embeddings", "corpus", "corpus/a/b"])
def test_a_job_never_reads_its_own_output(tmp_path: Path, tiny_model: str, where: str) -> None:
    write_corpus(tmp_path / "corpus", shards=1, rows=20)
    job = tiny_job(tiny_model, tmp_path / "corpus", tmp_path / where, store_text=True)
    first = run_job(job)
    for format_of_all in ("auto", "jsonl"):
        again = run_job(job.model_copy(update={"format": format_of_all}))
        assert again.documents == 20
        assert again.already_complete == (format_of_all == "auto")
    assert run_job(job).version == first.version
    pattern = job.model_copy(update={"inputs": (f"{tmp_path}/corpus/**",)})
    assert run_job(pattern).documents == 20


def test_a_version_is_no_corpus_but_its_parts_are(tmp_path: Path, tiny_model: str) -> None:
    write_corpus(tmp_path / "corpus", shards=1, rows=20)
    out = tmp_path / "out"
    run_job(tiny_job(tiny_model, tmp_path / "corpus", out, store_text=True))
    version = Dataset.latest(out).folder
    for given in (out, version, f"{out}/*/data/*.parquet"):
        assert "what embedkit wrote" in said_of(given)
    parts = list((version / "data").glob("*.parquet"))
    for inputs in ([version / "data"], [version / "data/*.parquet"], parts):
        assert len(read_corpus(*inputs).texts) == 20


def test_another_tool_may_have_folders_of_those_names(tmp_path: Path) -> None:
    for name in ("data/a.jsonl", "rejects/b.jsonl", "report/c.jsonl", "LATEST/d.jsonl"):
        write(tmp_path / name, [json.dumps({"text": name})])
    write(tmp_path / "LATEST.jsonl", [json.dumps({"text": "LATEST"})])
    assert len(read_corpus(tmp_path).texts) == 5
