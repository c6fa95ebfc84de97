"""The one calibration of a pipeline's codes, made by its workers before any code is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam

from embedkit.config import CorpusConfig
from embedkit.corpus.splits import Split
from embedkit.corpus.text_sample import TextSample, sample_split
from embedkit.encoders.base import EncoderClient
from embedkit.flow.calibrate import calibrate, needs_calibration
from embedkit.flow.prepare import Draft
from embedkit.records import DocumentBlock
from embedkit.transforms.blocks import BlockTransform


def sample_block(block: DocumentBlock) -> TextSample:
    """Samples the texts of a block."""
    sample = TextSample()
    sample.add(block.rows.column("text").to_pylist())
    return sample


@dataclass
class SampleCorpus(BlockTransform):
    """Pipeline -> TextSamples of the splits of a draft, read by all workers.

    Attributes:
        corpus: How files are read.
        draft: Has the splits.
    """

    corpus: CorpusConfig
    draft: Draft

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Spreads the splits over the workers and reads the texts there."""
        return (
            pipeline
            | "Splits" >> beam.Create(self.draft.plan.splits, reshuffle=False)
            | "Spread" >> beam.Reshuffle().with_output_types(Split)
            | "SampleSplit" >> beam.Map(sample_split, self.corpus).with_output_types(TextSample)
        )


@dataclass
class CalibrateFirst(BlockTransform):
    """DocumentBlocks -> the same, held back until the version has its calibration.

    Of a version that needs none, or has it, nothing is held back.

    Attributes:
        draft: The version to be made.
        connect: Picklable; returns the client that reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.
        hints: Beam's resource hints for the step that encodes.
        corpus: How the draft's files are read; None where the blocks are of no files, which then
            are what is sampled.
    """

    draft: Draft
    connect: Callable[[], EncoderClient]
    call_tokens: int
    hints: Mapping[str, str] = field(default_factory=dict)
    corpus: CorpusConfig | None = None

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """Samples, encodes once, and makes that a side input of the blocks."""
        if not needs_calibration(self.draft):
            return blocks
        if self.corpus is None:
            samples = blocks | "SampleBlock" >> beam.Map(sample_block).with_output_types(TextSample)
        else:
            samples = blocks.pipeline | "SampleCorpus" >> SampleCorpus(self.corpus, self.draft)
        draft = replace(self.draft, plan=self.draft.plan.without_splits())
        made = (
            samples
            | "OneWindow" >> beam.WindowInto(beam.window.GlobalWindows())
            | "AddUp" >> beam.CombineGlobally(_added)
            | "Calibrate"
            >> beam.Map(_calibrate, draft, self.connect, self.call_tokens).with_resource_hints(
                **self.hints
            )
        )
        return blocks | "AfterCalibration" >> beam.Map(
            _as_it_is, beam.pvalue.AsSingleton(made)
        ).with_output_types(DocumentBlock)


def _added(samples: Iterable[TextSample]) -> TextSample:
    total = TextSample()
    for sample in samples:
        total += sample
    return total


def _calibrate(
    sample: TextSample, draft: Draft, connect: Callable[[], EncoderClient], call_tokens: int
) -> None:
    if needs_calibration(draft):
        calibrate(draft, sample.texts, connect, call_tokens)


def _as_it_is(block: Any, calibrated: None) -> Any:
    return block
