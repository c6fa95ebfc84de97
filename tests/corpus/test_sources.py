"""Which files the inputs name, in which order, on which file systems."""

import gzip
import io
import json
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import COMPRESS, corpus_config, read_corpus, read_plan, write

from embedkit.corpus.plan import plan_corpus
from embedkit.corpus.sources import list_inputs
from embedkit.errors import ConfigError, InputError, ResumableError
from embedkit.hashes.digests import place_id


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/two.txt", "a/one.txt", "a/deep/three.txt", "a/deep/x.jsonl", "c.csv"):
        write(tmp_path / name, ['{"text": "t"}'] if name.endswith("jsonl") else ["text", name])
    for name in ("a/.hidden.txt", "a/_made/part.txt", ".git/x.txt", "a/_SUCCESS", "a/README.md"):
        write(tmp_path / name, "no input")
    return tmp_path


def sources(*inputs: Path | str, **settings: object) -> list[str]:
    return [file.source for file in list_inputs(corpus_config(*inputs, **settings)).files]


def test_a_directory_is_searched_to_its_bottom(tree: Path) -> None:
    listing = list_inputs(corpus_config(tree))
    found = [file.source for file in listing.files]
    assert found == ["a/deep/three.txt", "a/deep/x.jsonl", "a/one.txt", "b/two.txt", "c.csv"]
    assert {os.path.relpath(name, tree) for name in listing.skipped} == {
        "a/.hidden.txt", "a/_made/part.txt", ".git/x.txt", "a/_SUCCESS", "a/README.md",
    }  # fmt: skip
    assert listing.skipped_files == 5


