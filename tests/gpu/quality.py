"""What a precision costs a real model: Cranfield's nDCG@10."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from bench import Bench, in_float32, with_placement
from ndcg import judgments, ndcg_at_10
from numpy.typing import NDArray
from throughput import agreement

from embedkit.encoders.base import Encoder
from embedkit.encoders.kinds import load_encoder
from embedkit.tokens.text_tokenizer import TextTokenizer
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

Found = dict[str, Any]

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
    exact = _vectors(load_encoder(in_float32(spec)), tokenizer, texts)
    for precision in ("float32", *bench.precisions):
        vectors = exact
        if precision != "float32":
            placed = with_placement(spec, precision=precision)
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
