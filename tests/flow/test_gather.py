"""What all blocks of a version say together, by one process or by two."""

import json
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blocks import DESCRIPTION, MAX_TOKENS, make_block, make_options

from embedkit.dataset import finalize as finalizing
from embedkit.dataset.commit import commit_block
from embedkit.dataset.finalize import finalize
from embedkit.dataset.processes import here, processes
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow.gather import gather, processes_for
from embedkit.reports.statistics import Sidecar

ROWS = (2, 3, 4, 300, 6, 0, 8, 4)


@pytest.fixture(scope="module")
def two():
    with processes(2) as each:
        yield each


@pytest.fixture
def version(tmp_path, monkeypatch):
    """Small blocks, a larger one whose part has to be read, one without rows, and one twice."""
    monkeypatch.setattr(finalizing, "BLOCKS_AT_ONCE", 3)
    version = Version(str(tmp_path), "v1")
    for number, rows in enumerate(ROWS):
        # The last has the texts of the third.
        block = make_block(number if number < 7 else 2, 0, rows, rejects=number % 2)
        block = replace(block, split_id=f"{number:05d}")
        sidecar = Sidecar.of(block, MAX_TOKENS).to_json()
        commit_block(version, block, make_options(), MAX_TOKENS, sidecar)
    return version


def completed(version, each):
    splits = [f"{number:05d}" for number in range(len(ROWS))]
    manifest = finalize(version, splits, DESCRIPTION, each)
    return manifest, gather(version, blocks_of(splits), manifest.parts, each)


def blocks_of(splits):
    return [f"{split}-00000" for split in splits]


def test_two_processes_say_the_same_bytes_as_one(version, two):
    manifest, gathered = completed(version, here)
    others, elsewhere = completed(version, two)
    assert others.to_json() == manifest.to_json()
    assert elsewhere.repeated == gathered.repeated
    said, again = (json.dumps(one.statistics.to_dict()) for one in (gathered, elsewhere))
    assert again == said


def test_repeated_texts_are_those_of_the_parts(version, two):
    manifest, gathered = completed(version, two)
    rows = pa.concat_tables(pq.read_table(f"{version.url}/{part.path}") for part in manifest.parts)
    hashes = rows.column("text_hash").to_pylist()
    several = {text: count for text, count in Counter(hashes).items() if count > 1}
    assert gathered.repeated.hashes == len(several)
    assert gathered.repeated.occurrences == sum(several.values())
    top = {hashes[one.first]: one.count for one in gathered.repeated.top}
    assert top == several
    assert len(several) == 8
    assert all(hashes.index(hashes[one.first]) == one.first for one in gathered.repeated.top)


def test_damage_is_named_by_whichever_process_finds_it(version, two):
    manifest, _ = completed(version, two)
    blocks = blocks_of(f"{number:05d}" for number in range(len(ROWS)))
    key = version.stats_key(blocks[5])
    version.store.replace(key, b'{"rows": 7}')
    with pytest.raises(IntegrityError, match=rf"{key}: not the statistics that were written"):
        gather(version, blocks, manifest.parts, two)


@pytest.mark.parametrize(("blocks", "several"), [(0, False), (4095, False), (100_000, True)])
def test_processes_are_started_for_many_blocks(blocks, several, monkeypatch):
    monkeypatch.setattr("embedkit.flow.gather.usable_cores", lambda: 3)
    assert processes_for(blocks) == (3 if several else 1)
