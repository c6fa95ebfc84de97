"""Hits of a search in the order in which a cross-encoder puts them."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.config import ModelConfig
from embedkit.dataset.manifest import Manifest
from embedkit.encoders.kinds import read_scorer
from embedkit.encoders.local_client import LocalConnection
from embedkit.errors import ConfigError
from embedkit.search.exact import Hit
from embedkit.tokens.pairs import PairTokenizer, load_row_tokenizer
from embedkit.vectors import TokenBatch

USUAL_CANDIDATES = 50
"""Rows that a cross-encoder scores where nobody says how many, or as many as are wanted."""


class Reranker:
    """Scores texts for a query by a cross-encoder, on the CPU in float32.

    Args:
        model: The cross-encoder's directory or hub id.

    Raises:
        ConfigError: There is no such model, or it has several labels.
    """

    def __init__(self, model: str | os.PathLike[str]) -> None:
        config = ModelConfig(model=os.fspath(model), device="cpu", precision="float32")
        spec = read_scorer(config)
        if spec.vectors.dimension != 1:
            raise ConfigError(
                f"{config.model}: has {spec.vectors.dimension} labels, and an order needs one "
                "score; take a cross-encoder with one label"
            )
        self._tokenizer = load_row_tokenizer(spec.tokenizer)
        self._client = LocalConnection(spec)()

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the score of each text, float32, shape (texts,)."""
        assert isinstance(self._tokenizer, PairTokenizer), "its rows are pairs"
        if not texts:
            return np.empty(0, dtype=np.float32)
        tokens = self._tokenizer.encode([query] * len(texts), texts)
        batch = TokenBatch(tokens.input_ids, tokens.offsets, seconds=tokens.seconds)
        scores: NDArray[np.float32] = next(self._client.encode_all([batch]))[:, 0]
        return scores

    def rerank(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        """Returns hits by falling score for a query, those of one score in the order they had.

        Args:
            query: What was looked for, without a prompt.
            hits: Hits with their texts.

        Raises:
            ConfigError: A hit has no text.
        """
        texts = [hit.text for hit in hits if hit.text is not None]
        if len(texts) < len(hits):
            raise ConfigError(_NO_TEXT)
        scored = [
            replace(hit, rerank_score=float(score))
            for hit, score in zip(hits, self.scores(query, texts), strict=True)
        ]
        return sorted(scored, key=_falling)


_NO_TEXT = (
    "the version stores no texts, which a cross-encoder reads; run its job with --store-text, or "
    "search without --rerank"
)


def check_texts(manifest: Manifest) -> None:
    """Checks that a version has the texts that a cross-encoder reads.

    Raises:
        ConfigError: It stores none.
    """
    if manifest.description.get("stores_text") is False:
        raise ConfigError(f"{manifest.version}: {_NO_TEXT}")


def candidates_of(k: int, candidates: int | None) -> int:
    """Returns how many rows are scored.

    Args:
        k: Rows that are wanted.
        candidates: How many somebody asks for.

    Raises:
        ConfigError: These are fewer than are wanted.
    """
    if candidates is None:
        return max(k, USUAL_CANDIDATES)
    if candidates < k:
        raise ConfigError(
            f"rerank_candidates is {candidates}, but {k} rows are wanted; take at least as many"
        )
    return candidates


def _falling(hit: Hit) -> float:
    score = hit.rerank_score
    # What is not finite comes last.
    return -score if score is not None and np.isfinite(score) else np.inf
