"""Texts of other encodings and line ends are read as what they say, or rejected by name."""

import codecs
import gzip
import io
import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from reading import corpus_config, read_corpus, write

from embedkit.config import CorpusConfig
from embedkit.corpus import encodings
from embedkit.corpus.plan import plan_corpus
from embedkit.errors import ConfigError, InputError

TEXTS = ["plain", "Grüße, überall", "漢字 and 😀", "a ”quoted” one", "\ufeffinside", "x" * 70_000]
CONTENT = {
    "txt": lambda texts: "".join(f"{text}\n" for text in texts),
    "jsonl": lambda texts: "".join(
        json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts
    ),
    "csv": lambda texts: "id,text\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(texts)),
    "tsv": lambda texts: "id\ttext\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(texts)),
}
ENDS = {"unix": "\n", "windows": "\r\n", "mac": "\r"}
MARKED = {
    "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE,
    "utf-8": codecs.BOM_UTF8,
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("form", CONTENT)
@pytest.mark.parametrize("encoding", MARKED)
def test_a_mark_tells_the_encoding(tmp_path: Path, encoding: str, form: str, end: str) -> None:
    data = MARKED[encoding] + CONTENT[form](TEXTS).replace("\n", ENDS[end]).encode(encoding)
    (tmp_path / f"a.{form}").write_bytes(data)
    (tmp_path / f"b.{form}.gz").write_bytes(gzip.compress(data))
    corpus = read_corpus(tmp_path, split_bytes=1000)
    assert corpus.texts == TEXTS * 2
    assert corpus.rejects == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("form", CONTENT)
@pytest.mark.parametrize(
    ("encoding", "given"),
    [
        ("utf-16-le", "utf-16"), ("utf-16-be", "UTF-16"), ("utf-16-be", "utf-16-be"),
        ("utf-32-be", "utf-32"), ("latin-1", "latin-1"), ("cp1252", "windows-1252"),
        ("shift_jis", "shift_jis"), ("gb18030", "gb18030"), ("utf-8", "utf8"), ("ascii", "ascii"),
    ],
)  # fmt: skip
def test_an_encoding_is_named(
    tmp_path: Path, encoding: str, given: str, form: str, end: str
) -> None:
    texts = [text for text in TEXTS if text.encode(encoding, "ignore").decode(encoding) == text]
    data = CONTENT[form](texts).replace("\n", ENDS[end]).encode(encoding)
    path = tmp_path / f"a.{form}"
    path.write_bytes(data)
    corpus = read_corpus(path, encoding=given, split_bytes=1000)
    assert corpus.texts == texts
    assert corpus.rejects == []
    if form == "csv":
        frame = pd.read_csv(io.BytesIO(data), encoding=encoding, dtype=str)
        assert corpus.texts == frame["text"].tolist()


@pytest.mark.parametrize("form", CONTENT)
def test_what_is_no_text_in_the_encoding_costs_its_record(tmp_path: Path, form: str) -> None:
    texts = ["one", "a\ud800b", "two"]
    path = tmp_path / f"a.{form}"
    content = CONTENT[form](texts)
    path.write_bytes(codecs.BOM_UTF16_LE + content.encode("utf-16-le", "surrogatepass") + b"x")
    corpus = read_corpus(path)
    assert corpus.texts == ["one", "two"]
    assert corpus.reasons == ["invalid_utf8"] * 2
    assert "--encoding" in corpus.rejects[0].detail


def test_wrong_bytes_of_a_named_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\nca\xe9\ntwo\n")
    corpus = read_corpus(path, encoding="ascii")
    assert (corpus.texts, corpus.reasons) == (["one", "two"], ["invalid_utf8"])
    assert read_corpus(path, encoding="latin-1").texts == ["one", "caé", "two"]
    assert "--encoding" in read_corpus(path).rejects[0].detail


@pytest.mark.parametrize("unit", ["line", "paragraph", "file"])
def test_carriage_returns_alone(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\rtwo\r\rthree\r")
    texts = {
        "line": ["one", "two", "three"],
        "paragraph": ["one\ntwo", "three"],
        "file": ["one\rtwo\r\rthree\r"],
    }
    for split_bytes in (3, 100):
        assert read_corpus(path, text_unit=unit, split_bytes=split_bytes).texts == texts[unit]


def test_a_return_among_other_line_ends_is_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\rtwo\nthree\r\n")
    assert read_corpus(path).texts == ["one\rtwo", "three"]


def test_a_mark_before_a_quoted_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes('"text","id"\n"a, b","1"\n'.encode(encoding))
        assert read_corpus(path, id_column="id").texts == ["a, b"]


def test_utf16_without_a_mark_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,text\n1,hello\n".encode("utf-16-le"))
    with pytest.raises(InputError, match="--encoding utf-16"):
        plan_corpus(corpus_config(path))


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("name", ["a.txt", "b.jsonl", "c.csv", "d.txt.gz", "e.jsonl.zst"])
def test_utf16_without_a_mark_is_named_in_every_format(
    tmp_path: Path, name: str, order: str
) -> None:
    text = '{"text": "hello"}\n' if "json" in name else "text\nhello there\n"
    path = write(tmp_path / name, text.encode(f"utf-16-{order}"))
    with pytest.raises(InputError, match=f"--encoding utf-16-{order}"):
        read_corpus(path)
    assert read_corpus(path, encoding=f"utf-16-{order}").texts


def test_what_a_mark_told_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings, "_told", set())
    for name in "ab":
        (tmp_path / f"{name}.txt").write_bytes("x\n".encode("utf-16"))
    with caplog.at_level(logging.WARNING):
        read_corpus(tmp_path)
    [message] = [record.getMessage() for record in caplog.records]
    assert "a.txt begins with the mark of UTF-16" in message


@pytest.mark.parametrize("name", ["no-such", "rot13", "base64", "idna", "punycode", "undefined"])
def test_what_is_no_encoding_of_text(name: str) -> None:
    with pytest.raises(ConfigError, match="no encoding of text"):
        CorpusConfig(inputs=("x",), encoding=name)
