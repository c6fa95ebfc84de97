"""Vectors that a backend should not have produced are computed again, alone and in float32."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from embedkit.config import ModelConfig
from embedkit.encoders.checked import CheckedEncoder
from embedkit.encoders.hardware import device_is_lost
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.normalization import doubtful_rows, normalized
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch, TokenSpans

BATCH = TokenBatch.from_lists([[1, 2, 3], [4], [5, 6], [7]])
GOOD = np.array([[3, 4], [1, 0], [0, 2], [6, 8]], dtype=np.float32)


class Stub:
    """Gives the vectors it was made with, by the first id of a row, and remembers its calls."""

    device = "stub"

    def __init__(self, vectors):
        self.vectors = dict(zip((1, 4, 5, 7), np.array(vectors, dtype=np.float32), strict=True))
        self.calls = []

    def run(self, batch):
        firsts = batch.input_ids[batch.offsets[:-1]].tolist()
        self.calls.append(firsts)
        return np.stack([self.vectors[first] for first in firsts])


def encoder_of(backend, exact, normalize=True):
    made = []

    def make():
        made.append(exact)
        return exact

    return CheckedEncoder(backend, make, 2, normalize), made


def test_good_vectors_are_normalized_and_not_doubted():
    encoder, made = encoder_of(Stub(GOOD), Stub(GOOD))
    vectors = encoder.encode(BATCH)
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [1, 0], [0, 1], [0.6, 0.8]], rtol=1e-6)
    assert made == []


def test_vectors_are_left_alone_without_normalization():
    encoder, made = encoder_of(Stub(GOOD), Stub(GOOD), normalize=False)
    np.testing.assert_array_equal(encoder.encode(BATCH), GOOD)
    assert made == []


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_computed_alone(bad, normalize):
    spoiled = GOOD.copy()
    spoiled[1, 0] = spoiled[3, 1] = bad
    exact = Stub(GOOD)
    encoder, made = encoder_of(Stub(spoiled), exact, normalize)
    expected = normalized(GOOD) if normalize else GOOD
    np.testing.assert_array_equal(encoder.encode(BATCH), expected)
    assert exact.calls == [[4], [7]]
    encoder.encode(BATCH)
    assert len(made) == 1, "the exact model is loaded once"


class SpanStub:
    """Gives each span its row's first id and its own start, or what is not finite at some."""

    device = "stub"

    def __init__(self, spoiled=()):
        self.spoiled, self.calls = spoiled, []

    def run(self, batch):
        firsts = batch.input_ids[batch.offsets[:-1]]
        self.calls.append(firsts.tolist())
        ids = np.repeat(firsts, np.diff(batch.spans.offsets))
        vectors = np.stack([ids, batch.spans.starts], axis=1).astype(np.float32)
        for id_, start in self.spoiled:
            vectors[(ids == id_) & (batch.spans.starts == start)] = np.nan
        return vectors


def spans_of(*rows):
    starts = np.array([start for row in rows for start in row], dtype=np.int32)
    return TokenSpans(starts, starts + 1, np.cumsum([0, *map(len, rows)]).astype(np.int32))


def test_a_span_that_is_not_finite_is_taken_from_its_row_alone():
    """Of each such row once, and of rows without spans nothing is computed at all."""
    batch = replace(BATCH, spans=spans_of([2, 0, 1], [], [1, 0], [0]))
    backend, exact = SpanStub([(1, 0), (1, 1), (5, 0), (4, 0)]), SpanStub()
    encoder, _ = encoder_of(backend, exact, normalize=False)
    expected = [[1, 2], [1, 0], [1, 1], [5, 1], [5, 0], [7, 0]]
    assert encoder.encode(batch).tolist() == expected
    assert (backend.calls, exact.calls) == ([[1, 5, 7]], [[1], [5]])


def test_each_span_is_normalized():
    batch = replace(BATCH, spans=spans_of([2, 0], [0], [], []))
    encoder, _ = encoder_of(SpanStub([(1, 2)]), SpanStub())
    expected = normalized(np.array([[1, 2], [1, 0], [4, 0]], dtype=np.float32))
    np.testing.assert_array_equal(encoder.encode(batch), expected)


def test_a_batch_without_any_spans_is_not_computed():
    backend = SpanStub()
    encoder, _ = encoder_of(backend, backend)
    assert encoder.encode(replace(BATCH, spans=spans_of([], [], [], []))).shape == (0, 2)
    assert backend.calls == []


