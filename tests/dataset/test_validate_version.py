"""Every kind of damage to a version is found and named."""

import dataclasses
import json

import numpy as np
import pytest

from embedkit.dataset import validate as validate_module
from embedkit.dataset.committed import committed
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.parquet import write_part
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import canonical_json, sha256, with_checksum


def problems(version):
    found = validate(version).problems
    for line in found:
        assert "\n" not in line
        assert "; " in line
    return found


def forge(version, block, options, **changes):
    """Puts another part in a block's place, with records that agree with it."""
    key = version.part_key(block.block_id)
    data = write_part(block, options)
    version.store.replace(key, data)
    record = committed(version)[block.block_id]
    record = dataclasses.replace(record, size=len(data), sha256=sha256(data), **changes)
    version.store.replace(version.commit_key(block.block_id), record.to_json())
    manifest = read_manifest(version)
    parts = tuple(
        dataclasses.replace(part, size=record.size, sha256=record.sha256, rows=record.rows)
        if version.key(part.path) == key
        else part
        for part in manifest.parts
    )
    forge_manifest(version, dataclasses.replace(manifest, parts=parts))


def forge_manifest(version, manifest):
    data = manifest if isinstance(manifest, bytes) else manifest.to_json()
    version.store.replace(version.manifest_key, data)
    success = {"manifest_sha256": sha256(data), "number": 1}
    version.store.replace(version.success_key, canonical_json(success))


def test_a_good_version(complete):
    report = validate(complete)
    assert report.problems == ()
    assert report.ok
    manifest = read_manifest(complete)
    assert (report.parts, report.rows, report.size) == (3, 12, manifest.size)
    assert "all as the manifest says" in report.to_text()
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_reports_beside_the_data_are_no_problem(complete):
    complete.store.create("v1/report/report.html", b"<html></html>\n")
    assert problems(complete) == ()


def test_a_version_that_is_not_complete(version, job):
    job.write(version)
    (line,) = problems(version)
    assert "not complete; run its job again" in line


@pytest.mark.parametrize("offset", [4, 200, -5])
def test_every_flipped_byte_of_a_part_is_found(complete, offset):
    key = "v1/data/part-00000-00000.parquet"
    data = bytearray(complete.store.read(key))
    data[offset] ^= 0x01
    complete.store.replace(key, bytes(data))
    found = problems(complete)
    assert any("part-00000-00000.parquet" in line for line in found)


def test_a_truncated_part(complete):
    key = "v1/data/part-00000-00000.parquet"
    complete.store.replace(key, complete.store.read(key)[:-100])
    assert any(
        "part-00000-00000.parquet: not a readable part" in line for line in problems(complete)
    )


@pytest.mark.parametrize(
    "path",
    [
        "data/part-00000-00001.parquet",
        "rejects/00000-00001.jsonl",
        "_meta/stats/00000-00000.json",
        "_meta/plan.json",
        "README.md",
    ],
)
def test_a_file_that_is_gone(complete, path):
    complete.store.remove(complete.key(path))
    assert [line for line in problems(complete) if f"{path}: gone" in line]


def test_a_commit_record_that_is_gone(complete):
    complete.store.remove("v1/_meta/commits/00000-00001.json")
    assert any("00000-00001.json" in line for line in problems(complete))


@pytest.mark.parametrize("path", ["data/part-00009-00000.parquet", "data/x.csv", "notes.txt"])
def test_a_stray_file(complete, path):
    complete.store.create(complete.key(path), b"x")
    (line,) = problems(complete)
    assert path in line
    assert "move it out" in line


def test_a_manifest_that_was_changed(complete):
    manifest = read_manifest(complete)
    changed = dataclasses.replace(manifest, description={**manifest.description, "model": "other"})
    complete.store.replace(complete.manifest_key, changed.to_json())
    (line,) = problems(complete)
    assert "_meta/manifest.json: changed after the version was completed" in line


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"format": "9"}'])
def test_a_manifest_that_is_none(complete, data):
    forge_manifest(complete, data)
    (line,) = problems(complete)
    assert "not a manifest of format 1" in line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dimension", ""),
        ("dimension", -1),
        ("dimension", 1 << 31),
        ("metric", 1),
        ("normalized", 1),
    ],
)
def test_a_description_of_other_kinds(complete, name, said):
    manifest = read_manifest(complete)
    description = {**manifest.description, name: said}
    forge_manifest(complete, dataclasses.replace(manifest, description=description))
    (line,) = problems(complete)
    assert "_meta/manifest.json: not a manifest of format 1" in line
    assert name in line


