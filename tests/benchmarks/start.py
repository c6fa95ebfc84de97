"""Start-up: whole commands that have next to nothing to do, each in a process of its own.

Commands take turns. What embedkit keeps on a machine is in a folder of each command's own, empty at
its first run, which counts apart from the others; files that the system has read before stay in
its memory.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.card import dataset_card
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import seal
from embedkit.dataset.publication import publish
from embedkit.encoders.hardware import usable_cores
from embedkit.flow.embed import embed_splits
from embedkit.vectors import TokenBatch
from tests.benchmarks.corpus import MODEL
from tests.benchmarks.history import START, Measured
from tests.benchmarks.host_once import job_of
from tests.benchmarks.machine import busy_seconds, describe_machine, wait_until_quiet
from tests.benchmarks.speed import spread

_ROUNDS = 9
_ROWS = 10_000
_RECORDS = 10
_DIMENSION = 384
_CACHE = "EMBEDKIT_CACHE"


@dataclass
class Command:
    """A command that is started again and again.

    Attributes:
        name: What it is called.
        arguments: What follows ``embedkit``.
        cache: Folder of what embedkit keeps for it.
        output: Folder that is removed after it; None leaves what it wrote.
        others_known: Whether it waits for all that it starts, so that what others used can be told.
        first: Seconds of the first run, with an empty cache.
        seconds: Those of all others.
        others: Share of the machine that other processes used during each of these.
    """

    name: str
    arguments: list[str]
    cache: Path
    output: Path | None = None
    others_known: bool = True
    first: float = 0.0
    seconds: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def run(self) -> tuple[float, float]:
        """Runs it once.

        Returns:
            Seconds from its start to its end, and the share of the machine that others used.
        """
        environment = os.environ | {"HF_HUB_OFFLINE": "1", _CACHE: str(self.cache)}
        # An installed package has its modules compiled, one that is edited compiles them at first.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [str(Path(sys.executable).parent / "embedkit"), *self.arguments]
        with tempfile.TemporaryFile("w+") as noise:
            busy, begun = busy_seconds(), time.perf_counter()
            process = subprocess.Popen(command, stdout=noise, stderr=noise, env=environment)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            seconds = time.perf_counter() - begun
            foreign = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                noise.seek(0)
                raise RuntimeError(
                    f"{' '.join(command)} ended with {process.returncode}:\n{noise.read()}"
                )
        if self.output is not None:
            shutil.rmtree(self.output)
        return seconds, max(0.0, foreign) / (seconds * (os.cpu_count() or 1))


class RandomClient:
    """Answers every call with random unit vectors."""

    def __init__(self, dimension: int) -> None:
        self._random = np.random.default_rng(0)
        self._dimension = dimension

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Yields a vector for each row of each batch."""
        for batch in batches:
            shape = (len(batch), self._dimension)
            vectors = self._random.standard_normal(shape, dtype=np.float32)
            yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_version(folder: Path, rows: int) -> Path:
    """Writes a published version that names the model and has random vectors, and no report.

    Args:
        folder: Where the corpus and the dataset go.
        rows: How many it has.

    Returns:
        The dataset's root.
    """
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    texts = (f"row {row} of a corpus whose vectors nobody computed" for row in range(rows))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (corpus / "corpus.jsonl").write_text(lines)
    job = job_of(corpus, folder / "root", _DIMENSION)
    for _ in embed_splits(job.plan.splits, job, RandomClient(_DIMENSION)):
        pass
    splits = [split.split_id for split in job.plan.splits]
    manifest = finalize(job.version, splits, job.description)
    seal(job.version, manifest, partial(dataset_card, job.version))
    publish(job.version)
    return folder / "root"


def commands_in(folder: Path, rows: int = _ROWS) -> list[Command]:
    """Returns the commands, with all that they need in a folder."""
    corpus = folder / "ten.jsonl"
    texts = (f"record {number} says little, and is done soon" for number in range(_RECORDS))
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    root = write_version(folder / "searched", rows)
    run = ["run", str(corpus), "--model", MODEL, "--progress", "none"]

    def command(name: str, *arguments: str, fresh: bool = False, **known: bool) -> Command:
        output = folder / "outputs" / name if fresh else None
        more = [] if output is None else ["--output", str(output)]
        return Command(name, [*arguments, *more], folder / "caches" / name, output, **known)

    finished = command(
        "run, finished", *run, "--engine", "plain", "--output", str(folder / "finished")
    )
    finished.run()
    shutil.rmtree(finished.cache)
    return [
        command("--help", "--help"),
        command("search", "search", str(root), "a corpus whose vectors somebody computed"),
        command("run, plain", *run, "--engine", "plain", fresh=True),
        command("run, local", *run, "--engine", "local", fresh=True, others_known=False),
        finished,
    ]


def measure(commands: list[Command], rounds: int, wait: float) -> None:
    """Runs each command once with an empty cache, then all in turn, each round in another order."""
    for command in commands:
        wait_until_quiet(wait)
        command.first, _ = command.run()
        print(f"  first    {command.name:<16}{command.first:6.2f} s", flush=True)
    for number in range(rounds):
        turn = number % len(commands)
        for command in commands[turn:] + commands[:turn]:
            wait_until_quiet(wait)
            seconds, others = command.run()
            command.seconds.append(seconds)
            said = ""
            if command.others_known:
                command.others.append(others)
                said = f", others used {others:.0%} of the machine"
            print(f"  round {number + 1}  {command.name:<16}{seconds:6.2f} s{said}", flush=True)


def report(commands: list[Command], rows: int = _ROWS) -> str:
    """Returns the table."""
    others = [one for command in commands for one in command.others]
    return "\n".join(
        [
            "",
            f"Start-up on {usable_cores()} cores; search looks through {rows:,} rows, a run has "
            f"{_RECORDS} records",
            "",
            "| embedkit | s: median (lowest to highest) | first, with an empty cache |",
            "|---|---|---|",
            *(
                f"| {one.name} | {spread(one.seconds, '.2f')} | {one.first:.2f} |"
                for one in commands
            ),
            "",
            f"Noise: other processes used {spread(others, '.0%')} of the machine during a command.",
        ]
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds no options: its rounds and its patience are those of ``speed``."""


def main(options: argparse.Namespace) -> Measured:
    """Measures and prints."""
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        commands = commands_in(Path(name))
        measure(commands, options.rounds or _ROUNDS, options.wait)
    print(report(commands))
    figures = {START + one.name: median(one.seconds) for one in commands}
    return Measured(figures, max(max(one.others, default=0.0) for one in commands))