def test_zero_vectors_are_computed_alone_where_length_1_is_due():
    spoiled = GOOD.copy()
    spoiled[2] = 0
    exact = Stub(GOOD)
    encoder, _ = encoder_of(Stub(spoiled), exact)
    np.testing.assert_array_equal(encoder.encode(BATCH), normalized(GOOD))
    assert exact.calls == [[5]]


def test_rows_that_stay_wrong_are_returned_as_they_came():
    spoiled = GOOD.copy()
    spoiled[0] = np.nan
    encoder, _ = encoder_of(Stub(spoiled), Stub(spoiled))
    vectors = encoder.encode(BATCH)
    assert np.isnan(vectors[0]).all()
    np.testing.assert_array_equal(vectors[1:], normalized(GOOD)[1:])


def test_threads_share_one_exact_backend_and_take_turns_at_it():
    spoiled = np.full_like(GOOD, np.nan)

    class Slow(Stub):
        inside = most = 0

        def run(self, batch):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.002)
            self.inside -= 1
            return super().run(batch)

    exact, made, found = Slow(GOOD), [], []

    def make():
        made.append(exact)
        time.sleep(0.05)
        return exact

    encoder = CheckedEncoder(Stub(spoiled), make, 2, True)
    threads = [
        threading.Thread(target=lambda: found.append(encoder.encode(BATCH))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), exact.most) == (1, 1)
    assert len(found) == 4
    for vectors in found:
        np.testing.assert_array_equal(vectors, normalized(GOOD))


@pytest.mark.parametrize("seconds", [None, 2.5])
def test_the_clock_is_that_of_the_backends_device(seconds):
    backend = Stub(GOOD)
    backend.device_seconds = seconds
    assert encoder_of(backend, Stub(GOOD))[0].device_seconds == seconds


def test_doubt():
    vectors = np.array([[1, 0], [0.5, 0], [np.nan, 1], [1e30, 1e30]], dtype=np.float32)
    assert doubtful_rows(vectors, unit_length=True).tolist() == [1, 2, 3]
    assert doubtful_rows(vectors, unit_length=False).tolist() == [2]


def test_normalizing_against_torch():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(50, 7)).astype(np.float32) * 10.0 ** random.integers(
        -9, 9, (50, 1)
    )
    vectors = np.vstack([vectors, np.zeros((1, 7))]).astype(np.float32)
    expected = torch.nn.functional.normalize(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(normalized(vectors), expected, rtol=1e-6, atol=0)


@pytest.fixture
def overflowing(sentence_model, tmp_path):
    """A model whose vectors fit float32, and overflow float16 where token 9 comes first."""
    import shutil

    from safetensors.torch import load_file, save_file

    directory = shutil.copytree(sentence_model(pooling="cls"), tmp_path / "model")
    tensors = load_file(directory / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][9] = 0
    tensors["embeddings.word_embeddings.weight"][9, :16] = 7e5
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return str(directory)


def test_a_model_that_overflows_in_half_precision(overflowing):
    def load(precision):
        config = ModelConfig(model=overflowing, device="cpu", backend="torch", precision=precision)
        return load_encoder(read_model(config))

    batch = TokenBatch.from_lists([[2, 5, 6, 3], [9, 5, 3], [2, 8, 3]])
    half, exact = load("float16"), load("float32")
    assert not np.isfinite(half._backend.run(batch)[1]).all(), "the model must overflow"
    np.testing.assert_allclose(half.encode(batch), exact.encode(batch), atol=5e-3)
    np.testing.assert_array_equal(half.encode(batch)[1], exact.encode(batch.take(np.array([1])))[0])


def test_the_exact_model_of_openvino_is_torch(minilm):
    config = ModelConfig(model=minilm, device="cpu", backend="openvino")
    spec = read_model(config)
    encoder = load_encoder(spec)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(["some text"])
    batch = TokenBatch(ids, offsets)
    good = encoder.encode(batch)

    class Broken:
        device = "broken"

        def run(self, batch):
            return np.full((len(batch), 384), np.nan, dtype=np.float32)

    encoder._backend = Broken()
    assert (encoder.encode(batch) * good).sum() > 0.9998


def test_lost_devices():
    assert device_is_lost(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert device_is_lost(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling gemm"))
    assert not device_is_lost(torch.OutOfMemoryError("CUDA out of memory. CUDA error"))
    assert not device_is_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
