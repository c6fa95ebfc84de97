"""Texts in RunInference: the vectors of a run, and rejects that are results of their own."""

import threading

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from beam_running import results
from reference_version import SETTINGS, beam_reference, reference

from embedkit.errors import ConfigError, EncoderError
from embedkit.flow.embedded_texts import TextReject
from embedkit.transforms.run_inference import METRICS, EncoderHandler, PartRejects


def found(rows, results_) -> dict:
    names = [row["id"] for row in rows]
    kinds = [
        one.inference.reason if isinstance(one.inference, TextReject) else one.inference
        for one in results_
    ]
    return dict(zip(names, kinds, strict=True))


def test_vectors_and_reasons_are_those_of_a_run(tiny_model):
    run = beam_reference(tiny_model)
    handler = EncoderHandler(tiny_model, text_column="text", **SETTINGS)
    made = results(lambda p: p | beam.Create(run.rows, reshuffle=False) | RunInference(handler))
    assert [one.example for one in made] == run.rows
    assert {one.model_id for one in made} == {tiny_model}
    vectors = found(run.rows, made)
    run.check(vectors, atol=1e-6)
    assert len(vectors) == len(run.rows)
    assert {type(one.inference) for one in made} == {np.ndarray, TextReject}


def test_a_handler_rejects_what_beams_own_coders_do_not_take(tiny_model):
    run = reference(tiny_model)
    handler = EncoderHandler(tiny_model, text_column="text", **SETTINGS)
    vectors = found(run.rows, handler.run_inference(run.rows, handler.load_model()))
    run.check(vectors)
    assert vectors["surrogate"] == "invalid_json"


@pytest.mark.parametrize("large_model", [False, True])
def test_keys_stay_with_their_texts_and_the_two_kinds_are_parted(tiny_model, large_model):
    run = beam_reference(tiny_model)
    pairs = [(row["id"], row["text"]) for row in run.rows]
    handler = KeyedModelHandler(
        EncoderHandler(tiny_model, max_batch_size=7, large_model=large_model, **SETTINGS)
    )

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        parted = pipeline | beam.Create(pairs) | RunInference(handler) | PartRejects()
        return (
            parted.vectors | "v" >> beam.Map(lambda one: ("vectors", one)),
            parted.rejects | "r" >> beam.Map(lambda one: ("rejects", one)),
        ) | beam.Flatten()

    made = results(build)
    assert sorted(key for _, (key, _) in made) == sorted(key for key, _ in pairs)
    for part, (key, one) in made:
        assert isinstance(one.inference, TextReject) == (part == "rejects") == (key in run.reasons)
        assert one.example == dict(pairs)[key]
        run.check({key: one.inference if part == "vectors" else one.inference.reason}, atol=1e-6)


def test_rows_of_every_kind_are_joined_by_a_template(tiny_model):
    handler = EncoderHandler(tiny_model, text_template="{title}. {text}", **SETTINGS)
    rows = [{"title": "a", "text": "b"}, beam.Row(title="a", text="b"), {"text": "c"}, {}]
    made = results(lambda p: p | beam.Create(rows) | RunInference(handler))
    alone = EncoderHandler(tiny_model, **SETTINGS)
    texts = alone.run_inference(["a. b", "a. b", ". c", None], alone.load_model())
    assert [found([{"id": 0}], [one])[0] is not None for one in made] == [True] * 4
    for one, text in zip(made[:3], texts, strict=False):
        np.testing.assert_allclose(one.inference, text.inference, rtol=0, atol=1e-6)
    assert made[3].inference.reason == "missing_column"


def test_beams_own_ways_to_wrap_a_handler_work(tiny_model):
    def text_of(row):
        return row["body"]

    def length(result: PredictionResult):
        return result.example, len(result.inference)

    handler = (
        EncoderHandler(tiny_model, **SETTINGS)
        .with_preprocess_fn(text_of)
        .with_postprocess_fn(length)
    )
    rows = [{"body": "one"}, {"body": "two"}]
    made = results(lambda p: p | beam.Create(rows) | RunInference(handler))
    assert sorted(made) == [("one", 32), ("two", 32)]
    batches = [["one", ""], ["two"]]
    unbatched = EncoderHandler(tiny_model, **SETTINGS).with_no_batching()
    made = results(lambda p: p | beam.Create(batches) | RunInference(unbatched))
    assert sorted(one.example for one in made) == ["", "one", "two"]


