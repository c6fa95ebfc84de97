"""What tests of Beam pipelines share: run one here and now, and have what came out as a list."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from running import SumClient

from embedkit.errors import EncoderError
from embedkit.transforms.errors import one_line_errors
from embedkit.vectors import TokenBatch

logging.getLogger("apache_beam").setLevel(logging.ERROR)

_numbers = itertools.count()
_collected: dict[int, list[Any]] = {}


def _collect(element: Any, number: int) -> None:
    _collected[number].append(element)


def results(
    build: Callable[[beam.Pipeline], beam.PCollection], runner: Any = None, **options: Any
) -> list[Any]:
    """Runs a pipeline on threads of this process and returns the elements of what it builds.

    Args:
        build: Builds the PCollection to look at.
        runner: A portable runner; Beam's own for tests, named, as DirectRunner would look online.
        options: Beam's pipeline options.
    """
    number = next(_numbers)
    _collected[number] = []
    pipeline = beam.Pipeline(
        runner=runner or FnApiRunner(),
        options=PipelineOptions(flags=[], pickle_library="cloudpickle", **options),
    )
    # By the module's own name: a copy of this module would collect into a list of its own.
    _ = build(pipeline) | "Collect" >> beam.Map(_collect, number)
    with one_line_errors():
        pipeline.run().wait_until_finish()
    return _collected.pop(number)


class FailingClient(SumClient):
    """Counts the rows that it encodes, and fails at one of so many tokens."""

    encoded = 0
    fails_at: int | None = None

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[np.ndarray]:
        for batch in batches:
            if FailingClient.fails_at in batch.lengths:
                raise EncoderError("an encoder was lost: it was pulled")
            FailingClient.encoded += len(batch)
            yield from super().encode_all([batch])
