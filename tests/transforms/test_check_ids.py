"""Repeated ids found on a pipeline's own workers, the same as in one process."""

import json
from pathlib import Path

import numpy as np
import pytest
from beam_running import results
from reading import corpus_config, write

from embedkit.config import CorpusConfig
from embedkit.corpus import duplicates
from embedkit.corpus.duplicates import check_ids
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import plan_inputs
from embedkit.dataset.version import Version
from embedkit.errors import InputError
from embedkit.flow import check_ids as flow
from embedkit.flow.check_ids import check_ids_by_workers
from embedkit.flow.map_splits import map_in_threads
from embedkit.transforms.check_ids import CheckIds
from embedkit.transforms.read import ReadCorpus


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    """Twelve splits of thirty records; some ids repeat, one of them in every split."""
    ids = np.random.default_rng(7).integers(0, 2000, (12, 30))
    ids[:, 4] = 5000
    for shard, row in enumerate(ids.tolist()):
        lines = [json.dumps({"id": one, "text": f"text of {one}"}) for one in row]
        write(tmp_path / "in" / f"{shard:02d}.jsonl", lines)
    return corpus_config(tmp_path / "in", id_column="id", split_bytes=1200)


def test_splits_come_with_what_repeats_in_them(corpus: CorpusConfig) -> None:
    plan = plan_inputs(corpus)
    assert len(plan.splits) == 12
    found = results(lambda p: p | CheckIds(plan, corpus))
    expected = check_ids(plan, corpus)
    assert expected.duplicates > 20
    assert sorted(found, key=lambda split: split.split_id) == list(expected.splits)


def test_reading_a_corpus_finds_them_first(corpus: CorpusConfig) -> None:
    found = results(lambda p: p | ReadCorpus(corpus))
    plan = check_ids(plan_inputs(corpus), corpus)
    expected = [block for split in plan.splits for block in read_split(split, plan, corpus)]
    assert sorted(found, key=lambda block: block.block_id) == expected


def test_hashes_that_meet_by_chance_reject_nothing(
    corpus: CorpusConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_inputs(corpus)
    expected = check_ids(plan, corpus)
    monkeypatch.setattr(
        duplicates, "_hashes", lambda ids: np.array([len(one) for one in ids], np.uint64)
    )
    found = results(lambda p: p | CheckIds(plan, corpus))
    assert sorted(found, key=lambda split: split.split_id) == list(expected.splits)


def test_a_column_that_holds_no_id_is_refused(
    corpus: CorpusConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_MOST_DUPLICATES", 10)
    with pytest.raises(InputError, match=r"id column 'id' is not an id: \d+ of 360 records repeat"):
        results(lambda p: p | ReadCorpus(corpus))


def test_what_other_engines_keep_is_taken_from_there(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = Version(str(tmp_path / "out"), "v1")
    plan = plan_inputs(corpus)
    expected = list(check_ids(plan, corpus).splits)

    def splits() -> list[object]:
        found = results(lambda p: p | CheckIds(plan, corpus, version))
        return sorted(found, key=lambda split: split.split_id)

    assert splits() == expected
    kept = {path: path.read_bytes() for path in tmp_path.rglob("_meta/ids/*")}
    assert len(kept) == 12
    # Now that the hashes stand, nobody reads all ids again, be it on this engine or on another.
    monkeypatch.setattr(flow, "id_hashes", None)
    assert splits() == expected
    assert list(check_ids_by_workers(plan, corpus, version, map_in_threads).splits) == expected
    assert {path: path.read_bytes() for path in tmp_path.rglob("_meta/ids/*")} == kept
    # And what repeats is known as well, so that reading begins at once.
    monkeypatch.setattr("embedkit.transforms.read.CheckIds", None)
    assert results(lambda p: p | ReadCorpus(corpus, plan, version=version))
