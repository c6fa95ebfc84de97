"""Sidecars that release 0.1 wrote, against what is measured of the parts beside them."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from releases import FIXTURES

from embedkit.records import Reject
from embedkit.reports.sample import keys_of
from embedkit.reports.sections import lengths, records, similarity, vectors
from embedkit.reports.statistics import Sidecar, Statistics
from embedkit.vectors import EmbeddingBlock

SIDECARS = sorted((FIXTURES / "0.1.0" / "root").glob("*/_meta/stats/*.json"))


def block_of(sidecar) -> tuple[EmbeddingBlock, int]:
    """The block as its files have it, and the tokens that the model sees."""
    version, name = sidecar.parents[2], sidecar.stem
    rejects = version / "rejects" / f"{name}.jsonl"
    lines = rejects.read_text().splitlines() if rejects.exists() else []
    found = tuple(Reject(**json.loads(line)) for line in lines)
    split, seq = name.split("-")
    part = version / "data" / f"part-{name}.parquet"
    table = pq.read_table(part)
    (rows,) = table.combine_chunks().to_batches()
    documents = len(set(rows.column("doc_id").to_pylist())) + len(found)
    max_tokens = json.loads(table.schema.metadata[b"embedkit.max_tokens"])
    return EmbeddingBlock(split, int(seq), documents, False, found, rows), max_tokens


def with_part(sidecar) -> bool:
    return (sidecar.parents[2] / "data" / f"part-{sidecar.stem}.parquet").exists()


@pytest.mark.parametrize("path", filter(with_part, SIDECARS), ids=lambda path: path.stem)
def test_it_says_what_is_measured_of_its_part(path):
    data = path.read_bytes()
    assert "sections" not in json.loads(data)
    block, max_tokens = block_of(path)
    found = Sidecar.from_json(data, path.stem).statistics
    expected = Statistics.of(block, max_tokens)
    for section in (records.SECTION, lengths.SECTION):
        ours, theirs = (section.codec.dump_python(one.get(section)) for one in (found, expected))
        # Documents of several blocks are counted in the first of them.
        assert ours.pop("documents", 0) <= theirs.pop("documents", 0)
        assert ours.pop("embedded", 0) <= theirs.pop("embedded", 0)
        # What a value was that became null is told nowhere else.
        ours.pop("nulled", None), theirs.pop("nulled", None)
        assert ours == theirs
    ours, theirs = (one.get(vectors.SECTION) for one in (found, expected))
    assert ours.histogram == theirs.histogram
    assert ours.norms.count == theirs.norms.count
    assert ours.norms.mean == pytest.approx(theirs.norms.mean, abs=1e-12)
    assert ours.norms.deviation == pytest.approx(theirs.norms.deviation, abs=1e-12)
    ours, theirs = (one.get(similarity.SECTION) for one in (found, expected))
    assert ours.count == theirs.count
    assert ours.total.values == pytest.approx(theirs.total.values, abs=1e-9)
    assert found.keys.keys.tolist() == np.sort(keys_of(block.rows.column("id"))).tolist()
    assert found.keys.unsure() == [path.stem]


def test_those_of_a_version_are_added_and_written_as_this_release_does():
    of_version = [path for path in SIDECARS if path.parents[2].name == "vadff9308c351"]
    read = [Sidecar.from_json(path.read_bytes(), path.stem).statistics for path in of_version]
    total = sum(read, Statistics.empty())
    back = Statistics.from_dict(json.loads(json.dumps(total.to_dict())))
    assert back.to_dict() == total.to_dict()
    (nulled,) = back.get(records.SECTION).nulled
    assert (nulled.column, nulled.count) == ("stars", 1)
    report = json.loads((of_version[0].parents[2] / "report" / "report.json").read_text())
    assert back.get(records.SECTION).rows == report["counts"]["rows"]
    assert back.get(records.SECTION).embedded == report["counts"]["embedded"]
    cosine = report["similarity"]["mean_cosine"]
    assert back.get(similarity.SECTION).mean_cosine == pytest.approx(cosine, abs=1e-9)
