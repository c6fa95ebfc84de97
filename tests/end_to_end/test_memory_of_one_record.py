"""The memory of a run does not depend on what one record is, below ``max_record_bytes``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import MEGABYTES
from running import Dataset
from tiny_models import save_transformer

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

MOST_MEGABYTES = 1500
SIZE = 15_900_000

RECORDS = {
    "dots": "." * SIZE,
    "one word": "x" * SIZE,
    "prose": "The quick brown fox jumps over the lazy dog. " * (SIZE // 45),
    "words": "lorem ipsum dolor sit amet " * (SIZE // 27),
    "ideographs": "\u6f22\u5b57\u65e5\u672c" * (SIZE // 12),
    "emoji": "\U0001f600" * (SIZE // 4),
    "joined": "\U0001f469\u200d" * (SIZE // 7),
    "marks": "a" + "\u0301" * (SIZE // 2),
    "zero width": "a" + "\u200b" * (SIZE // 3),
    # JSON writes a line end as two characters.
    "line ends": "a" + "\n" * (SIZE // 2 - 50) + "b",
    "lines": "a\n" * (SIZE // 3 - 50),
    "spaces": "a" + " " * SIZE + "b",
    "hex": "0123456789abcdef" * (SIZE // 16),
}

CHILD = f"""
{MEGABYTES}
import sys
from embedkit.config import JobConfig
from embedkit.engines.run import run_job
run_job(JobConfig.model_validate_json(sys.argv[1]))
print(megabytes("VmHWM"))
"""


CASES = [
    *(("bert", "none", record) for record in RECORDS),
    *(("bert", chunk, record)
      for chunk in ("tokens", "sentences", "paragraphs")
      for record in ("prose", "one word", "lines")),
    *(("modernbert", "stable-paragraphs", record) for record in ("prose", "words", "hex")),
    *((kind, "none", record)
      for kind in ("modernbert", "xlm-roberta")
      for record in ("dots", "hex")),
]  # fmt: skip
"""Reading depends on neither chunks nor tokenizers, so not on every pair of them."""


@pytest.mark.parametrize(("kind", "chunk", "record"), CASES)
def test_one_large_record(kind: str, chunk: str, record: str, tmp_path: Path) -> None:
    model = save_transformer(tmp_path / "model", kind)
    ends = '{"id": "before", "text": "before"}\n{"id": "behind", "text": "behind"}\n'
    large = json.dumps({"id": "large", "text": RECORDS[record]}, ensure_ascii=False)
    (tmp_path / "in.jsonl").write_text(f"{large}\n{ends}")
    settings = {
        "inputs": [str(tmp_path / "in.jsonl")], "id_column": "id", "model": model,
        "pooling": "mean", "output": str(tmp_path / "out"), "engine": "plain", "backend": "torch",
        "precision": "float32", "device": "cpu", "chunk": chunk, "max_reject_share": 1.0,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(settings)],
        capture_output=True, text=True, check=False, timeout=850,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    megabytes = int(done.stdout.split()[-1])
    dataset = Dataset.latest(tmp_path / "out")
    documents = {row["doc_id"] for row in dataset.table.select(["doc_id"]).to_pylist()}
    rejected = {reject["doc_id"] for reject in dataset.rejects}
    print(f"{record}, {chunk}: {megabytes} MB, {dataset.table.num_rows} rows")
    assert documents | rejected == {"before", "large", "behind"}
    assert not documents & rejected
    assert megabytes < MOST_MEGABYTES
