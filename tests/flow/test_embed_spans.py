"""Texts in memory to the vectors of their words or tokens."""

import pickle

import numpy as np
import pytest

from embedkit.actors.map_batches import EmbedBatches
from embedkit.errors import ConfigError
from embedkit.flow.embed_batches import EmbedExamples
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.flow.embedded_texts import EmbeddedTexts, SpanVectors
from embedkit.transforms.ml_transform import TextEmbeddings
from embedkit.transforms.run_inference import EncoderHandler

TEXTS = ["one text of words", "", "ZÜRICH\tliegt 😀", "one text of words", None, "rain"]
SETTINGS = {"granularity": "word", "backend": "torch", "precision": "float32"}


@pytest.fixture(scope="module")
def embedder(tiny_model):
    return TextEmbedder(tiny_model, **SETTINGS)


def test_every_text_has_the_vectors_and_characters_of_its_words(embedder):
    embedded = embedder.embed(TEXTS)
    found = list(embedded)
    assert len(embedded) == len(found) == len(TEXTS)
    assert {place: one.reason for place, one in embedded.rejects.items()} == {
        1: "empty_text",
        4: "missing_column",
    }
    words = [
        [text[start:end] for start, end in one.spans.tolist()]
        for text, one in zip(TEXTS, found, strict=True)
        if isinstance(one, SpanVectors)
    ]
    assert words == [text.split() for text in TEXTS if text]
    assert embedded.offsets.tolist() == [0, 4, 4, 7, 11, 11, 12]
    assert embedded.vectors.shape == (12, embedder.model.vectors.dimension)
    assert np.array_equal(found[0].vectors, found[3].vectors)
    for text, one in ((TEXTS[2], found[2]), (TEXTS[5], found[5])):
        (alone,) = embedder.embed([text])
        np.testing.assert_allclose(one.vectors, alone.vectors, atol=2e-5)


@pytest.mark.parametrize("texts", [[], [""], [None, ""]])
def test_nothing_to_embed(embedder, texts):
    embedded = embedder.embed(texts)
    assert embedded.vectors.shape == (0, embedder.model.vectors.dimension)
    assert (embedded.spans.shape, len(embedded)) == ((0, 2), len(texts))


def test_in_run_inference_each_result_has_vectors_and_spans(tiny_model, embedder):
    handler = EncoderHandler(tiny_model, **SETTINGS)
    results = list(handler.run_inference(TEXTS, handler.load_model()))
    first, reject = pickle.loads(pickle.dumps([one.inference for one in results[:2]]))
    assert (first.vectors.shape[0], first.spans.tolist()[1]) == (4, [4, 8])
    assert reject.reason == "empty_text"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(EmbedExamples, {}), (EmbedBatches, {}), (TextEmbeddings, {"columns": ["text"]})],
)
@pytest.mark.parametrize("granularity", ["word", "token"])
def test_adapters_of_one_vector_per_text_refuse_it_in_one_line(
    tiny_model, kind, settings, granularity
):
    with pytest.raises(ConfigError, match=f"^granularity: {kind.__name__} gives each") as raised:
        kind(tiny_model, granularity=granularity, **settings)
    assert "\n" not in str(raised.value)


def test_a_text_without_a_word_has_an_empty_list():
    none = SpanVectors(np.empty((0, 4), np.float32), np.empty((0, 2), np.int32))
    one = SpanVectors(np.ones((1, 4), np.float32), np.array([[0, 3]], np.int32))
    embedded = EmbeddedTexts.of_spans([none, one, None], {}, 4)
    assert [len(found.spans) for found in embedded] == [0, 1, 0]
