"""DocumentBlocks to commit records, and to a complete version."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import apache_beam as beam

from embedkit.config import CorpusConfig
from embedkit.dataset.committed import committed
from embedkit.dataset.heartbeat import join, leave
from embedkit.encoders.base import EncoderClient
from embedkit.flow.beats import BeatAtCommit
from embedkit.flow.complete import complete_version
from embedkit.flow.completed import begin_account
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.prepare import Draft
from embedkit.flow.publish import raise_where_refused
from embedkit.flow.survey import Survey
from embedkit.flow.tally import OnCommit
from embedkit.reports.account import RunAccount
from embedkit.transforms.blocks import BlockTransform
from embedkit.transforms.calibrate import CalibrateFirst
from embedkit.transforms.complete import CompleteVersion
from embedkit.transforms.encode import EncodeTokens
from embedkit.transforms.tokenize import TokenizeText
from embedkit.transforms.write import WriteEmbeddings

Connect = Callable[[], EncoderClient]
"""Returns the client that reaches the encoders; picklable."""


@dataclass
class EmbedBlocks(BlockTransform):
    """DocumentBlocks -> CommitRecords: tokenize, encode, write.

    Attributes:
        draft: The version to be made, as ``begin_version`` or ``prepare`` settled it.
        connect: Picklable; called once per worker, returns the client that reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.
        on_commit: Picklable; hears of each block when it is committed, in its worker.
    """

    draft: Draft
    connect: Connect
    call_tokens: int
    on_commit: OnCommit | None = None

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """The diagram of the flow, from documents on."""
        draft, options = self.draft, self.draft.options
        tokenizer = draft.model.tokenizer
        encode = EncodeTokens(
            self.connect,
            self.call_tokens,
            options.vector_dtype,
            draft.model.mixed_calls,
            draft.model.vectors,
            None if draft.reuse is None else EarlierRows(draft.reuse),
            draft.calibration,
        )
        write = WriteEmbeddings(draft.version, options, tokenizer.max_tokens, self.on_commit)
        return (
            blocks
            | "TokenizeText" >> TokenizeText(tokenizer)
            | "EncodeTokens" >> encode
            | "WriteEmbeddings" >> write
        )


@dataclass
class MakeVersion(BlockTransform):
    """DocumentBlocks -> the one RunAccount of the complete version.

    Attributes:
        draft: The version to be made, as ``begin_version`` or ``prepare`` settled it.
        connect: Picklable; called once per worker, returns the client that reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.
        hints: Beam's resource hints for all steps from the blocks to their commits, which stay on
            one worker and so need one environment.
        further_splits: A PCollection of ids of splits that the draft's plan does not have.
        spread: Whether all workers read what the version is completed from, which pays where there
            are many of them.
        corpus: How the files of the draft's splits are read; None where the blocks are of none.
    """

    draft: Draft
    connect: Connect
    call_tokens: int
    hints: Mapping[str, str] = field(default_factory=dict)
    further_splits: beam.PCollection | None = None
    spread: bool = False
    corpus: CorpusConfig | None = None

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """Embeds the blocks, then completes the version."""
        on_commit = BeatAtCommit.of(self.draft)
        embed = EmbedBlocks(self.draft, self.connect, self.call_tokens, on_commit)
        embed = embed.with_resource_hints(**self.hints)
        blocks |= "CalibrateFirst" >> CalibrateFirst(
            self.draft, self.connect, self.call_tokens, self.hints, self.corpus
        )
        return blocks | "EmbedBlocks" >> embed | "CompleteVersion" >> self._completion()

    def _completion(self) -> CompleteVersion:
        version = self.draft.version
        # Read before anything is encoded, so a bundle that runs twice reports the same figures.
        account = begin_account(committed(version).values(), version.is_complete())
        return CompleteVersion(
            complete=partial(_complete, self.draft, account),
            splits=tuple(split.split_id for split in self.draft.plan.splits),
            also=self.further_splits,
            draft=self.draft if self.spread else None,
        )


def _complete(
    draft: Draft, account: RunAccount, splits: list[str], survey: Survey | None = None
) -> RunAccount:
    if not draft.version.is_complete():
        join(draft.version, draft.reuses)
    result = complete_version(draft, account, splits, survey)
    leave(draft.version)
    raise_where_refused(result)
    return result