def test_skipped_files_are_said(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plan = plan_corpus(corpus_config(tree))
    assert "5 files are no input" in caplog.text
    assert plan.skipped_files == 5


def test_globs_and_several_inputs(tree: Path) -> None:
    assert sources(tree / "*" / "*.txt") == ["a/one.txt", "b/two.txt"]
    assert sources(tree / "a" / "**" / "*.txt") == ["deep/three.txt", "one.txt"]
    assert sources(tree / "[bc]*") == ["b/two.txt", "c.csv"]
    assert sources(tree / "b", tree / "a/one.txt") == ["a/one.txt", "b/two.txt"]
    # A file that two inputs name is read once, and the order of inputs does not matter.
    assert sources(tree / "a/one.txt", tree / "a", tree / "a/*.txt") == sources(tree / "a")
    assert sources(tree / "b", tree / "a") == sources(tree / "a", tree / "b")


def test_a_file_that_is_named_is_an_input_whatever_its_name(tree: Path) -> None:
    assert sources(tree / "a/.hidden.txt") == [".hidden.txt"]
    assert sources(tree / "a/_made") == ["part.txt"]
    assert sources(tree / "a/README.md", format="text") == ["README.md"]
    with pytest.raises(ConfigError, match=r"README\.md: its suffix tells no format"):
        sources(tree / "a/README.md")
    with pytest.raises(InputError, match=r"holds no file whose suffix .*README\.md"):
        sources(tree / "a/*.md")
    for suffix in (".lz4", ".snappy", ".br", ".zip", ".TAR"):
        write(tree / f"a/b.jsonl{suffix}", "x")
        with pytest.raises(ConfigError, match=rf"b\.jsonl{suffix}: is {suffix} by .* unpack it"):
            sources(tree / f"a/b.jsonl{suffix}")


def test_formats_follow_suffixes_in_any_case(tmp_path: Path) -> None:
    write(tmp_path / "A.TXT", "x")
    (tmp_path / "B.JSONL.GZ").write_bytes(COMPRESS[".gz"](b'{"text": "y"}'))
    corpus = read_corpus(tmp_path)
    assert corpus.texts == ["x", "y"]
    assert read_corpus(tmp_path / "A.TXT", format="text", compression="none").texts == ["x"]


def test_names_with_glob_characters_and_spaces(tmp_path: Path) -> None:
    names = ["a [1].txt", "b?.txt", "c*.txt", "ü 漢.txt", "percent%20.txt", "hash#.txt"]
    for name in names:
        write(tmp_path / name, name)
    assert sorted(read_corpus(tmp_path).texts) == sorted(names)
    for name in names:
        assert read_corpus(tmp_path / name).texts == [name]


def test_relative_paths_home_and_file_urls(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    monkeypatch.setenv("HOME", str(tree))
    wanted = read_corpus(tree / "a").table
    for name in ("a", "./a", "b/../a", "~/a", f"file://{tree}/a", f"{tree}/a/"):
        assert read_corpus(name).table.equals(wanted)


def test_links_out_of_the_corpus_are_followed_when_asked(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("links")
    settings = {"follow_symlinks": True}
    (folder / "link.txt").symlink_to(tree / "a/one.txt")
    assert read_corpus(folder, **settings).texts == ["text", "a/one.txt"]
    (folder / "part").symlink_to(tree / "b")
    (folder / "part-again").symlink_to(tree / "b")
    (folder / "loop").symlink_to(folder)
    assert sources(folder, **settings) == ["link.txt", "part/two.txt"]
    (folder / "dangling.txt").symlink_to(tree / "gone.txt")
    with pytest.raises(InputError, match=r"dangling\.txt: no such file"):
        read_corpus(folder, **settings)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        sources(path)


def test_a_folder_that_may_not_be_read_is_not_passed_over(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.scandir

    def scandir(path: str) -> object:
        # Root may read everything, so the refusal is played.
        if path.endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"a/deep: cannot be listed \(Permission denied\)"):
        sources(tree)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense://a/b.txt", "nonsense"),
        ("zip://x.txt::file:///a.zip", "chains"),
    ],
)
def test_urls_that_cannot_be_read(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        sources(url)
    assert "\n" not in str(error.value)


def test_a_compressed_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet.gz").write_bytes(b"x")
    with pytest.raises(ConfigError, match="decompress it"):
        sources(tmp_path)


def test_the_base_settles_sources_and_ids(tree: Path) -> None:
    named = read_corpus(tree / "a" / "one.txt", base=str(tree))
    assert named.plan.base == str(tree)
    assert named.ids == [place_id("a/one.txt", 0), place_id("a/one.txt", 5)]
    assert set(named.ids) < set(read_corpus(tree / "*" / "*.txt").ids)
    with pytest.raises(ConfigError, match="not below base"):
        sources(tree / "a", base=str(tree / "b"))


def test_derived_ids_follow_places_not_roots(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tables = []
    for settings in ({"split_bytes": 50}, {"split_bytes": 1 << 20, "block_rows": 3}):
        root = tmp_path_factory.mktemp("root")
        for name in ("a/x.jsonl", "b/y.jsonl.gz"):
            write(root / name, [json.dumps({"text": f"{name} {n}"}) for n in range(40)])
        tables.append(read_corpus(root, **settings).table)
        tables.append(read_corpus(root / "b", root / "a" / "*", **settings).table)
    for other in tables[1:]:
        assert other.equals(tables[0])
    first = tables[0].slice(0, 1).to_pylist()[0]
    # Written down once: an id must never change from one release to the next.
    assert (first["source"], first["row_index"]) == ("a/x.jsonl", 0)
    assert first["id"] == first["doc_id"] == place_id("a/x.jsonl", 0)


def test_ids_of_places_never_change() -> None:
    # BLAKE2b-128 over length and bytes of "a/x.jsonl" and "1234", as hashlib gives it.
    import hashlib

    data = b"".join(len(part).to_bytes(8, "little") + part for part in (b"a/x.jsonl", b"1234"))
    assert place_id("a/x.jsonl", 1234) == hashlib.blake2b(data, digest_size=16).hexdigest()


def test_small_files_share_a_split(tmp_path: Path) -> None:
    for n in range(300):
        write(tmp_path / f"{n:03d}.txt", f"only line of {n}\n")
    corpus = read_corpus(tmp_path, split_bytes=1000)
    assert corpus.texts == [f"only line of {n}" for n in range(300)]
    sizes = [sum(piece.stored for piece in split.ranges) for split in corpus.plan.splits]
    assert 500 <= min(sizes[:-1]) <= max(sizes) <= 1000
    assert len(corpus.blocks) == len(sizes)


def test_no_split_holds_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.corpus.plan.MOST_FILES_OF_A_SPLIT", 7)
    for n in range(30):
        write(tmp_path / f"{n:03d}.txt", "")
    plan = plan_corpus(corpus_config(tmp_path))
    counts = [len(split.ranges) for split in plan.splits]
    assert 4 <= min(counts[:-1]) <= max(counts) <= 7
    assert sum(counts) == 30


@pytest.fixture
def memory() -> Iterator[str]:
    name = f"corpus-{secrets.token_hex(4)}"
    yield f"memory://{name}"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


def put(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)


def put_corpus(root: str) -> dict[str, bytes]:
    """Puts the same records in several formats under a URL."""
    lines = "".join(json.dumps({"text": f"text {n} ü"}) + "\n" for n in range(200)).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [f"text {n} ü" for n in range(200)]}), sink, 30)
    files = {
        "a.jsonl": lines,
        "deep/b.jsonl.gz": COMPRESS[".gz"](lines),
        "deep/c.jsonl.zst": COMPRESS[".zst"](lines),
        "d.parquet": sink.getvalue().to_pybytes(),
        "_not/e.jsonl": lines,
    }
    for name, data in files.items():
        put(f"{root}/{name}", data)
    return files


