"""The peers of the speed benchmark, one to a process: the same JSONL, the same model, Parquet out.

Each runs as its own documentation shows it, with its defaults. The clock of all of them, as of
embedkit, runs from the first call to the encoder to the end of the last, after one warm-up call
that it does not count, so start-up, imports and loading the model are left out.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

_WARM_UP = 32


class EncodeClock:
    """Keeps when the first call to an encoder began and the last one ended."""

    def __init__(self) -> None:
        self.start = self.end = 0.0
        self.calls = self.texts = 0

    def wrap(self, encode: Callable) -> Callable:
        """Returns the same function, clocked."""

        def clocked(*args, **kwargs):
            texts = list(args[-1])
            if not self.calls:
                encode(*args[:-1], texts[:_WARM_UP])
                self.start = time.time()
            vectors = encode(*args, **kwargs)
            self.end = time.time()
            self.calls += 1
            self.texts += len(texts)
            return vectors

        return clocked

    def to_json(self) -> str:
        """Returns the seconds, calls and texts."""
        figures = {"seconds": self.end - self.start, "calls": self.calls, "texts": self.texts}
        return json.dumps(figures)


def sentence_transformers(model: str, corpus: Path, output: Path) -> str:
    """All texts in one call of ``SentenceTransformer.encode``; nothing is written."""
    from sentence_transformers import SentenceTransformer

    lines = [line for file in sorted(corpus.glob("*.jsonl")) for line in file.open()]
    clock = EncodeClock()
    encode = clock.wrap(SentenceTransformer(model).encode)
    encode([json.loads(line)["text"] for line in lines])
    return clock.to_json()


def beam_mltransform(model: str, corpus: Path, output: Path) -> str:
    """``MLTransform`` with ``SentenceTransformerEmbeddings``, read and written by Beam's own IO."""
    import apache_beam as beam
    import pyarrow as pa
    from apache_beam.ml.transforms.base import MLTransform
    from apache_beam.ml.transforms.embeddings.huggingface import SentenceTransformerEmbeddings
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from sentence_transformers import SentenceTransformer

    clock = EncodeClock()
    SentenceTransformer.encode = clock.wrap(SentenceTransformer.encode)
    embeddings = SentenceTransformerEmbeddings(model_name=model, columns=["text"])
    # The runner that DirectRunner falls back to where Prism cannot be had.
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(flags=[]))
    _ = (
        pipeline
        | beam.io.ReadFromText(str(corpus / "*.jsonl"))
        | beam.Map(json.loads)
        | MLTransform(write_artifact_location=str(output / "artifacts")).with_transform(embeddings)
        | beam.Map(lambda row: {"embedding": row["text"]})
        | beam.io.WriteToParquet(
            str(output / "part"), pa.schema([("embedding", pa.list_(pa.float32()))])
        )
    )
    pipeline.run().wait_until_finish()
    return clock.to_json()


def ray_data(model: str, corpus: Path, output: Path) -> str:
    """``map_batches`` with one actor that has all cores, read and written by Ray Data's own IO."""
    import ray

    cores = os.cpu_count() or 1
    figures = output / "figures.json"

    class Embed:
        def __init__(self) -> None:
            import torch
            from sentence_transformers import SentenceTransformer

            # Ray gives an actor one thread per CPU that it asks for, and the reader needs one too.
            torch.set_num_threads(cores)
            self.clock = EncodeClock()
            self.encode = self.clock.wrap(SentenceTransformer(model).encode)

        def __call__(self, batch):
            vectors = self.encode(list(batch["text"]))
            figures.write_text(self.clock.to_json())
            return {"embedding": vectors}

    output.mkdir(parents=True, exist_ok=True)
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.read_json(str(corpus))
    compute = ray.data.ActorPoolStrategy(size=1)
    rows.map_batches(Embed, compute=compute).write_parquet(str(output / "parts"))
    ray.shutdown()
    return figures.read_text()


PEERS = {
    "sentence-transformers": sentence_transformers,
    "Beam MLTransform": beam_mltransform,
    "Ray Data": ray_data,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    print(PEERS[options.peer](options.model, options.corpus, options.output))
