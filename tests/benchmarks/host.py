"""The host side alone: the whole flow around an encoder that takes none of its cores.

Held against ``encode_batch_fast`` alone on the same texts and cores: no flow can be faster than the
tokenizer that it needs. Then what a core does of each stage, and how many keep a GPU busy, whose
rate is assumed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from embedkit.corpus.plan import Split
from embedkit.dataset.commit import commit_block
from embedkit.encoders.hardware import usable_cores
from embedkit.flow.encode import encode_tokens
from embedkit.flow.prepare import Job
from embedkit.flow.read import read_pending
from embedkit.hashes.digests import text_hash
from embedkit.reports.statistics import Sidecar
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from tests.benchmarks.cards import MODELS, FreeClient, card_rates
from tests.benchmarks.corpus import Texts, read_texts
from tests.benchmarks.history import HOST_RATE, Measured
from tests.benchmarks.host_once import job_of, run_flow
from tests.benchmarks.machine import describe_machine, wait_until_quiet, watched
from tests.benchmarks.speed import spread

_COPIES = 16
_SHARDS = 12
_WORKERS = 3
_PROMISED = 0.9
_COPIES_OF_A_SHARD = 2
_FEW, _MANY = 8, 48
_BUSY_RATES = (0.5e6, 1e6, 2e6)


@dataclass
class Spent:
    """What one stage took.

    Attributes:
        wall: Seconds.
        cores: Seconds of all cores.
        thread: Seconds of the calling thread, in some of which no other can run Python.
    """

    wall: float = 0.0
    cores: float = 0.0
    thread: float = 0.0


def run_tokenizer(job: Job, texts: list[str], at_once: int) -> float:
    """Tokenizes texts with ``encode_batch_fast`` and drops the result; returns the seconds."""
    tokenizer = load_tokenizer(job.model.tokenizer).tokenizer
    start = time.perf_counter()
    for first in range(0, len(texts), at_once):
        tokenizer.encode_batch_fast(texts[first : first + at_once])
    return time.perf_counter() - start


def run_stages(job: Job, client: FreeClient) -> tuple[dict[str, Spent], int]:
    """Runs all splits stage by stage on one thread.

    Returns:
        What each stage took, those in parts of others indented, and the tokens of all rows. The
        first split counts for neither.
    """
    spent: dict[str, Spent] = {}
    tokens = 0
    first, *others = job.plan.splits
    _run_split(first, job, client, {})
    for split in others:
        tokens += _run_split(split, job, client, spent)
    return spent, tokens


def _run_split(split: Split, job: Job, client: FreeClient, spent: dict[str, Spent]) -> int:
    tokenizer = load_tokenizer(job.model.tokenizer)

    def stage(name: str, work: Callable[[], Any]) -> Any:
        wall, cores, thread = time.perf_counter(), time.process_time(), time.thread_time()
        result = work()
        taken = spent.setdefault(name, Spent())
        taken.thread += time.thread_time() - thread
        taken.cores += time.process_time() - cores
        taken.wall += time.perf_counter() - wall
        return result

    total = 0
    for block in stage("reading", lambda: list(read_pending(split, job.plan, job.config))):
        texts = block.rows.column("text").to_pylist()
        stage("  of it: hashing the texts", lambda t=texts: [text_hash(text) for text in t])
        tokens = stage("tokenizing", lambda b=block: tokenize_text(b, tokenizer))
        stage(
            "  beside it: encode_batch_fast",
            lambda t=texts: tokenizer.tokenizer.encode_batch_fast(t, add_special_tokens=False),
        )
        rows = stage(
            "equal texts, calls",
            lambda t=tokens: encode_tokens(
                t, client, job.config.call_tokens, mixed_calls=job.model.mixed_calls
            ),
        )
        stats = stage("statistics", lambda r=rows: Sidecar.of(r, tokenizer.max_tokens).to_json())
        record = stage(
            "writing",
            lambda r=rows, s=stats: commit_block(
                job.version, r, job.options, tokenizer.max_tokens, s
            ),
        )
        total += record.tokens
    return total


def measure(texts: Texts, rounds: int, workers: int, at_once: int, wait: float) -> list[float]:
    """Runs both in turn; returns the flow's share of the tokenizer's rate, per round."""
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = texts.write_shards(Path(folder) / "corpus", _SHARDS)
        client = FreeClient(384)
        for number in range(rounds):
            wait_until_quiet(wait)
            job = job_of(corpus, Path(folder) / f"output-{number}")
            alone = run_tokenizer(job, texts.texts, at_once)
            flow, _, _ = run_flow(job, client, workers)
            again = run_tokenizer(job, texts.texts, at_once)
            shares.append((alone + again) / 2 / flow)
            print(
                f"  round {number + 1}  encode_batch_fast {len(texts.texts) / alone:,.0f} and "
                f"{len(texts.texts) / again:,.0f}, flow {len(texts.texts) / flow:,.0f} documents/s:"
                f" {shares[-1]:.0%}",
                flush=True,
            )
    return shares


def show_stages(corpus: Path, folder: Path) -> None:
    """Prints what a core does of each stage, for vectors of each model's size."""
    print(
        "\n| stage, alone on one thread | components | million tokens/s per core | us per token: "
        "all cores | the calling thread | the clock |\n|---|---|---|---|---|---|"
    )
    for model, shape in MODELS.items():
        job = job_of(corpus, folder / f"stages-{model}", shape.hidden)
        spent, tokens = run_stages(job, FreeClient(shape.hidden))
        whole = [taken for name, taken in spent.items() if not name.startswith(" ")]
        spent["all of it"] = Spent(
            *(sum(getattr(one, of) for one in whole) for of in ("wall", "cores", "thread"))
        )
        for name, taken in spent.items():
            each = (
                f"{seconds / tokens * 1e6:.3f}"
                for seconds in (taken.cores, taken.thread, taken.wall)
            )
            rate = f"{tokens / taken.cores / 1e6:.2f}"
            print(f"| {name} | {shape.hidden} | {rate} | {' | '.join(each)} |")


