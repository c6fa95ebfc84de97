"""Columns of text in MLTransform: lists of floats, dead letters or reasons, and its artifacts."""

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.rag.types import Chunk, Content
from apache_beam.ml.transforms.base import EmbeddingTypeAdapter, MLTransform
from beam_running import results
from reference_version import SETTINGS, beam_reference
from running import SumClient

from embedkit.errors import ConfigError, EncoderError, ResumableError
from embedkit.transforms.ml_transform import TextEmbeddings


def transform(folder, model, columns=("text",), **settings) -> MLTransform:
    embed = TextEmbeddings(model, columns=list(columns), **(SETTINGS | settings))
    return MLTransform(write_artifact_location=str(folder)).with_transform(embed)


def both(source, transform_) -> tuple[list, list]:
    """What comes out of the two outputs of a transform with dead letters."""

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        embedded, letters = pipeline | source | transform_
        return (
            embedded | "0" >> beam.Map(lambda one: (0, one)),
            letters | "1" >> beam.Map(lambda one: (1, one)),
        ) | beam.Flatten()

    made = results(build)
    return [one for part, one in made if part == 0], [one for part, one in made if part == 1]


def test_vectors_and_reasons_are_those_of_a_run(tiny_model, tmp_path):
    run = beam_reference(tiny_model)
    made = results(
        lambda p: p | beam.Create(run.rows, reshuffle=False) | transform(tmp_path, tiny_model)
    )
    assert [row["id"] for row in made] == [row["id"] for row in run.rows]
    assert all(
        row.keys() == {*before, "text_reject"} for row, before in zip(made, run.rows, strict=True)
    )
    run.check({row["id"]: row["text_reject"] or row["text"] for row in made}, atol=1e-6)
    assert {type(row["text"]) for row in made} == {list, type(None)}
    assert type(made[0]["text"][0]) is float
    assert run.rows[0]["text"] == beam_reference(tiny_model).rows[0]["text"], (
        "rows were changed in place"
    )


def test_rows_that_cannot_be_embedded_are_dead_letters(tiny_model, tmp_path):
    run = beam_reference(tiny_model)
    dead = transform(tmp_path, tiny_model).with_exception_handling()
    embedded, letters = both(beam.Create(run.rows, reshuffle=False), dead)
    assert all(row.keys() == run.rows[0].keys() or "stars" not in row for row in embedded)
    run.check({row["id"]: row["text"] for row in embedded}, atol=1e-6)
    assert {one.element["id"]: one.msg.split(": ")[:2] for one in letters} == {
        name: ["text", reason] for name, reason in run.reasons.items()
    }
    texts = {row["id"]: row["text"] for row in run.rows}
    assert all(one.element["text"] == texts[one.element["id"]] for one in letters)
    assert {one.transform_name for one in letters} == {"TextEmbeddings"}
    assert len(embedded) + len(letters) == len(run.rows)


def test_artifacts_make_the_same_transform_again(tiny_model, tmp_path):
    run = beam_reference(tiny_model)
    made = results(
        lambda p: p | beam.Create(run.rows, reshuffle=False) | transform(tmp_path, tiny_model)
    )
    read = MLTransform(read_artifact_location=str(tmp_path))
    assert results(lambda p: p | beam.Create(run.rows, reshuffle=False) | read) == made
    dead = MLTransform(read_artifact_location=str(tmp_path)).with_exception_handling()
    assert len(both(beam.Create(run.rows, reshuffle=False), dead)[1]) == len(run.reasons)


def test_several_columns_of_beam_rows_are_embedded_each_for_itself(tiny_model, tmp_path):
    rows = [
        beam.Row(id=1, title="one", text="two"),
        beam.Row(id=2, title="", text="one"),
        beam.Row(id=3, title=None, text=None),
    ]
    plain = transform(tmp_path / "a", tiny_model, ["title", "text"])
    made = results(lambda p: p | beam.Create(rows) | plain)
    assert {one.id: (one.title_reject, one.text_reject) for one in made} == {
        1: (None, None),
        2: ("empty_text", None),
        3: ("missing_column", "missing_column"),
    }
    vectors = {one.id: (one.title, one.text) for one in made}
    np.testing.assert_allclose(vectors[1][0], vectors[2][1], rtol=0, atol=1e-6)
    assert vectors[3] == (None, None)
    dead = transform(tmp_path / "b", tiny_model, ["title", "text"]).with_exception_handling()
    embedded, letters = both(beam.Create(rows), dead)
    assert [one.id for one in embedded] == [1]
    assert not hasattr(embedded[0], "title_reject")
    assert sorted(one.msg.count("missing_column") for one in letters) == [0, 2]


def test_rows_need_not_have_the_same_columns(tiny_model, tmp_path):
    rows = [{"id": 1, "text": "one", "more": 1}, {"id": 2}, {"text": "two", "id": 3}]
    made = results(lambda p: p | beam.Create(rows) | transform(tmp_path, tiny_model))
    assert [(row["id"], row["text_reject"]) for row in made] == [
        (1, None),
        (2, "missing_column"),
        (3, None),
    ]
    assert made[0]["more"] == 1


