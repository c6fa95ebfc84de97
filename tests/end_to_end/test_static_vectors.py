"""Static vectors are the same on every engine."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.config import JobConfig
from embedkit.dataset.version import find_version
from embedkit.encoders.static.directory import write_directory
from embedkit.engines.run import run_job

WORDS = ["one", "two", "three", "four", "five"]


def rows(root: Path) -> pa.Table:
    parts = sorted(Path(find_version(str(root)).url).glob("data/*.parquet"))
    return pa.concat_tables(pq.read_table(part) for part in parts).replace_schema_metadata(None)


def test_engines_write_the_same_vectors(ray_session: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    write_directory(tmp_path / "model", rng.normal(size=(5, 8)), WORDS)
    texts = [" ".join(rng.choice([*WORDS, "six"], 1 + number % 7)) for number in range(600)]
    lines = (json.dumps({"text": text}) for text in texts)
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    job = JobConfig(
        inputs=(str(tmp_path / "in.jsonl"),),
        model=str(tmp_path / "model"),
        output=str(tmp_path / "plain"),
        engine="plain",
        block_rows=100,
        publish_anyway=True,
    )
    plain = run_job(job)
    local = run_job(job.model_copy(update={"engine": "local", "output": str(tmp_path / "local")}))
    assert rows(tmp_path / "local").equals(rows(tmp_path / "plain"))
    assert plain.reject_reasons == local.reject_reasons
    assert plain.unknown_share == local.unknown_share > 0