def run_once(corpus: Path, folder: Path, dimension: int, workers: int, rate: float | None) -> Any:
    """Runs the flow in a process of its own, see ``host_once``."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        command = [sys.executable, "-m", "tests.benchmarks.host_once", str(corpus), output]
        command += [str(dimension), str(workers), *([] if rate is None else [str(rate)])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with watched(process.pid) as usage:
            printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return {**json.loads(printed), "foreign": usage.foreign}


def show_flow(
    texts: Texts, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, float], float]:
    """Prints what a core does of the whole flow, and its memory, over a small and a large corpus.

    Returns:
        Tokens per second of a core by model, told from what the larger corpus took more; largest
        share of the machine that others used.
    """
    corpora = [
        texts.repeated(copies).write_shards(
            folder / f"corpus-{copies}", copies // _COPIES_OF_A_SHARD
        )
        for copies in (_FEW, _MANY)
    ]
    per_core, others = {}, 0.0
    print("\n| the whole flow | tokens/s per core | peak MiB of its process | grows by |")
    print("|---|---|---|---|")
    for model, shape in MODELS.items():
        rates, grows, peaks = [], [], []
        for _ in range(options.host_rounds):
            wait_until_quiet(options.wait)
            few, many = (
                run_once(corpus, folder, shape.hidden, options.workers, None) for corpus in corpora
            )
            others = max(others, few["foreign"], many["foreign"])
            used = many["cpu_seconds"] - few["cpu_seconds"]
            rates.append((many["tokens"] - few["tokens"]) / used)
            peaks.append(many["peak_mib"])
            grows.append(many["peak_mib"] / few["peak_mib"] - 1)
        per_core[model] = median(rates)
        print(
            f"| {model}, {shape.hidden} components | {spread(rates, ',.0f')} | "
            f"{spread(peaks, ',.0f')} | {spread(grows, '.1%')} |",
            flush=True,
        )
    print(f"It grows where {_FEW} x {texts.name} become {_MANY} x")
    return per_core, others


def show_cores(per_core: dict[str, float], given: float | None) -> None:
    """Prints how many cores keep a card busy."""
    print("\nThe rates of cards are assumed, not measured:")
    print("| model | tokens/s of a card | which is | cores that keep it busy |\n|---|---|---|---|")
    for rate in card_rates(given):
        cores = rate.tokens_per_second / per_core[rate.model]
        print(f"| {rate.model} | {rate.tokens_per_second:,.0f} | {rate.why} | {cores:.1f} |")


def show_busy(
    corpus: Path, folder: Path, options: argparse.Namespace, per_core: dict[str, float]
) -> None:
    """Prints how busy cards of some rates are on the cores that are here."""
    print(f"\nA card of this rate, MiniLM-L6, on {usable_cores()} cores:")
    print("| tokens/s | busy | as the cores allow | others used of them |\n|---|---|---|---|")
    given = options.card_tokens_per_second
    for rate in (given,) if given else _BUSY_RATES:
        wait_until_quiet(options.wait)
        found = run_once(corpus, folder, 384, options.workers, rate)
        most = min(1.0, usable_cores() * per_core["MiniLM-L6"] / rate)
        print(
            f"| {rate:,.0f} | {found['busy_share']:.0%} | {most:.0%} | {found['foreign']:.0%} |",
            flush=True,
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--host-rounds", type=int, default=5, help="rounds of the host side")
    parser.add_argument("--workers", type=int, default=_WORKERS, help="threads of the host side")
    parser.add_argument("--at-once", type=int, default=4_096, help="texts per encode_batch_fast")
    parser.add_argument(
        "--card-tokens-per-second", type=float, help="a card's rate, which is assumed otherwise"
    )


def main(options: argparse.Namespace) -> Measured:
    """Measures and prints."""
    once = read_texts()
    texts = once.repeated(_COPIES)
    print(
        f"\nHost side alone, an encoder that takes none of its cores: {texts.name}, "
        f"{len(texts.texts):,} documents in {_SHARDS} shards, {options.workers} threads on "
        f"{usable_cores()} cores",
        flush=True,
    )
    shares = measure(texts, options.host_rounds, options.workers, options.at_once, options.wait)
    print(
        f"\nThe flow reached {spread(shares, '.0%')} of what encode_batch_fast alone reaches "
        f"(promised: >= {_PROMISED:.0%})"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = texts.write_shards(folder / "corpus", _SHARDS)
        show_stages(corpus, folder)
        per_core, others = show_flow(once, folder, options)
        show_cores(per_core, options.card_tokens_per_second)
        show_busy(corpus, folder, options, per_core)
    return Measured({HOST_RATE: per_core["MiniLM-L6"]}, others)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    arguments.add_argument("--wait", type=float, default=60.0)
    print(describe_machine())
    main(arguments.parse_args())
