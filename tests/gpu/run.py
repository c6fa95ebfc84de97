"""Checks and measures the encoders on one GPU: ``python tests/gpu/run.py``.

It needs no Ray, no Beam and no pytest, and downloads nothing: its models are made from
configurations and a seed. Results are written after each step, as JSON, so that a run that is cut
short leaves what it had; a table comes at the end. Without a GPU it runs on the CPU, which with
``--tiny`` takes seconds and tells whether the script itself is right.
"""

import argparse
import faulthandler
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from steps import STEPS, Step  # noqa: E402
from table import as_text  # noqa: E402

_KEPT_SECONDS = 10.0
"""Left at the end, as a step that begins then would have no time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the steps, writes their results and prints them.

    Returns:
        0 if every step passed, else 1.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.tiny and not _has_gpu():
        parser.error("torch finds no CUDA device here; --tiny tries the script on the CPU")
    if options.tiny:
        # Several threads for so little only wait for each other.
        os.environ["OMP_NUM_THREADS"] = "1"
    steps = [step for step in STEPS if not options.steps or step.name in options.steps]
    options.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"begun": time.strftime("%Y-%m-%d %H:%M:%S"), "steps": []}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log, end = options.output / "run.log", start + options.seconds
        for result in _results(steps, _bench(options, folder), log, end):
            results["steps"].append(result)
            results["seconds"] = time.monotonic() - start
            _write(options.output / "results.json", json.dumps(results, indent=1, default=str))
            _write(options.output / "table.md", as_text(results))
            print(f"{result['seconds']:7.1f} s  {result['name']}: {_said(result)}", flush=True)
    print(f"\n{as_text(results)}\n\nResults: {options.output}", flush=True)
    return 1 if any("error" in result for result in results["steps"]) else 0


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--seconds", type=float, default=400.0, help="no step begins after these")
    parser.add_argument("--output", type=Path, default=Path("build/gpu"), help="for the results")
    parser.add_argument("--model", type=Path, help="a real model's directory, for its accuracy")
    parser.add_argument("--data", type=Path, help="the folder of public data with cranfield/ in it")
    names = [step.name for step in STEPS]
    parser.add_argument(
        "--steps", nargs="+", choices=names, metavar="STEP", help=f"some of: {'; '.join(names)}"
    )
    return parser


def _bench(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    return {
        "folder": Path(folder),
        "tiny": options.tiny,
        "model": str(options.model) if options.model else None,
        "data": options.data,
    }


def _results(
    steps: Sequence[Step], bench: dict[str, Any], log: Path, end: float
) -> Iterator[dict[str, Any]]:
    """Runs steps in a process that is replaced where a step kills it or takes too long."""
    waiting = list(steps)
    while waiting:
        with _Worker(waiting, bench, log) as worker:
            while waiting and worker.is_sound:
                step = waiting.pop(0)
                over = time.monotonic() > end - _KEPT_SECONDS
                yield _not_run(step) if over else worker.run(step, end)


def _not_run(step: Step) -> dict[str, Any]:
    return {"name": step.name, "seconds": 0.0, "error": "not run: the time was over", "found": {}}


class _Worker:
    """A process that runs steps one after the other; what it prints goes to a log.

    Attributes:
        is_sound: Whether it can run another step.
    """

    def __init__(self, steps: Sequence[Step], bench: dict[str, Any], log: Path) -> None:
        self.is_sound = True
        # A copy of this process would share its CUDA context.
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        names = [step.name for step in steps]
        self._process = context.Process(target=_work, args=(other, names, bench, log), daemon=True)
        self._process.start()
        other.close()

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        if not self.is_sound and self._process.is_alive():
            # It writes where it was into the log.
            os.kill(self._process.pid or 0, signal.SIGABRT)
            self._process.join(5)
            self._process.kill()
        self._pipe.close()
        self._process.join()

    def run(self, step: Step, end: float) -> dict[str, Any]:
        """Runs a step, and returns its result."""
        start = time.monotonic()
        seconds = min(step.seconds, max(1.0, end - start))
        found: dict[str, Any] = {}
        try:
            self._pipe.send(step.name)
            while self._pipe.poll(max(0.0, start + seconds - time.monotonic())):
                told: dict[str, Any] = self._pipe.recv()
                if "name" in told:
                    self.is_sound = not told.pop("device_is_lost", False)
                    return told
                found = told["found"]
            error = f"ended after {seconds:.0f} s, which is all it may take"
        except (EOFError, ConnectionError):
            self._process.join(5)
            error = f"its process ended with exit code {self._process.exitcode}"
        self.is_sound = False
        taken = time.monotonic() - start
        return {"name": step.name, "seconds": taken, "error": error, "found": found}


def _work(pipe: Connection, names: Sequence[str], options: dict[str, Any], log: Path) -> None:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    faulthandler.enable()
    said = _Said()
    known = {step.name: step for step in STEPS if step.name in names}
    bench = None
    while True:
        try:
            step = known[pipe.recv()]
        except EOFError:
            return
        print(f"\n## {step.name}", flush=True)
        start = time.monotonic()
        found = _Found(pipe)
        result: dict[str, Any] = {"name": step.name}
        # Whatever a step stumbles over on a machine that is at hand for minutes is one line of the
        # results, and no reason to go without the other steps.
        try:
            if bench is None:
                bench = _make_bench(options)
            step.run(bench, found)
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
            result["device_is_lost"] = _is_lost(error)
        result["seconds"] = time.monotonic() - start
        pipe.send({**result, "said": said.take(), "found": dict(found)})


class _Found(dict[str, Any]):
    """A step's figures, each told at once, so that a step that does not end leaves what it had."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def __setitem__(self, name: str, value: Any) -> None:
        """Adds a figure and tells all."""
        super().__setitem__(name, value)
        self._pipe.send({"found": dict(self)})


class _Said(logging.Handler):
    """Keeps what the package logs, as that tells what it does otherwise than it would."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: list[str] = []
        logger = logging.getLogger("embedkit")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line."""
        self._lines.append(" ".join(record.getMessage().split()))
        print(self._lines[-1], flush=True)

    def take(self) -> list[str]:
        """Returns the lines since the last time, each once."""
        lines, self._lines = self._lines, []
        return list(dict.fromkeys(lines))


def _make_bench(options: dict[str, Any]) -> Any:
    from bench import Bench

    return Bench(**options)


def _is_lost(error: Exception) -> bool:
    from embedkit.encoders.hardware import device_is_lost

    return isinstance(error, RuntimeError) and device_is_lost(error)


def _said(result: dict[str, Any]) -> str:
    return f"FAILED, {result['error']}" if "error" in result else "ok"


def _write(file: Path, text: str) -> None:
    """Writes a file so that whoever reads it, at any time, finds a whole one."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


if __name__ == "__main__":
    sys.exit(main())