def check_remote(root: str, local: Path) -> None:
    files = put_corpus(root)
    for name, data in files.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(data)
    settings = {"split_bytes": 700, "block_rows": 50}
    wanted = read_corpus(local, **settings).table
    assert wanted.num_rows == 800
    for inputs in (
        [root],
        [f"{root}/"],
        [f"{root}/*.jsonl", f"{root}/deep/**", f"{root}/d.parquet"],
        [f"{root}/{name}" for name in files if not name.startswith("_")],
    ):
        assert read_corpus(*inputs, **settings).table.equals(wanted)
    mixed = read_corpus(f"{root}/a.jsonl", local / "d.parquet", **settings)
    assert mixed.table.num_rows == 400
    with pytest.raises(InputError, match="no such file"):
        read_corpus(f"{root}/gone.jsonl")
    with pytest.raises(InputError, match="matches no file"):
        read_corpus(f"{root}/gone/*.jsonl")
    config = corpus_config(f"{root}/*.jsonl")
    plan = plan_corpus(config)
    put(f"{root}/a.jsonl", files["a.jsonl"] + b'{"text": "more"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl: changed since the plan"):
        read_plan(plan, config)
    fsspec.core.url_to_fs(root)[0].rm(f"{root}/a.jsonl")
    with pytest.raises(InputError, match=r"a\.jsonl: no such file"):
        read_plan(plan, config)


def test_memory(memory: str, tmp_path: Path) -> None:
    check_remote(memory, tmp_path)


def test_s3(bucket: str, tmp_path: Path) -> None:
    check_remote(f"s3://{bucket}/folder", tmp_path)


def test_s3_listings_are_not_remembered(bucket: str, s3_server: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server)
    for number in (1, 2):
        # Written behind the back of the file system that lists.
        client.put_object(Bucket=bucket, Key=f"{number}.txt", Body=b"line\n")
        assert len(sources(f"s3://{bucket}/*.txt")) == number
        assert len(sources(f"s3://{bucket}")) == number


def test_s3_that_does_not_answer_or_refuses(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with pytest.raises(InputError) as error:
        read_corpus("s3://no-such-bucket-at-all/x.txt")
    assert "\n" not in str(error.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    for url in (f"s3://{bucket}/x.txt", f"s3://{bucket}/*.txt"):
        with pytest.raises(ResumableError, match="cannot be listed") as error:
            read_corpus(url)
        assert "\n" not in str(error.value)
        assert url in str(error.value)


def test_what_a_store_unpacks_on_the_way_is_refused(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fsspec.open(f"{memory}/a.jsonl.gz", "wb") as file:
        file.write(gzip.compress(b'{"text": "one"}\n'))
    store = fsspec.filesystem("memory")
    info = type(store).info

    def encoded(self: object, path: str, **more: object) -> dict[str, object]:
        return {**info(self, path, **more), "contentEncoding": "gzip"}

    monkeypatch.setattr(type(store), "info", encoded)
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: is stored with Content-Encoding gzip"):
        read_corpus(f"{memory}/a.jsonl.gz")


def test_a_store_that_gives_fewer_bytes_than_it_lists_loses_no_record_in_silence(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fsspec.open(f"{memory}/a.txt", "wb") as file:
        file.write(b"one\ntwo\n")
    store = fsspec.filesystem("memory")
    opened = type(store).open

    def short(self: object, path: str, mode: str = "rb", **more: object) -> io.BytesIO:
        return io.BytesIO(opened(self, path, mode, **more).read()[:4])

    monkeypatch.setattr(type(store), "open", short)
    with pytest.raises(InputError, match=r"a\.txt: its store gives 0 bytes from 4 on"):
        read_corpus(f"{memory}/a.txt")
