"""word2vec over the readers of a run, against gensim called by hand."""

import csv
import gzip
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from calling import call
from gensim.models import Word2Vec
from processes import wait_until
from public_data import NO_PUBLIC_DATA, PUBLIC_DATA
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from word_corpus import by_hand, texts

from embedkit.encoders.static.pooling import COUNTS, STATISTICS
from embedkit.encoders.static.vectors import open_vectors
from embedkit.errors import ConfigError, InputError
from embedkit.training.config import Word2VecConfig
from embedkit.training.gensim_model import AfterEachEpoch, CountingWord2Vec
from embedkit.training.sentences import Sentences, word_splitter
from embedkit.training.word2vec import train_word2vec

QUICK = {"dimensions": 12, "epochs": 2, "min_count": 2}
BY_HAND = {"vector_size": 12, "epochs": 2, "min_count": 2, "sg": 1}


def train(tmp_path: Path, *inputs: Path, output: str = "model", **settings: object) -> Path:
    config = {**QUICK, "inputs": inputs, "output": tmp_path / output, **settings}
    train_word2vec(Word2VecConfig(**config))
    return tmp_path / output


def lines(path: Path, written: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in written), encoding="utf-8")
    return path


def check(model: Path, words: list[str], matrix: np.ndarray) -> None:
    found = open_vectors(model)
    assert found.words == words
    np.testing.assert_array_equal(np.asarray(found.matrix), matrix)


@pytest.mark.parametrize(
    ("settings", "by_gensim"),
    [
        ({}, {}),
        ({"algorithm": "cbow", "window": 2, "negative": 3}, {"sg": 0, "window": 2, "negative": 3}),
        ({"subsample": 0, "seed": 5, "epochs": 1}, {"sample": 0, "seed": 5, "epochs": 1}),
        ({"min_count": 300, "dimensions": 5}, {"min_count": 300, "vector_size": 5}),
        ({"learning_rate": 0.1, "subsample": 0.01}, {"alpha": 0.1, "sample": 0.01}),
    ],
    ids=["defaults", "cbow", "no subsampling", "frequent words alone", "learning rate"],
)
def test_with_one_worker_the_vectors_are_those_of_gensim_by_hand(tmp_path, settings, by_gensim):
    corpus = texts()
    model = train(tmp_path, lines(tmp_path / "corpus.txt", corpus), **settings)
    check(model, *by_hand([text.split() for text in corpus], **{**BY_HAND, **by_gensim}))


def test_every_format_and_compression_gives_the_same_vectors(tmp_path):
    corpus = texts(60)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"body": text, "n": 1}) + "\n" for text in corpus)
    with (tmp_path / "b.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["n", "body"], *([1, text] for text in corpus)])
    table = pa.table({"body": corpus, "n": [1] * len(corpus)})
    pq.write_table(table, tmp_path / "c.parquet", row_group_size=7)
    (tmp_path / "d.json").write_text(json.dumps([{"body": text} for text in corpus]))
    data = "".join(f"{text}\n" for text in corpus).encode()
    (tmp_path / "e.txt.zst").write_bytes(zstandard.compress(data))
    wanted = by_hand([text.split() for text in corpus], **BY_HAND)
    for path in sorted(tmp_path.glob("?.*")):
        columns = {} if path.name.startswith("e") else {"text_column": "body"}
        check(train(tmp_path, path, output=f"model-{path.name}", **columns), *wanted)


def test_templates_and_several_files_in_blocks_and_splits_are_one_corpus(tmp_path):
    first, second = texts(40), texts(40, seed=8)
    for name, part in (("one", first), ("two", second)):
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps({"title": "king", "body": text}) + "\n" for text in part)
    settings = {"text_template": "{title} {body}", "split_bytes": 2000, "block_rows": 7}
    model = train(tmp_path, *tmp_path.glob("*.jsonl"), **settings)
    check(model, *by_hand([f"king {text}".split() for text in first + second], **BY_HAND))


