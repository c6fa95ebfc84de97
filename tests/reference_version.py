"""What a run makes of some texts, good and bad: what every adapter is held against."""

import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from running import Dataset, records, tiny_job

from embedkit.engines.run import run_job

SETTINGS: dict[str, Any] = {
    "pooling": "mean",
    "normalize": True,
    "backend": "torch",
    "precision": "float32",
    "encoder_threads": 1,
    "prompt": "text: ",
    "max_tokens": 24,
}
"""Settings of the model, as adapters take them."""

BAD: dict[str, Any] = {
    "empty": "",
    "white": " \n\t ",
    "null": None,
    "number": 7,
    "list": ["one"],
    "truth": True,
    "nul": "a\0b",
    "surrogate": "half \ud83d",
    "unseen": "\u200b\u2060",
}
"""Texts that cannot be embedded, by id."""


@dataclass
class Reference:
    """The rows, and what a run made of each."""

    rows: list[dict[str, Any]]
    vectors: dict[str, np.ndarray]
    reasons: dict[str, str]

    def check(self, found: dict[str, Any], atol: float = 0.0) -> None:
        """Compares vectors and reasons by id, all of which must be there."""
        assert found.keys() <= {row["id"] for row in self.rows}
        for name, one in found.items():
            if name in self.reasons:
                assert one == self.reasons[name], name
            else:
                vector = np.asarray(one)
                np.testing.assert_allclose(vector, self.vectors[name], rtol=0, atol=atol)


@lru_cache
def reference(model: str, **settings: Any) -> Reference:
    """Runs the plain engine over all rows, which are one block."""
    good = records(48)
    rows = [{"id": name, "text": text, "title": name} for name, text in BAD.items()]
    rows = [row for pair in zip(good, rows, strict=False) for row in pair] + good[len(rows) :]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        # Escapes alone can hold half of a pair.
        corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sizes = {"block_rows": 8192, "split_bytes": 1 << 25, "max_reject_share": 1.0}
        job = tiny_job(
            model, corpus, Path(folder) / "out", id_column="id", **SETTINGS, **sizes, **settings
        )
        run_job(job)
        dataset = Dataset.only(Path(folder) / "out")
        table = dataset.table
        vectors = np.stack(table["embedding"].to_numpy())
        ids = table["id"].to_pylist()
        reasons = {one["doc_id"]: one["reason"] for one in dataset.rejects}
    assert len(ids) + len(reasons) == len(rows)
    return Reference(rows, dict(zip(ids, vectors, strict=True)), reasons)


def beam_reference(model: str) -> Reference:
    """Returns the same without half a surrogate pair, which Beam's coders do not take."""
    run = reference(model)
    kept = [row for row in run.rows if row["id"] != "surrogate"]
    reasons = {name: reason for name, reason in run.reasons.items() if name != "surrogate"}
    return Reference(kept, run.vectors, reasons)
