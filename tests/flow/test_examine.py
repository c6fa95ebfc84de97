"""Rows read again from the parts of a version."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from blocks import Job, make_block, make_options

from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow import examine
from embedkit.flow.examine import examine_rows
from embedkit.reports.second_moments import SecondMoments

SIZES = (5, 1, 0, 40, 7)


@pytest.fixture(scope="module")
def job():
    return Job([make_block(split, 0, rows) for split, rows in enumerate(SIZES)])


@pytest.fixture
def version(job, tmp_path):
    version = Version(str(tmp_path), "v1")
    return version, job.complete(version).parts


def test_it_is_what_the_blocks_say(job, version):
    found = examine_rows(*version)
    every = np.concatenate([block.vectors.matrix for block in job.blocks if block.rows.num_rows])
    assert found.moments.count == 53
    assert np.array_equal(found.moments.products, SecondMoments.of(every).products)
    assert (found.blocks, found.of_blocks) == (4, 4)


def test_of_many_parts_the_same_few_are_read(version, monkeypatch):
    monkeypatch.setattr(examine, "MOST_BLOCKS", 2)
    one, two = examine_rows(*version), examine_rows(*version)
    assert (one.blocks, one.of_blocks) == (2, 4)
    assert one.moments.count == two.moments.count < 53


def test_texts_are_read_where_they_may_be_shown_and_are_not_very_long(job, tmp_path, monkeypatch):
    stored = Version(str(tmp_path / "texts"), "v1")
    parts = Job(job.blocks, make_options(store_text=True)).complete(stored).parts
    ids = [one for block in job.blocks for one in block.rows.column("id").to_pylist()]
    texts = [one for block in job.blocks for one in block.rows.column("text").to_pylist()]
    sources = [one for block in job.blocks for one in block.rows.column("source").to_pylist()]

    def read(texts):
        return examine_rows(stored, parts, texts).sample.drawn()

    found = read(True)
    assert len(found) == len(ids)
    assert [texts[place] for place in found.places] == found.beginnings.tolist()
    assert [sources[place] for place in found.places] == found.sources.tolist()
    assert set(read(False).beginnings) == {None}
    sizes = [pq.ParquetFile(f"{stored.url}/{part.path}").metadata.row_group(0) for part in parts]
    column = pq.ParquetFile(f"{stored.url}/{parts[0].path}").metadata.schema.names.index("text")
    largest = max(group.column(column).total_uncompressed_size for group in sizes)
    monkeypatch.setattr(examine, "_MOST_TEXT", largest - 1)
    some = read(True).beginnings
    assert 0 < sum(one is None for one in some) < len(some)


def test_half_precision_is_read_as_it_is(tmp_path):
    job = Job([make_block(0, 0, 9, dtype="float16")], make_options(vector_dtype="float16"))
    version = Version(str(tmp_path), "v1")
    parts = job.complete(version).parts
    assert np.array_equal(
        examine_rows(version, parts).moments.total,
        SecondMoments.of(job.blocks[0].vectors.matrix).total,
    )


def test_a_version_without_rows(tmp_path):
    version = Version(str(tmp_path), "v1")
    manifest = Job([make_block(0, 0, 0, rejects=1)]).complete(version)
    assert not len(examine_rows(version, manifest.parts).moments.low)


def test_a_part_that_is_gone_is_named(version):
    where, parts = version
    where.store.remove(where.key(parts[1].path))
    with pytest.raises(IntegrityError, match=r"part-00001-00000\.parquet: in the manifest, but"):
        examine_rows(where, parts)