def test_words_are_those_that_the_models_tokenizer_finds_in_a_text(tmp_path):
    corpus = ["The KING's  crown, re-made\t(twice).", "ÉTÉ 日本語 e-mail ▁odd ▁ <unk>"] * 30
    model = train(tmp_path, lines(tmp_path / "corpus.txt", corpus), min_count=1)
    words = open_vectors(model).words
    wanted = "the king ' s crown , re - made ( twice ) . été 日本語 e mail odd < unk >".split()
    assert sorted(words) == sorted(wanted)
    encoder = SentenceTransformer(str(model), device="cpu")
    found = open_vectors(model)
    places = [found.index_of(word) for word in ("the", "king", "'", "s", "crown")]
    np.testing.assert_allclose(
        encoder.encode("The King's crown"), np.asarray(found.matrix)[places].mean(axis=0), atol=1e-6
    )


def test_case_stays_where_it_is_asked_for(tmp_path):
    path = lines(tmp_path / "corpus.txt", ["The King and the king"] * 10)
    model = train(tmp_path, path, lowercase=False)
    found = open_vectors(model)
    assert sorted(found.words) == ["King", "The", "and", "king", "the"]
    assert word_splitter(lower_case=False)("The King") == ["The", "King"]


def test_a_long_text_is_trained_to_its_end(tmp_path):
    words = " ".join(texts(1200)).split()
    assert len(words) == 30_000
    words[25_000:] = ["late", "words"] * 2_500
    model = train(tmp_path, lines(tmp_path / "corpus.txt", [" ".join(words)]), subsample=0)
    sentences = [words[start : start + 10_000] for start in range(0, 30_000, 10_000)]
    check(model, *by_hand(sentences, **BY_HAND, sample=0))
    manifest = json.loads((model / "training.json").read_text())
    assert [epoch["trained"] for epoch in manifest["epochs"]] == [30_000, 30_000]


