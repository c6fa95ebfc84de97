"""What a precision costs a real model: Cranfield's nDCG@10."""

import csv
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench import Bench, load_float32
from numpy.typing import NDArray
from throughput import agreement

from embedkit.encoders.base import Encoder
from embedkit.encoders.kinds import load_encoder
from embedkit.tokens.tokenization import TextTokenizer, load_tokenizer
from embedkit.vectors import TokenBatch

Found = dict[str, Any]

_CUT = 10
_TINY_TEXTS = 60


def cranfield(bench: Bench, found: Found) -> None:
    """The model's nDCG@10 in float32, and what each other precision loses of it."""
    if bench.model is None or bench.data is None:
        found["not_here"] = "no --model, or no --data"
        return
    folder = bench.data / "cranfield"
    most = _TINY_TEXTS if bench.tiny else None
    documents, queries = (_texts(folder / f"{name}.jsonl", most) for name in ("corpus", "queries"))
    gains = judgments(folder / "qrels.tsv", list(queries), list(documents))
    texts = [*documents.values(), *queries.values()]
    spec = bench.spec(bench.model)
    tokenizer = load_tokenizer(spec.tokenizer)
    exact = _vectors(load_float32(spec), tokenizer, texts)
    for precision in ("float32", *bench.precisions):
        placed = replace(spec, placement=replace(spec.placement, precision=precision))
        vectors = exact
        if precision != "float32":
            vectors = _vectors(load_encoder(placed), tokenizer, texts)
        ndcg = ndcg_at_10(vectors[len(documents) :] @ vectors[: len(documents)].T, gains)
        found[precision] = {"ndcg_at_10": ndcg, **agreement(vectors, exact)}


def _texts(file: Path, most: int | None) -> dict[str, str]:
    with file.open(encoding="utf-8") as lines:
        records = map(json.loads, itertools.islice(lines, most))
        return {record["id"]: record["text"] for record in records}


def _vectors(encoder: Encoder, tokenizer: TextTokenizer, texts: list[str]) -> NDArray[np.float32]:
    ids, offsets, _ = tokenizer.encode(texts)
    return encoder.encode(TokenBatch(ids, offsets))


def judgments(file: Path, queries: Sequence[str], documents: Sequence[str]) -> NDArray[np.float64]:
    """Reads from BEIR's ``qrels.tsv`` how relevant documents are, shape (queries, documents)."""
    rows = {name: place for place, name in enumerate(queries)}
    columns = {name: place for place, name in enumerate(documents)}
    gains = np.zeros((len(queries), len(documents)))
    with file.open(newline="", encoding="utf-8") as lines:
        for query, document, gain in list(csv.reader(lines, delimiter="\t"))[1:]:
            if query in rows and document in columns:
                gains[rows[query], columns[document]] = float(gain)
    return gains


def ndcg_at_10(scores: NDArray[Any], gains: NDArray[np.float64]) -> float:
    """Returns the mean over queries of the normalized discounted cumulative gain, linear gains.

    Args:
        scores: Shape (queries, documents).
        gains: The same shape; queries without a relevant document are left out.
    """
    judged = gains.max(axis=1) > 0
    scores, gains = scores[judged], gains[judged]
    discounts = 1 / np.log2(np.arange(2, 2 + min(_CUT, gains.shape[1])))
    best = -np.sort(-gains, axis=1)[:, : len(discounts)]
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(discounts)]
    found = np.take_along_axis(gains, order, axis=1)
    return float(((found @ discounts) / (best @ discounts)).mean())
