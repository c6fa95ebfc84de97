"""Blocks for reports of every kind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reporting
from blocks import build_block
from texts import MESSY

from embedkit.records import Reject
from embedkit.reports.report import Report
from embedkit.vectors import EmbeddingBlock


@pytest.fixture(scope="session")
def make_block() -> Callable[..., EmbeddingBlock]:
    return build_block


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    return reporting.make_report


@pytest.fixture(scope="session")
def usual_blocks() -> list[EmbeddingBlock]:
    """Two blocks with long texts, repeated ones and rejects."""
    generator = np.random.default_rng(8)
    lengths = generator.lognormal(3.5, 1.2, 600).astype(int) + 2
    texts = [f"text number {place // 2 if place < 40 else place}" for place in range(600)]
    rejects = tuple(
        Reject("a/b.jsonl", 7 * n, "empty_text", "no text; drop it", excerpt="{}") for n in range(8)
    )
    bad = Reject("a/b.jsonl", 99, "broken_json", "line is no JSON; mend it", "id 9", '{"a": ')
    return [
        build_block(texts[:400], n_tokens=lengths[:400], rejects=rejects, seq=0),
        build_block(texts[400:], n_tokens=lengths[400:], rejects=(bad,), seq=1),
    ]


@pytest.fixture(scope="session")
def hostile_blocks() -> list[EmbeddingBlock]:
    """Texts that mean harm, in every place that a report shows."""
    texts = [
        "<script>alert(1)</script>",
        "\"'><img src=x onerror=alert(1)>",
        "</style></title></svg><svg onload=alert(1)>",
        "{{ 7 * 7 }}{% raw %}",
        "\u202e\u2066right to left\x00\x1b[31m",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 30,
        "W" * 100_000,
        "http://example.com/tracker.png",
        *(text for text in MESSY if text),
    ]
    # Every text twice, so that it shows among the repeated ones; close vectors, so that it pairs.
    vectors = np.random.default_rng(2).normal(size=(len(texts), 8)).astype(np.float32)
    vectors[:8] = vectors[0] + 1e-3 * vectors[:8]
    rejects = tuple(
        Reject(text, place, text[:30], text, text, text) for place, text in enumerate(texts[:8])
    )
    return [
        build_block(
            texts,
            vectors,
            ids=[f"{seq}{text}" for text in texts],
            source=texts[seq],
            rejects=rejects,
            seq=seq,
        )
        for seq in range(2)
    ]


@pytest.fixture(scope="session")
def hostile_dataset() -> dict[str, Any]:
    """A dataset whose own description means harm."""
    bad = "</title><script>alert(1)</script>\x00\ud800"
    return {"version": bad, "model": bad, "prompt": bad, bad: bad, "libraries": {bad: bad}}