def test_transforms_follow_one_another(tiny_model, tmp_path):
    chained = transform(tmp_path, tiny_model).with_transform(
        TextEmbeddings(tiny_model, columns=["title"], **SETTINGS)
    )
    rows = [{"text": "one", "title": "one"}, {"text": "", "title": "two"}]
    made = results(lambda p: p | beam.Create(rows) | chained)
    np.testing.assert_allclose(made[0]["text"], made[0]["title"], rtol=0, atol=1e-6)
    assert [(row["text_reject"], row["title_reject"]) for row in made] == [
        (None, None),
        ("empty_text", None),
    ]


def _texts(chunks):
    return [chunk.content.text for chunk in chunks]


def _pairs(chunks, vectors):
    return list(zip(chunks, vectors, strict=True))


@pytest.mark.parametrize("dead_letters", [False, True])
def test_elements_of_any_kind_go_through_a_type_adapter(tiny_model, tmp_path, dead_letters):
    embed = TextEmbeddings(
        tiny_model, type_adapter=EmbeddingTypeAdapter(_texts, _pairs), **SETTINGS
    )
    transform_ = MLTransform(write_artifact_location=str(tmp_path)).with_transform(embed)
    chunks = [Chunk(Content(text), id=str(n)) for n, text in enumerate(["one", "", "two"])]
    if not dead_letters:
        made = results(lambda p: p | beam.Create(chunks) | transform_)
        assert [(chunk.id, vector is None) for chunk, vector in made] == [
            ("0", False),
            ("1", True),
            ("2", False),
        ]
        return
    made, letters = both(beam.Create(chunks), transform_.with_exception_handling())
    assert [chunk.id for chunk, _ in made] == ["0", "2"]
    assert [one.element.id for one in letters] == ["1"]


class Broken(SumClient):
    def encode_all(self, batches):
        raise EncoderError("an encoder was lost: it was pulled")


def test_each_row_of_a_batch_that_failed_is_a_dead_letter_of_its_own(tiny_model, tmp_path):
    rows = [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]
    dead = transform(tmp_path / "a", tiny_model, connect=Broken).with_exception_handling()
    embedded, letters = both(beam.Create(rows), dead)
    assert embedded == []
    assert sorted(one.element["id"] for one in letters) == [1, 2]
    assert all("it was pulled" in one.msg for one in letters)
    plain = transform(tmp_path / "b", tiny_model, connect=Broken)
    with pytest.raises(EncoderError, match="it was pulled"):
        results(lambda p: p | beam.Create(rows) | plain)


def test_an_element_that_is_no_row_costs_the_others_of_its_batch_nothing(tiny_model, tmp_path):
    rows = [{"id": 1, "text": "rain"}, None, {"id": 2, "text": ""}, {"id": 3, "text": "a fox"}]
    embed = TextEmbeddings(tiny_model, columns=["text"], min_batch_size=4, pooling="mean")
    transform = MLTransform(write_artifact_location=str(tmp_path)).with_transform(embed)

    def both(pipeline):
        good, dead = pipeline | beam.Create(rows) | transform.with_exception_handling()
        told = dead | beam.Map(lambda one: (one.element, one.msg))
        return (good | beam.Map(lambda row: (row["id"], len(row["text"]))), told) | beam.Flatten()

    found = results(both)
    assert {one for one in found if isinstance(one[0], int)} == {(1, 32), (3, 32)}
    said = {one[0] and one[0]["id"]: one[1] for one in found if not isinstance(one[0], int)}
    assert said.keys() == {None, 2}
    assert "rows: an element is a NoneType" in said[None]
    assert said[2].startswith("text: empty_text")


def test_a_column_in_the_place_of_the_reasons_is_refused_and_not_lost(tiny_model, tmp_path):
    rows = [{"text": "one", "text_reject": "mine"}]
    with pytest.raises(ConfigError, match="rows: have a column text_reject already"):
        results(lambda p: p | beam.Create(rows) | transform(tmp_path / "a", tiny_model))
    dead = transform(tmp_path / "b", tiny_model).with_exception_handling()
    (row,), letters = both(beam.Create(rows), dead)
    assert (row["text_reject"], letters) == ("mine", [])


def test_too_large_a_share_of_dead_letters_fails_the_pipeline(tiny_model, tmp_path):
    rows = [{"text": text} for text in ("one", "two", "", None)]
    dead = transform(tmp_path, tiny_model).with_exception_handling(threshold=0.25)
    with pytest.raises(ResumableError, match=r"ValueError: .*exceeded threshold: 2 / 4"):
        both(beam.Create(rows), dead)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "columns: name the columns of text"),
        ({"columns": "text"}, r"columns: give a list, as \['text'\]"),
        ({"columns": ["text"], "max_tokens": 0}, "max_tokens: "),
        ({"columns": ["text"], "model_name": "x"}, "model_name: "),
    ],
)
def test_what_is_wrong_is_said_at_once(tiny_model, arguments, said):
    with pytest.raises(ConfigError, match=said):
        TextEmbeddings(tiny_model, **arguments)
