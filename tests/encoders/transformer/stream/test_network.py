"""Streams against transformers itself, in float32 on the CPU."""

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Pooling
from transformers import AutoModel

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.encoders.transformer.network import load_network
from embedkit.encoders.transformer.stream.network import StreamNetwork, stream_of
from embedkit.vectors import TokenBatch

STREAMED = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "modernbert",
    "gpt2",
    "qwen3",
    "mistral",
    "electra",
    "albert",
)
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LONGEST = 64
BOUND = 2e-5


def rows_of(lengths: list[int], vocabulary: int, seed: int = 1) -> TokenBatch:
    random = np.random.default_rng(seed)
    return TokenBatch.from_lists(
        random.integers(5, vocabulary, size=length).tolist() for length in lengths
    )


def network_of(directory: str, **settings: Any) -> tuple[Any, StreamNetwork]:
    wanted = {"backend": "torch", "device": "cpu", "precision": "float32", "normalize": False}
    spec = read_model(ModelConfig(model=directory, **(wanted | settings)))
    return spec, StreamNetwork(load_network(spec), spec)


def streamed(network: StreamNetwork, batch: TokenBatch) -> np.ndarray:
    with torch.inference_mode():
        return network(*stream_of(batch)).numpy()


def padded_hidden(
    directory: str, batch: TokenBatch, side: str, pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token vectors of a padded batch, as transformers gives them, and their mask."""
    width = int(batch.lengths.max())
    ids = torch.full((len(batch), width), pad_id)
    mask = torch.zeros_like(ids)
    for row, (start, end) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        own = slice(0, end - start) if side == "right" else slice(width - (end - start), width)
        ids[row, own] = torch.from_numpy(batch.input_ids[start:end].astype(np.int64))
        mask[row, own] = 1
    model = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    positions: dict[str, torch.Tensor] = {}
    if side == "left" and "roberta" not in model.config.model_type:
        positions["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        output = model.eval()(input_ids=ids, attention_mask=mask, **positions)
    return output.last_hidden_state, mask


def pooled(hidden: torch.Tensor, mask: torch.Tensor, mode: str, skipped: int = 0) -> np.ndarray:
    pooling = Pooling(hidden.shape[-1], mode, include_prompt=not skipped)
    features = {"token_embeddings": hidden, "attention_mask": mask.clone()}
    if skipped:
        features["prompt_length"] = skipped
    return pooling(features)["sentence_embedding"].numpy()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", STREAMED)
def test_every_architecture_and_pooling(architecture, side, plain_model):
    directory = plain_model(architecture)
    lengths = [1, 2, 3, LONGEST, 7, LONGEST - 1, 12, 1, 33]
    spec, network = network_of(directory, pooling="+".join(MODES), max_tokens=LONGEST)
    batch = rows_of(lengths, network.network.transformer.get_input_embeddings().num_embeddings)
    hidden, mask = padded_hidden(directory, batch, side, spec.pad_id)
    assert network.fits(batch).all()
    vectors = streamed(network, batch).reshape(len(batch), len(MODES), -1)
    for place, mode in enumerate(MODES):
        expected = pooled(hidden, mask, mode)
        bound = BOUND * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(vectors[:, place], expected, rtol=0, atol=bound, err_msg=mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_is_not_pooled(mode, sentence_model):
    directory = sentence_model(
        "bert",
        pooling=mode,
        normalize=False,
        include_prompt=False,
        max_tokens=LONGEST,
        prompts={"passage": "one two: "},
        default_prompt_name="passage",
    )
    spec, network = network_of(directory)
    skipped = spec.prompt_length
    assert skipped > 1
    batch = rows_of([skipped + 1, LONGEST, skipped + 9], 200)
    hidden, mask = padded_hidden(spec.transformer, batch, "right", spec.pad_id)
    expected = pooled(hidden, mask, mode, skipped)
    np.testing.assert_allclose(streamed(network, batch), expected, rtol=0, atol=BOUND * 10)


def test_dense_layers_and_leading_components(sentence_model):
    torch.manual_seed(3)
    dense = Dense(32, 48, activation_function=torch.nn.Tanh())
    directory = sentence_model("roberta", dense=(dense,), normalize=False, max_tokens=LONGEST)
    spec, network = network_of(directory, dimensions=20)
    batch = rows_of([5, 1, 30], 60)
    hidden, mask = padded_hidden(spec.transformer, batch, "right", spec.pad_id)
    with torch.inference_mode():
        expected = dense({"sentence_embedding": torch.from_numpy(pooled(hidden, mask, "mean"))})
    vectors = streamed(network, batch)
    assert vectors.shape == (3, 20)
    bound = {"rtol": 0, "atol": BOUND}
    np.testing.assert_allclose(vectors, expected["sentence_embedding"][:, :20], **bound)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "mistral", "roberta"])
def test_a_row_does_not_depend_on_the_rows_beside_it(architecture, plain_model):
    _, network = network_of(plain_model(architecture), pooling="mean", max_tokens=LONGEST)
    batch = rows_of([9, LONGEST, 1, 20], 60)
    together = streamed(network, batch)
    for row in range(len(batch)):
        alone = streamed(network, batch.take(np.array([row])))
        np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=2e-6)


def test_empty_rows_and_a_dummy_row_change_nothing(plain_model):
    _, network = network_of(plain_model("bert"), pooling="mean+max+lasttoken+cls", max_tokens=64)
    batch = rows_of([9, 30, 1], 60)
    ids, places, offsets, longest = stream_of(batch)
    longer = torch.cat([ids, torch.zeros(24, dtype=torch.int32)])
    at = torch.cat([places, torch.arange(24, dtype=torch.int32)])
    ends = torch.cat([offsets, torch.full((9,), 64, dtype=torch.int32)])
    with torch.inference_mode():
        vectors = network(longer, at, ends, longest).numpy()
    assert vectors.shape[0] == 12
    np.testing.assert_allclose(vectors[:3], streamed(network, batch), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("architecture", "fits"), [("bert", True), ("roberta", False)])
def test_text_with_the_id_of_the_fill(architecture, fits, plain_model):
    """Where positions are counted without it, as RoBERTa's are, the row goes in padded batches."""
    directory = plain_model(architecture)
    spec, network = network_of(directory, pooling="mean", max_tokens=LONGEST)
    batch = TokenBatch.from_lists([[7, 8, spec.pad_id, 9], [7, 8, 9], [], [5] * (LONGEST + 1)])
    np.testing.assert_array_equal(network.fits(batch), [fits, True, False, False])
    if fits:
        one = batch.take(np.array([0]))
        ids = torch.from_numpy(one.input_ids.astype(np.int64))[None]
        with torch.inference_mode():
            expected = network.network(ids, torch.ones_like(ids)).numpy()
        np.testing.assert_allclose(streamed(network, one), expected, rtol=0, atol=BOUND)


def test_the_network_itself_stays_usable(plain_model):
    _, network = network_of(plain_model("bert"), pooling="mean", max_tokens=LONGEST)
    ids = torch.arange(5, 45).reshape(2, 20)
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        before = network.network(ids, mask)
        streamed(network, rows_of([3, 9], 60))
        after = network.network(ids, mask)
    assert torch.equal(before, after)


def test_a_fault_inside_leaves_the_models_attention(plain_model):
    _, network = network_of(plain_model("bert"), pooling="mean", max_tokens=LONGEST)
    config = network.network.transformer.config
    before = config._attn_implementation
    ids, places, offsets, longest = stream_of(rows_of([3], 60))
    with pytest.raises(IndexError):
        network(ids, places + LONGEST, offsets, longest)
    with pytest.raises(IndexError):
        network(ids + 1_000_000, places, offsets, longest)
    assert config._attn_implementation == before
