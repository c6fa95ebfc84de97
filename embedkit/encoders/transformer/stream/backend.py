"""The backend that computes rows as streams of tokens, without padding."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.encoders.checked import Backend
from embedkit.encoders.transformer.network import SpanHead
from embedkit.encoders.transformer.stream.budget import Budget
from embedkit.encoders.transformer.stream.device import Device, device_of
from embedkit.encoders.transformer.stream.graphs import Graphs
from embedkit.encoders.transformer.stream.layout import Stream, streams
from embedkit.encoders.transformer.stream.slots import Slot
from embedkit.encoders.transformer.stream.work import Work, row_work, span_work
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch, TokenSpans, places_of_rows

_log = logging.getLogger(__name__)

_SLOTS = 2
"""Streams on their way at once: one that is computed, and the next, whose input is there."""


@dataclass(frozen=True)
class TokenNetwork:
    """What gives vectors of spans.

    Attributes:
        hidden: Takes what the network does, and gives the vectors of a stream's tokens.
        head: Makes those of spans of them.
    """

    hidden: Callable[[Tensor, Tensor, Tensor, int], Tensor]
    head: SpanHead


class StreamBackend:
    """Computes rows as streams of a few fixed lengths.

    Several threads may call ``run`` at once. They take turns at putting work on the device's
    queues, and wait for their own results beside each other: the device goes from one call's
    streams to the next one's without the host.

    Args:
        network: Takes ids, places, offsets and the longest row, see ``StreamNetwork``.
        padded: Computes the rows that cannot stand in a stream, by the same weights.
        device: Where the network is.
        budget: Most tokens of a stream.
        longest: Most tokens of a row.
        pad_id: Id of the fill.
        fits: Tells of each row whether it may stand in a stream; all may unless given.
        graphs: Whether streams of a shape that comes often are started as one graph, where the
            device has them.
        tokens: The same network up to its token vectors, for batches with spans.
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor, Tensor, int], Tensor],
        padded: Backend,
        device: torch.device | str | Device,
        budget: int,
        longest: int,
        pad_id: int,
        fits: Callable[[TokenBatch], NDArray[np.bool_]] | None = None,
        graphs: bool = True,
        tokens: TokenNetwork | None = None,
    ) -> None:
        self._padded = padded
        self._device = device_of(device) if isinstance(device, torch.device | str) else device
        self._budget = Budget(budget, longest)
        self._longest = longest
        self._pad_id = pad_id
        self._fits = fits
        copying_in, self._computing, copying_out = (self._device.queue() for _ in range(3))
        self._graphs = Graphs(self._device, network, self._computing, graphs)
        self._tokens = tokens
        self._token_graphs = self._graphs
        if tokens is not None:
            self._token_graphs = Graphs(self._device, tokens.hidden, self._computing, graphs)
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for _ in range(_SLOTS):
            self._free.put(Slot(self._device, copying_in, self._computing, copying_out))
        self._submitting = threading.Lock()
        self._counting = threading.Lock()
        self._streamed_tokens = 0
        self._seconds = 0.0

    @property
    def device(self) -> str:
        """The device's name."""
        return self._device.name

    @property
    def budget(self) -> int:
        """Most tokens of a stream, as far as is known by now."""
        return self._budget.tokens

    @property
    def computed_tokens(self) -> int:
        """Tokens computed so far, dummy rows and the fill of padded batches included."""
        return self._streamed_tokens + self._padded.computed_tokens

    @property
    def device_seconds(self) -> float:
        """Seconds that the device computed so far, by its own clock.

        From the first kernel of a stream to the last, of all streams whose results have come; what
        the device waits for within one, as for a kernel that is not started yet, counts as well.
        """
        return self._seconds

    def probe(self, of_spans: bool = False) -> None:
        """Halves the budget until the largest stream fits with room; for before the first ``run``.

        Args:
            of_spans: Whether it is tried with the vectors of all tokens, and not of rows.

        Raises:
            EncoderError: The device has no memory for even one row.
        """
        while True:
            tokens = self._budget.tokens
            with torch.inference_mode():
                has_room = self._device.has_room(lambda: self._compute_largest(of_spans))
            if self._budget.tokens < tokens:
                continue
            if has_room or not self._budget.halve():
                return
            self._say_budget(tokens)

    def _compute_largest(self, of_spans: bool) -> None:
        offsets = np.arange(0, self._budget.lengths[0] + 1, self._longest, dtype=np.int32)
        batch = TokenBatch(np.full(offsets[-1], self._pad_id, dtype=np.int32), offsets)
        if of_spans:
            places = (np.arange(offsets[-1]) % self._longest).astype(np.int32)
            batch = replace(batch, spans=TokenSpans(places, places + 1, offsets))
        call = _Call(batch)
        self._compute(call, np.arange(len(call.batch)))

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows of tokens, or of their spans, in their order.

        Raises:
            EncoderError: The device has no memory for even one row.
        """
        fitting = (batch.lengths > 0) & (batch.lengths <= self._longest)
        if self._fits is not None:
            fitting &= self._fits(batch)
        call = _Call(batch)
        with torch.inference_mode():
            while len(rows := np.flatnonzero(fitting & ~call.done)):
                self._compute(call, rows)
            if len(rows := np.flatnonzero(~fitting)):
                call.put(rows, self._run_padded(batch.take(rows)))
        return call.vectors

    def _compute(self, call: "_Call", rows: NDArray[np.intp]) -> None:
        """Computes rows of a call, or some of them where the budget turns out to be too large."""
        too_long = self._compute_streams(call, rows)
        # Only here, as the error that told it holds on to the tensors that filled the memory.
        if too_long is not None:
            self._halve(too_long)

    def _compute_streams(self, call: "_Call", rows: NDArray[np.intp]) -> int | None:
        """Computes rows of a call until all are done, or the device has no memory.

        Returns:
            The length of the stream that there was no memory for, if there was one.
        """
        under_way: deque[tuple[Slot, NDArray[np.intp]]] = deque()
        batch, lengths = call.batch.take(rows), self._budget.lengths
        try:
            for stream in streams(batch, lengths, self._longest, self._pad_id):
                slot = self._free_slot(call, under_way)
                if not self._submit(slot, stream, batch.spans):
                    return len(stream.input_ids)
                under_way.append((slot, rows[stream.rows]))
            return None
        finally:
            self._take_all(call, under_way)

    def _free_slot(self, call: "_Call", under_way: deque[tuple[Slot, NDArray[np.intp]]]) -> Slot:
        """Takes a slot; who has some waits for one of them only, so that all come to an end."""
        while True:
            try:
                return self._free.get(block=not under_way)
            except queue.Empty:
                self._take_next(call, under_way)

    def _submit(self, slot: Slot, stream: Stream, spans: TokenSpans | None) -> bool:
        """Puts a stream on the queues; returns whether the device has the memory for it."""
        work = self._work(stream, spans)
        submitted = False
        try:
            shape = slot.fill(stream, work.more)
            with self._submitting:
                slot.submit(shape, work.number, work.compute)
                self._streamed_tokens += shape.length
            submitted = True
        except torch.OutOfMemoryError:
            pass
        finally:
            if not submitted:
                self._free.put(slot)
        return submitted

    def _work(self, stream: Stream, spans: TokenSpans | None) -> Work:
        if spans is None:
            return row_work(stream, self._graphs)
        if self._tokens is None:
            raise EncoderError("vectors of spans are wanted of a network that has none of tokens")
        return span_work(stream, spans, self._token_graphs, self._tokens.head)

    def _take_next(self, call: "_Call", under_way: deque[tuple[Slot, NDArray[np.intp]]]) -> None:
        """Waits for the results of the stream that has been under way longest."""
        slot, rows = under_way.popleft()
        try:
            vectors, seconds = slot.wait()
            call.put(rows, vectors)
        finally:
            self._free.put(slot)
        with self._counting:
            self._seconds += seconds

    def _take_all(self, call: "_Call", under_way: deque[tuple[Slot, NDArray[np.intp]]]) -> None:
        """Waits for the results of all streams; slots are free again even where that fails."""
        try:
            while under_way:
                self._take_next(call, under_way)
        finally:
            for slot, _ in under_way:
                self._free.put(slot)

    def _run_padded(self, batch: TokenBatch) -> NDArray[np.float32]:
        start, end = self._device.event(timed=True), self._device.event(timed=True)
        with self._submitting, self._device.on(self._computing):
            self._computing.record_event(start)
            vectors = self._padded.run(batch)
            self._computing.record_event(end)
        end.synchronize()
        with self._counting:
            self._seconds += start.elapsed_time(end) / 1_000
        return vectors

    def _halve(self, length: int) -> None:
        """Makes streams shorter than one that there was no memory for, and frees what is held."""
        with self._submitting:
            tokens = self._budget.tokens
            if length > self._budget.lengths[0]:
                return  # Another thread did it meanwhile.
            halved = self._budget.halve(below=length)
            graphs = (self._graphs, self._token_graphs)
            if not halved and not any(map(len, graphs)):
                raise EncoderError(
                    f"{self.device}: no memory for a stream of {length} tokens, with texts of up "
                    f"to {self._longest}; take a lower precision or fewer max_tokens, or free the "
                    "device"
                )
            for one in graphs:
                one.drop(for_good=not halved)
            self._device.free_memory()
        if halved:
            self._say_budget(tokens)

    def _say_budget(self, before: int) -> None:
        _log.info(
            "%s has no room for streams of %d tokens; they have up to %d now",
            self.device,
            before,
            self._budget.tokens,
        )


class _Call:
    """A batch, and the vectors of its rows that have come."""

    def __init__(self, batch: TokenBatch) -> None:
        self.batch = batch
        self.done = np.zeros(len(batch), dtype=bool)
        self._number = len(batch) if batch.spans is None else len(batch.spans)
        self.vectors = np.empty((self._number, 0), dtype=np.float32)

    def put(self, rows: NDArray[np.intp], vectors: NDArray[np.float32]) -> None:
        """Keeps the vectors of some rows, or of the spans of some rows."""
        if not self.done.any():
            self.vectors = np.empty((self._number, vectors.shape[1]), dtype=np.float32)
        spans = self.batch.spans
        places = rows if spans is None else places_of_rows(spans.offsets, rows)[0]
        self.vectors[places] = vectors
        self.done[rows] = True
