"""Vectors that no sound model makes, which must not cost a version its report."""

import json
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from nights import nightly_job, run
from numpy.typing import NDArray
from running import records, write_jsonl

from embedkit.vectors import TokenBatch

Make = Callable[[np.random.Generator, int, int], NDArray[np.float64]]
"""Makes vectors, shape (n, d), of a generator, n and d."""

ODD: dict[str, Make] = {
    "equal": lambda random, n, d: np.ones((n, 1)) * random.normal(size=d),
    "all but equal": lambda random, n, d: np.ones(d) + random.normal(size=(n, d)) * 1e-7,
    "close": lambda random, n, d: np.ones(d) + random.normal(size=(n, d)) * 1e-4,
    "opposite": lambda random, n, d: np.ones(d) * random.choice([-1, 1], (n, 1)),
    "axes": lambda random, n, d: np.eye(d)[random.integers(0, d, n)],
    "zero": lambda random, n, d: np.zeros((n, d)),
    "subnormal": lambda random, n, d: random.normal(size=(n, d)) * 1e-42,
    "small": lambda random, n, d: random.normal(size=(n, d)) * 1e-25,
    "large": lambda random, n, d: random.normal(size=(n, d)) * 1e20,
    "longer than a float32 tells": lambda random, n, d: random.uniform(1e38, 3e38, (n, d)),
    "of all sizes": lambda random, n, d: 10.0 ** random.integers(-40, 38, (n, d)),
    "some not finite": lambda random, n, d: random.choice([0.5, 1, np.nan, np.inf], (n, d)),
    "none finite": lambda random, n, d: np.full((n, d), np.nan),
}


class OddClient:
    """Makes vectors of any kind."""

    def __init__(self, make: Make, dimension: int) -> None:
        self.calls: list[TokenBatch] = []
        self._make = make
        self._dimension = dimension
        self._random = np.random.default_rng(0)

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            self.calls.append(batch)
            yield self._make(self._random, len(batch), self._dimension).astype(np.float32)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(("rows", "dimension"), [(2, 1), (40, 2), (80, 33)])
@pytest.mark.few(len(ODD))
def test_the_report_of_odd_vectors_is_written(kind, rows, dimension, tiny_model, tmp_path):
    for file in range(2):
        write_jsonl(tmp_path / f"in/{file}.jsonl", records(rows // 2, file * 1000))
    config = nightly_job(tiny_model, tmp_path / "in", tmp_path / "out", reuse="off")
    for version in ("v1", "v2"):
        night = run(
            config.model_copy(update={"version": version}),
            lambda: OddClient(ODD[kind], dimension),
            dimension=dimension,
        )
        report = json.loads((night.dataset.folder / "report/report.json").read_text())
        assert report["counts"]["documents"] == rows
        assert (night.dataset.folder / "report/report.html").stat().st_size