@pytest.mark.parametrize("data", [b"done", b"[" * 100_000])
def test_a_mark_that_is_none(complete, data):
    complete.store.replace(complete.success_key, data)
    (line,) = problems(complete)
    assert "_SUCCESS: not what embedkit wrote" in line


@pytest.mark.parametrize("name", ["documents", "rows", "rejects", "tokens", "truncated"])
def test_counts_that_do_not_add_up(complete, name):
    manifest = read_manifest(complete)
    forge_manifest(complete, dataclasses.replace(manifest, **{name: getattr(manifest, name) + 1}))
    found = problems(complete)
    assert any(f"{name}, but the commit records add up to" in line for line in found)


def test_ids_of_another_set(complete):
    forge_manifest(complete, dataclasses.replace(read_manifest(complete), id_digest="0" * 32))
    (line,) = problems(complete)
    assert f"expected {'0' * 32}" in line


def test_a_commit_that_differs_from_the_manifest(complete):
    record = committed(complete)["00000-00000"]
    changed = dataclasses.replace(record, sha256="0" * 64)
    complete.store.replace(complete.commit_key("00000-00000"), changed.to_json())
    (line,) = problems(complete)
    assert "commits/00000-00000.json: says other of data/part-00000-00000.parquet" in line


def test_a_commit_with_other_ids(complete):
    record = committed(complete)["00000-00000"]
    changed = dataclasses.replace(record, id_digest="0" * 32)
    complete.store.replace(complete.commit_key("00000-00000"), changed.to_json())
    (line,) = problems(complete)
    assert "commits/00000-00000.json: ids of data/part-00000-00000.parquet" in line


def with_vectors(block, vectors):
    import pyarrow as pa

    field = block.rows.schema.field("embedding")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=field.type)
    index = block.rows.schema.get_field_index("embedding")
    return block.with_rows(block.rows.set_column(index, field, column))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (np.nan, "1 vectors are not finite"),
        (np.inf, "1 vectors are not finite"),
        (5.0, "1 vectors are not of length 1, the farthest has 5"),
    ],
)
def test_vectors_that_are_wrong(complete, job, value, fault):
    block = job.blocks[0]
    vectors = block.vectors.matrix.copy()
    vectors[3] = 0
    vectors[3, 2] = value
    forge(complete, with_vectors(block, vectors), job.options)
    (line,) = problems(complete)
    assert "data/part-00000-00000.parquet" in line
    assert fault in line


def test_a_zero_vector_is_not_normalized(complete, job):
    block = job.blocks[0]
    vectors = block.vectors.matrix.copy()
    vectors[0] = 0
    forge(complete, with_vectors(block, vectors), job.options)
    (line,) = problems(complete)
    assert "1 vectors are not of length 1, the farthest has 0" in line


def test_norms_need_not_be_1_where_nobody_says_so(version, make_job, make_block, job):
    description = {**job.description, "normalized": False, "metric": "dot"}
    make_job([make_block(normalize=False)], description=description).complete(version)
    assert problems(version) == ()


def test_float16_norms_are_within_the_tolerance(version, make_job, make_block, make_options, job):
    options = make_options(384, vector_dtype="float16")
    blocks = [make_block(rows=500, dimension=384, dtype="float16")]
    description = {**job.description, "dimension": 384}
    make_job(blocks, options=options, description=description).complete(version)
    assert problems(version) == ()


def test_an_id_in_two_parts(complete, job, make_block):
    """Both parts and all records agree, so that only reading the ids can tell."""
    from embedkit.dataset.identity import add_digests, id_digest

    block = dataclasses.replace(make_block(0, 0, 4), split_id="00002")
    digest = id_digest(block.rows.column("id"))
    forge(complete, block, job.options, id_digest=digest)
    manifest = read_manifest(complete)
    total = add_digests([record.id_digest for record in committed(complete).values()])
    forge_manifest(complete, dataclasses.replace(manifest, id_digest=total))
    found = problems(complete)
    assert len(found) == 4
    assert (
        "part-00000-00000.parquet: id 'doc-0-0-0' occurs 2 times, also in data/part-00002"
        in (found[0])
    )