@pytest.mark.soak
def test_another_process_with_other_hashes_writes_the_same_bytes(tmp_path):
    path = lines(tmp_path / "corpus.txt", texts(100))
    here = train(tmp_path, path, output="here", epochs=1, dimensions=8)
    command = [sys.executable, "-m", "embedkit", "train", "word2vec", "corpus.txt", "--min-count=2"]
    ran = subprocess.run(
        [*command, "--output=there", "--epochs=1", "--dimensions=8", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["directory"] == "there"
    one, other = (
        {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        for folder in (here, tmp_path / "there")
    )
    assert one == other
    assert {"training.json", "tokenizer.json", "model.safetensors"} < one.keys()


def test_the_manifest_tells_corpus_settings_versions_losses_and_counts(tmp_path):
    corpus = texts(50)
    path = lines(tmp_path / "corpus.txt", corpus)
    model = train(tmp_path, path)
    told = json.loads((model / "training.json").read_text())
    assert told["corpus"]["named"] == [{"source": "corpus.txt", "bytes": path.stat().st_size}]
    assert (told["corpus"]["texts"], told["corpus"]["rejects"]) == (50, {})
    assert told["settings"]["window"] == 5
    assert told["settings"]["lowercase"] is True
    assert "output" not in told["settings"]
    assert told["versions"]["gensim"]
    assert (told["words"], told["words_in_corpus"]) == (40, 50 * 25)
    first, second = told["epochs"]
    assert first["words"] == second["words"] == 50 * 25
    assert second["loss_of_a_word"] < first["loss_of_a_word"]
    # Other texts of the same sizes have another digest.
    lines(tmp_path / "other.txt", [corpus[1], corpus[0], *corpus[2:]])
    other = train(tmp_path, tmp_path / "other.txt", output="other")
    told_of_other = json.loads((other / "training.json").read_text())
    assert told_of_other["corpus"]["bytes"] == told["corpus"]["bytes"]
    assert told_of_other["corpus"]["texts_digest"] != told["corpus"]["texts_digest"]
    # Words are counted for those who weight by frequency.
    counts = load_file(model / STATISTICS)[COUNTS]
    every = " ".join(corpus).split()
    assert counts.tolist() == [every.count(word) for word in open_vectors(model).words]


def trained(sentences: list[list[str]], workers: int) -> CountingWord2Vec:
    model = CountingWord2Vec(
        on_words=lambda *_: None, vector_size=8, min_count=1, sg=1, workers=workers, batch_words=500
    )
    model.build_vocab(sentences)
    model.train(
        sentences,
        total_examples=model.corpus_count,
        epochs=2,
        compute_loss=True,
        callbacks=[AfterEachEpoch(lambda: None)],
    )
    return model


def test_the_loss_is_gensims_own_and_several_threads_lose_none_of_it():
    sentences = [text.split() for text in texts(400)]
    alone = trained(sentences, workers=1)
    gensim = Word2Vec(
        sentences, vector_size=8, min_count=1, sg=1, workers=1, batch_words=500, epochs=2,
        compute_loss=True,
    )  # fmt: skip
    np.testing.assert_array_equal(alone.wv.vectors, gensim.wv.vectors)
    losses = [epoch.loss for epoch in alone.epochs_done]
    assert sum(losses) == pytest.approx(gensim.get_latest_training_loss(), rel=1e-4)
    together = trained(sentences, workers=4)
    for one, other in zip(alone.epochs_done, together.epochs_done, strict=True):
        assert other.words == one.words == 10_000
        assert other.loss == pytest.approx(one.loss, rel=0.1)


class _Failing:
    """Texts whose second reading fails in the middle."""

    def __init__(self) -> None:
        self.readings = 0

    def __iter__(self):
        self.readings += 1
        yield from texts(20)
        if self.readings > 1:
            raise InputError("corpus.txt: gone")
        yield from texts(20)


@pytest.mark.timeout(60)
def test_a_file_that_goes_while_it_is_read_ends_the_training():
    sentences = Sentences(_Failing(), str.split)
    model = CountingWord2Vec(on_words=lambda *_: None, vector_size=4, min_count=1)
    model.build_vocab(sentences)
    sentences.check()
    with pytest.raises(InputError, match="gone"):
        model.train(
            sentences,
            total_examples=model.corpus_count,
            epochs=3,
            callbacks=[AfterEachEpoch(sentences.check)],
        )


@pytest.mark.timeout(60)
def test_a_batch_that_fails_ends_the_training():
    def fails(epoch, words):
        raise MemoryError("no room")

    model = CountingWord2Vec(on_words=fails, vector_size=4, min_count=1, workers=2)
    sentences = [text.split() for text in texts(20)]
    model.build_vocab(sentences)
    with pytest.raises(MemoryError, match="no room"):
        model.train(
            sentences,
            total_examples=model.corpus_count,
            epochs=2,
            callbacks=[AfterEachEpoch(lambda: None)],
        )


def test_long_texts_are_split_piece_by_piece(monkeypatch):
    text = "one two\tthree\nfour  five-six " * 50 + "x" * 300 + " end"
    expected = list(Sentences([text], word_splitter(True)))
    pieces = []
    monkeypatch.setattr("embedkit.training.sentences._MOST_CHARACTERS", 64)
    split = word_splitter(True)
    found = list(Sentences([text], lambda piece: pieces.append(piece) or split(piece)))
    assert found == expected
    assert len(pieces) > 10
    assert "".join(pieces) == text
    monkeypatch.setattr("embedkit.training.sentences.MOST_WORDS", 7)
    cut = list(Sentences([text], split))
    assert [word for words in cut for word in words] == expected[0]
    assert {len(words) for words in cut[:-1]} == {7}


def test_rejects_are_counted_and_said(tmp_path, caplog):
    good = [json.dumps({"text": text}) for text in texts(20)]
    bad = [json.dumps({"text": "long " * 2000}), "{", json.dumps({"text": " "})]
    path = lines(tmp_path / "corpus.jsonl", [*good[:10], *bad, *good[10:]])
    with caplog.at_level(logging.WARNING):
        model = train(tmp_path, path, max_record_bytes=5000)
    told = json.loads((model / "training.json").read_text())["corpus"]
    assert told["texts"] == 20
    assert told["rejects"] == {"too_long": 1, "invalid_json": 1, "empty_text": 1}
    assert "1 records left out: too_long, such as corpus.jsonl, line 11" in caplog.text
    answer = call(
        "train", "word2vec", str(path), f"--output={tmp_path / 'again'}", "--min-count=1",
        "--epochs=1", "--max-record-bytes=5000",
    )  # fmt: skip
    assert answer.code == 0
    assert "20 texts of 1 files, 3 rejects" in answer.out


@pytest.mark.parametrize(
    ("written", "settings", "said"),
    [
        (["one two three"], {"min_count": 2}, "0 words occur 2 times or more, of 3 words"),
        (["same same same"], {"min_count": 2}, "1 words occur 2 times or more, of 3 words"),
        (["!"], {"min_count": 2}, "0 words occur 2 times or more, of 1 words in 1 texts"),
        ([], {}, "0 words occur 2 times or more, of 0 words in 0 texts"),
    ],
)
def test_too_few_words_are_refused_in_one_line(tmp_path, written, settings, said):
    path = lines(tmp_path / "corpus.txt", written)
    with pytest.raises(InputError, match=said):
        train(tmp_path, path, **settings)
    assert [one.name for one in tmp_path.iterdir()] == ["corpus.txt"]


def test_a_directory_that_holds_something_is_refused_before_anything_is_read(tmp_path):
    for name in ("model", "file"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "notes.txt").write_text("mine")
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ConfigError, match="exists already; remove it"):
            train(tmp_path, tmp_path / "there-is-none.txt", output=name)
    with pytest.raises(ConfigError, match="written to a local directory"):
        train_word2vec(Word2VecConfig(inputs=["a.txt"], output="s3://bucket/model"))
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"
    # An empty one may be there.
    (tmp_path / "empty").mkdir()
    path = lines(tmp_path / "corpus.txt", texts(20))
    assert (train(tmp_path, path, output="empty") / "training.json").exists()


def test_without_gensim_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="install the extra train of embedkit-batch"):
        train(tmp_path, lines(tmp_path / "corpus.txt", texts(5)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--window=0"], "window = 0: input should be greater than 0"),
        (["--subsample=1"], "subsample = 1.0: input should be less than 1"),
        (["--algorithm=glove"], "'glove' is not one of"),
        (["--chunk=tokens"], "No such option: --chunk"),
        (["--text-column=body"], "has the text column 'body'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, arguments, said):
    path = lines(tmp_path / "corpus.jsonl", [json.dumps({"text": text}) for text in texts(5)])
    try:
        answer = call("train", "word2vec", str(path), f"--output={tmp_path / 'm'}", *arguments)
    except Exception as error:  # noqa: BLE001 - what the checker of options says
        assert said in str(error)
    else:
        assert answer.code == 2
        assert said in answer.error


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)]
)
def test_killed_half_way_it_leaves_nothing(tmp_path, number):
    lines(tmp_path / "corpus.txt", texts(2000))
    command = [sys.executable, "-m", "embedkit", "train", "word2vec", "corpus.txt"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--output=model", "--epochs=100000"], cwd=tmp_path, stderr=log
        )
        wait_until(lambda: "training 40 words" in (tmp_path / "log").read_text(), process)
        process.send_signal(number)
        assert process.wait(60) == (4 if number == signal.SIGTERM else -number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "log"]


@pytest.mark.soak
@pytest.mark.skipif(not PUBLIC_DATA.exists(), reason=NO_PUBLIC_DATA)
def test_wikitext_is_trained_as_by_hand(tmp_path):
    paths = [PUBLIC_DATA / "wikitext2" / name for name in ("test.txt", "valid.txt")]
    split = word_splitter(lower_case=True)
    sentences = [
        split(line)
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    model = train(tmp_path, *paths, min_count=5, dimensions=100, epochs=5)
    check(model, *by_hand(sentences, sg=1, vector_size=100, epochs=5, min_count=5))
