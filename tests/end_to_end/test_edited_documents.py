"""An edit of a long document: only the chunks around it are encoded."""

import random

import pytest
from marked import mark_vectors
from running import Dataset, sentence, tiny_job, write_jsonl

from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job

SETTINGS = {"id_column": "id", "chunk_tokens": 14, "store_text": True}


def long_documents(longest):
    """Three of some 120 sentences, and one of more."""
    chosen = random.Random(0)

    def text(sentences):
        parts = (
            f"{sentence(chosen.randrange(10**6), chosen.randint(3, 12))}." for _ in range(sentences)
        )
        return " ".join(parts)

    return [text(120), text(120), text(120), text(longest)]


def night(model, folder, version, texts, **settings):
    """Runs one night's job over the documents; returns its result and the hashes of all rows."""
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    write_jsonl(folder / "in" / "shard.jsonl", rows)
    job = tiny_job(model, folder / "in", folder / "out", version=version, **SETTINGS | settings)
    result = run_job(job)
    assert validate(Version(job.output, version)).problems == ()
    return result, Dataset(folder / "out" / version)


# The longest has more chunks than a block may have, but in the quick case.
CASES = [
    (200, {"chunk": "stable-sentences"}),
    pytest.param(1500, {"chunk": "stable-sentences"}, marks=pytest.mark.soak),
    pytest.param(1500, {"chunk": "stable-paragraphs", "chunk_overlap": 4}, marks=pytest.mark.soak),
    pytest.param(
        1500, {"chunk": "stable-sentences", "late_chunking": True}, marks=pytest.mark.soak
    ),
]


@pytest.mark.parametrize(("longest", "settings"), CASES)
def test_a_sentence_at_the_top_costs_a_few_chunks(tiny_model, tmp_path, longest, settings):
    late = "late_chunking" in settings
    texts = long_documents(longest)
    night(tiny_model, tmp_path, "first", texts, **settings)
    mark_vectors(Version(str(tmp_path / "out"), "first"))
    old = {}
    for row in Dataset(tmp_path / "out" / "first").table.to_pylist():
        old.setdefault(row["text_hash"], []).append(row["embedding"])
    edited = [f"This was not here yesterday. {text}" for text in texts]
    second, dataset = night(tiny_model, tmp_path, "second", edited, **settings)
    rows = dataset.table.to_pylist()
    changed = [row for row in rows if row["text_hash"] not in old]
    assert max(row["chunk_index"] for row in rows) > (1024 if longest > 1000 and not late else 150)
    assert (second.rows_encoded, second.rows_reused) == (len(changed), len(rows) - len(changed))
    assert f"| chunk | {settings['chunk']} |" in (dataset.folder / "README.md").read_text()
    kept = (row for row in rows if row["text_hash"] in old)
    assert all(row["embedding"] in old[row["text_hash"]] for row in kept)
    # Of each document the chunks at its top, and no others.
    assert {row["doc_id"] for row in changed} == {"d0", "d1", "d2", "d3"}
    assert max(row["chunk_index"] for row in changed) < (24 if late else 6)
    assert second.tokens_encoded < second.tokens / 10