def test_equal_hashes_of_different_ids_are_no_problem(complete, monkeypatch):
    hashes = np.array([1, 2, 3], dtype=np.uint64)
    monkeypatch.setattr(
        validate_module, "repeated", lambda arrays: (np.concatenate([*arrays, hashes]), None)
    )
    assert problems(complete) == ()


@pytest.mark.parametrize("change", ["dtype", "text", "metadata"])
def test_columns_that_differ_between_parts(complete, job, make_block, make_options, change):
    import pyarrow as pa

    block, options = job.blocks[1], make_options()
    if change == "dtype":
        options = make_options(vector_dtype="float16")
    elif change == "text":
        options = make_options(store_text=True)
    else:
        block = block.with_rows(block.rows.append_column("extra", pa.array([1, 2, 3])))
    forge(complete, block, options)
    (line,) = problems(complete)
    assert "part-00000-00001.parquet: its columns are not those" in line


def test_vectors_of_another_dimension(complete, job):
    manifest = read_manifest(complete)
    forge_manifest(
        complete,
        dataclasses.replace(manifest, description={**manifest.description, "dimension": 16}),
    )
    assert any("vectors of 16 components" in line for line in problems(complete))


@pytest.mark.parametrize("name", [b"text\xeehash", b"\xffext_hash", b"text_has\xc3"])
def test_a_part_whose_columns_have_no_names(complete, name):
    key = complete.part_key("00000-00001")
    complete.store.replace(key, complete.store.read(key).replace(b"text_hash", name))
    assert any("00000-00001.parquet: not a readable part" in line for line in problems(complete))


@pytest.mark.parametrize("blocks", [10**6, 10**12, 2**62])
def test_an_end_of_more_blocks_than_fit_into_memory(complete, blocks):
    end = json.loads(complete.store.read(complete.split_key("00000")))
    forged = canonical_json(with_checksum(end | {"blocks": blocks}))
    complete.store.replace(complete.split_key("00000"), forged)
    (line,) = problems(complete)
    assert f"splits/00000.json: {blocks} blocks, of which {blocks - 2} are gone; restore" in line


@pytest.mark.parametrize("lines", [b"", b"{}\n{}\n", b"nonsense\nmore\n", b'{"reason": "x"}\n'])
def test_rejects_that_do_not_add_up(complete, lines):
    complete.store.replace("v1/rejects/00000-00001.jsonl", lines)
    (line,) = problems(complete)
    assert "rejects/00000-00001.jsonl" in line
    assert "expected 2 rejects" in line


@pytest.mark.parametrize(
    ("name", "fault"),
    [(None, "LATEST: gone"), (b"v7\n", "LATEST: names v7"), (b"../x", "names no version")],
)
def test_latest(complete, name, fault):
    if name is None:
        complete.store.remove("LATEST")
    else:
        complete.store.replace("LATEST", name)
    (line,) = problems(complete)
    assert fault in line


def test_many_problems_are_counted_and_not_all_listed(complete, monkeypatch):
    monkeypatch.setattr(validate_module, "MOST_PROBLEMS", 3)
    for number in range(10):
        complete.store.create(f"v1/stray-{number}", b"x")
    report = validate(complete)
    assert len(report.problems) == 4
    assert report.problems[-1] == "and 7 problems more"
    assert "4 problems" in report.to_text()


def test_a_path_in_the_manifest_cannot_leave_the_version(complete):
    manifest = json.loads(complete.store.read(complete.manifest_key))
    manifest["parts"][0]["path"] = "../../secret.parquet"
    forge_manifest(complete, canonical_json(manifest))
    (line,) = problems(complete)
    assert "a part with another name" in line
    with pytest.raises(IntegrityError):
        Manifest.from_json(canonical_json(manifest), "x")


def test_a_version_in_s3(bucket, job):
    version = Version(f"s3://{bucket}/some/root", "v1")
    job.complete(version)
    assert problems(version) == ()
    version.store.remove("v1/data/part-00002-00000.parquet")
    assert any("part-00002-00000.parquet: gone" in line for line in problems(version))