class Lost:
    """Reaches encoders that fail for texts of more than so many tokens."""

    def encode_all(self, batches):
        for batch in batches:
            if max(batch.lengths) > 8:
                raise EncoderError("an encoder was lost: it was pulled")
            yield np.ones((len(batch), 32), np.float32)


def test_a_lost_encoder_fails_the_run_or_is_a_dead_letter(tiny_model):
    handler = EncoderHandler(tiny_model, connect=Lost, pooling="mean", max_batch_size=1)
    texts = ["one", "corpus reason record " * 4, ""]

    def letters(pipeline: beam.Pipeline) -> beam.PCollection:
        inference = RunInference(handler).with_exception_handling()
        return (pipeline | beam.Create(texts) | inference)[1].failed_inferences

    ((batch, (kind, said, _)),) = results(letters)
    assert (batch, kind) == (texts[1:2], EncoderError)
    assert "it was pulled" in said
    with pytest.raises(EncoderError, match="it was pulled"):
        results(lambda p: p | beam.Create(texts) | RunInference(handler))


def test_rejects_are_counted_by_reason(tiny_model):
    from apache_beam.metrics import MetricsFilter
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    handler = EncoderHandler(tiny_model, **SETTINGS)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | beam.Create(["", None, " ", "one"]) | RunInference(handler)
    done = pipeline.run()
    done.wait_until_finish()
    counters = done.metrics().query(MetricsFilter().with_namespace(METRICS))["counters"]
    counted = {one.key.metric.name: one.committed for one in counters}
    assert counted == {"num_inferences": 4, "rejects_empty_text": 2, "rejects_missing_column": 1}


def test_many_threads_use_one_model(tiny_model):
    handler = EncoderHandler(tiny_model, **SETTINGS)
    model = handler.load_model()
    expected = handler.run_inference(["one", "two"], model)
    wrong = []

    def work() -> None:
        made = handler.run_inference(["one", "two"], model)
        pairs = zip(made, expected, strict=True)
        wrong.extend(a for a, b in pairs if not np.array_equal(a.inference, b.inference))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("least", "most", "sizes"),
    [(None, None, (256, 4096)), (None, 8, (8, 8)), (9000, None, (9000, 9000)), (2, 3, (2, 3))],
)
def test_sizes_of_batches_fit_together(tiny_model, least, most, sizes):
    handler = EncoderHandler(tiny_model, min_batch_size=least, max_batch_size=most)
    made = handler.batch_elements_kwargs()
    assert (made["min_batch_size"], made["max_batch_size"]) == sizes


def test_what_is_wrong_is_said_before_anything_runs(tiny_model):
    with pytest.raises(ConfigError, match=r"^prompts: Extra inputs are not permitted$"):
        EncoderHandler(tiny_model, prompts="a")
    with pytest.raises(ConfigError, match="inference_args: normalize is unknown"):
        pipeline = beam.Pipeline()
        handler = EncoderHandler(tiny_model)
        _ = pipeline | beam.Create([""]) | RunInference(handler, inference_args={"normalize": 1})


def test_a_refreshed_model_takes_the_place_of_the_first(tiny_model):
    handler = EncoderHandler("no such directory", **SETTINGS)
    handler.update_model_path()
    with pytest.raises(ConfigError, match="no such directory"):
        handler.load_model()
    handler.update_model_path(tiny_model)
    (made,) = handler.run_inference(["one"], handler.load_model())
    assert made.model_id == tiny_model


@pytest.mark.soak
def test_encoders_of_a_ray_cluster_give_the_same_vectors(tiny_model, ray_session):
    import ray

    from embedkit.actors.encoder_pool import EncoderPool
    from embedkit.config import ModelConfig
    from embedkit.encoders.kinds import read_model

    spec = read_model(ModelConfig(model=tiny_model, **SETTINGS))
    namespace = ray.get_runtime_context().namespace
    pool = EncoderPool(
        spec, encoders=1, namespace=namespace, calls_in_flight=2, timeout=120.0, cpus=0.1
    )
    try:
        handler = EncoderHandler(
            tiny_model, text_column="text", connect=pool.connection, **SETTINGS
        )
        run = beam_reference(tiny_model)
        made = results(lambda p: p | beam.Create(run.rows, reshuffle=False) | RunInference(handler))
        run.check(found(run.rows, made), atol=1e-6)
    finally:
        pool.stop()
