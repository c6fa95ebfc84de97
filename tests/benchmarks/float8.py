"""What float8 costs in quality on all of STS-B dev and Cranfield, emulated on the CPU."""

import argparse
import time
from dataclasses import replace

import numpy as np

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch
from tests.benchmarks.corpus import MODEL
from tests.benchmarks.machine import describe_machine
from tests.judged_corpora import Corpora, quality
from tests.public_data import NO_PUBLIC_DATA, PUBLIC_DATA

_PRECISIONS = ("float32", "bfloat16", "float8")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options: none."""


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    if not PUBLIC_DATA.is_dir():
        raise SystemExit(NO_PUBLIC_DATA)
    print(describe_machine(), flush=True)
    corpora = Corpora(PUBLIC_DATA)
    # It has no judgments, and is two thirds of the tokens.
    corpora.wikitext = []
    spec = read_model(ModelConfig(model=MODEL, device="cpu", backend="torch", precision="float32"))
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(corpora.texts)
    batch = TokenBatch(ids, offsets)
    exact = None
    print(f"{len(batch)} texts; float8 is emulated: its values, multiplied in float32", flush=True)
    for precision in _PRECISIONS:
        start = time.perf_counter()
        # The placement itself refuses float8 on a CPU.
        placement = replace(spec.placement, precision=precision)
        vectors = load_encoder(replace(spec, placement=placement)).encode(batch)
        exact = vectors if exact is None else exact
        cosines = (vectors * exact).sum(axis=1)
        spearman, ndcg = quality(vectors, corpora)
        print(
            f"  {precision}: cosine {cosines.mean():.6f} on average, {cosines.min():.6f} at least; "
            f"greatest difference {np.abs(vectors - exact).max():.2e}; STS-B dev Spearman "
            f"{spearman:.5f}; Cranfield nDCG@10 {ndcg:.5f} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
