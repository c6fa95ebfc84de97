"""The steps of the run, in their order: checks first, then what tells most for its time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

Run = Callable[[Any, dict[str, Any]], None]


@dataclass(frozen=True)
class Step:
    """A step of the run.

    Attributes:
        name: Its name in the results.
        seconds: How long it may take; then its process is ended.
        load: Imports what runs it, as the process that watches over the steps does without torch.
    """

    name: str
    seconds: float
    load: Callable[[], Run]

    def run(self, bench: Any, found: dict[str, Any]) -> None:
        """Runs it.

        Args:
            bench: The run's options.
            found: Gets its figures as they come.
        """
        self.load()(bench, found)


def _check(name: str) -> Run:
    import checks

    return getattr(checks, name)


def _measure(name: str, **arguments: str) -> Run:
    import measures

    return partial(getattr(measures, name), **arguments)


def _quality() -> Run:
    import quality

    return quality.cranfield


def _step(seconds: float, name: str, load: Callable[..., Run], *args: str, **named: str) -> Step:
    return Step(name, seconds, partial(load, *args, **named))


def _encoder(seconds: float, model: str, form: str) -> Step:
    name = f"{model}, {form}"
    return _step(seconds, name, _measure, "encoder_rate", model=model, form=form)


def _peer(seconds: float, model: str) -> Step:
    name = f"{model}, sentence-transformers"
    return _step(seconds, name, _measure, "peer_rate", model=model)


STEPS = (
    _step(120, "machine", _measure, "machine"),
    _step(60, "placement", _check, "placement"),
    _step(60, "attention", _check, "attention"),
    _step(120, "architectures", _check, "architectures"),
    _step(60, "precisions", _check, "precisions"),
    _step(60, "same bytes", _check, "same_bytes"),
    _step(60, "calls at once", _check, "calls_at_once"),
    _step(60, "memory runs out", _check, "memory_runs_out"),
    _step(60, "budget", _check, "budget"),
    _step(120, "compiled once", _check, "compiled_once"),
    _step(60, "device rates", _measure, "device_rates"),
    _encoder(60, "MiniLM-L6", "by default"),
    _peer(60, "MiniLM-L6"),
    _encoder(60, "BERT-base", "by default"),
    _encoder(90, "BERT-large", "by default"),
    _encoder(90, "BERT-large", "stream, graphs, compiled"),
    _step(60, "Cranfield", _quality),
    _encoder(60, "MiniLM-L6", "stream, graphs, compiled"),
    _encoder(60, "MiniLM-L6", "stream"),
    _encoder(60, "MiniLM-L6", "padded"),
    _encoder(60, "BERT-base", "stream, graphs, compiled"),
    _encoder(60, "BERT-base", "float8"),
    _peer(60, "BERT-base"),
    _peer(60, "BERT-large"),
    _encoder(60, "MiniLM-L12", "by default"),
    _peer(60, "MiniLM-L12"),
    _encoder(90, "BERT-large", "float8"),
    _encoder(60, "BERT-base", "padded"),
    _encoder(90, "BERT-large", "padded"),
    _encoder(60, "MiniLM-L6", "stream, compiled"),
    _encoder(60, "MiniLM-L6", "float8"),
    _step(90, "compiled architectures", _check, "compiled_architectures"),
)
