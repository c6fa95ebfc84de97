"""Commit records, and what a second attempt at a block makes of what it finds."""

import dataclasses
import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from embedkit.dataset.commit import commit_block, end_split
from embedkit.dataset.committed import (
    CommitRecord,
    SplitEnd,
    committed,
    done_splits,
    ended_splits,
    record_without_rows,
    standing_end,
)
from embedkit.dataset.parquet import write_part
from embedkit.dataset.record import Record
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import sha256
from embedkit.formats.reused import Reused

STATS = b'{"rows": 5}'


def commit(version, block, options, stats=STATS):
    return commit_block(version, block, options, 32, stats)


def test_an_attempt_whose_document_is_rejected_whole_meanwhile_leaves_no_part(
    version, make_block, make_options, monkeypatch
):
    block = make_block(0, 3, 6)
    rejected = record_without_rows(block.block_id, block.documents, 0).with_statistics(STATS)
    store = version.store
    create = type(store).create

    def after_another(self, key, data):
        if key == version.commit_key(block.block_id):
            create(self, key, rejected.to_json())
        return create(self, key, data)

    monkeypatch.setattr(type(store), "create", after_another)
    assert commit(version, block, make_options()) == rejected
    assert version.store.size(version.part_key(block.block_id)) is None
    assert committed(version) == {block.block_id: rejected}


@pytest.fixture(params=["local", "memory"])
def version(request, tmp_path):
    root = str(tmp_path / "root") if request.param == "local" else f"memory://{tmp_path.name}"
    return Version(root, "v1")


def test_the_record_accounts_for_the_block(version, make_block, make_options):
    block = make_block(0, 3, 6, rejects=2)
    record = commit(version, block, make_options())
    stored = version.store.read("v1/data/part-00000-00003.parquet")
    n_tokens = block.rows.column("n_tokens").to_pylist()
    seen = [min(count, 32) for count in n_tokens]
    assert record == CommitRecord(
        block_id="00000-00003",
        part="data/part-00000-00003.parquet",
        size=len(stored),
        sha256=sha256(stored),
        documents=8,
        rows=6,
        rejects=2,
        id_digest=record.id_digest,
        tokens=sum(seen),
        n_tokens=sum(n_tokens),
        # The first two texts are equal, and only the first of them is encoded.
        tokens_encoded=sum(seen) - seen[1],
        truncated=sum(count > 32 for count in n_tokens),
        stats_size=len(STATS),
        stats_sha256=sha256(STATS),
        rejects_sha256=sha256(version.store.read("v1/rejects/00000-00003.jsonl")),
    )
    assert record.truncated > 0
    written = json.loads(version.store.read("v1/_meta/commits/00000-00003.json"))
    assert written.pop("checksum")
    assert written == record.to_dict()
    assert version.store.read("v1/_meta/stats/00000-00003.json") == STATS
    rejects = version.store.read("v1/rejects/00000-00003.jsonl").splitlines()
    assert [json.loads(line) for line in rejects] == [
        dataclasses.asdict(reject) for reject in block.rejects
    ]


def test_the_id_digest_knows_the_set_and_not_its_order(make_block, make_options, tmp_path):
    block = make_block(rows=7)
    turned = block.with_rows(block.rows.take(pa.array([6, 2, 0, 1, 5, 4, 3])))
    fewer = dataclasses.replace(block, rows=block.rows.slice(0, 6), documents=6)
    digests = [
        commit(Version(str(tmp_path), name), each, make_options()).id_digest
        for name, each in (("a", block), ("b", turned), ("c", fewer))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_block_without_rows_has_no_part(version, make_block, make_options):
    record = commit(version, make_block(rows=0, rejects=3), make_options())
    assert (record.part, record.size, record.sha256, record.rows) == (None, 0, "", 0)
    assert record.documents == record.rejects == 3
    assert list(version.store.list("v1/data/")) == []
    assert committed(version) == {"00000-00000": record}


def test_a_block_without_rejects_has_no_reject_file(version, make_block, make_options):
    commit(version, make_block(), make_options())
    assert list(version.store.list("v1/rejects/")) == []


def test_a_committed_block_is_not_written_again(version, make_block, make_options):
    first = commit(version, make_block(), make_options())
    other = make_block(seed=9)
    assert commit(version, other, make_options(), b"other") == first
    assert version.store.read(version.part_key("00000-00000")) == (
        write_part(make_block(), make_options())
    )


def nudged(block, by=1e-4):
    """The block as other hardware encodes it."""
    vectors = block.vectors.matrix + np.float32(by)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.reshape(-1)), type=block.rows.schema.field("embedding").type
    )
    index = block.rows.schema.get_field_index("embedding")
    return block.with_rows(
        block.rows.set_column(index, block.rows.schema.field("embedding"), column)
    )


def test_the_part_of_a_dead_attempt_is_used(version, make_block, make_options):
    block = make_block()
    left = write_part(nudged(block), make_options())
    version.store.create(version.part_key(block.block_id), left)
    record = commit(version, block, make_options())
    assert (record.sha256, record.size) == (sha256(left), len(left))
    assert version.store.read(version.part_key(block.block_id)) == left


def broken_parts(make_block, make_options):
    block = make_block()
    good = write_part(block, make_options())
    yield "not a readable part", b"PAR1 nonsense PAR1"
    yield "not a readable part", good[: len(good) // 2]
    yield "not a readable part", b""
    yield "its rows differ", write_part(make_block(0, 7), make_options())
    yield "its rows differ", write_part(make_block(rows=4), make_options())
    turned = block.with_rows(block.rows.take(pa.array([1, 0, 2, 3, 4])))
    yield "its rows differ", write_part(turned, make_options())
    yield "its columns differ", write_part(block, make_options(store_text=True))
    wide = make_block(dimension=16)
    yield "its columns differ", write_part(wide, make_options(16))
    yield "its columns differ", write_part(block, make_options(vector_dtype="float16"))
    other = dataclasses.replace(make_options(), file_metadata={"embedkit.fingerprint": "e" * 32})
    yield "its fingerprint differs", write_part(block, other)
    yield "not finite", write_part(nudged(block, np.nan), make_options())


def test_what_was_taken_over_is_said_by_the_part_that_stands(version, make_block, make_options):
    block = make_block()
    taken = dataclasses.replace(block, reused=Reused("v0", rows=3, tokens=7, added=1))
    # Another attempt encoded all of it, or took over as much; its vectors are a little different.
    for place, others in enumerate([None, Reused("v0", rows=2)]):
        there = Version(version.root, f"v{place}")
        left = dataclasses.replace(nudged(block, 0.25), reused=others)
        there.store.create(there.part_key(block.block_id), write_part(left, make_options()))
        assert commit(there, taken, make_options()).reused == others
    there = Version(version.root, "same")
    there.store.create(there.part_key(block.block_id), write_part(block, make_options()))
    assert commit(there, taken, make_options()).reused == taken.reused
    there = Version(version.root, "torn")
    options = make_options()
    said = {**options.file_metadata, "embedkit.reused": "[]"}
    torn = write_part(nudged(block, 0.25), dataclasses.replace(options, file_metadata=said))
    there.store.create(there.part_key(block.block_id), torn)
    with pytest.raises(IntegrityError, match=r"part-00000-00000.parquet: its footer is damaged"):
        commit(there, taken, make_options())


def test_a_part_that_does_not_validate_is_named(tmp_path, make_block, make_options):
    cases = list(broken_parts(make_block, make_options))
    for number, (fault, data) in enumerate(cases):
        version = Version(str(tmp_path), f"v{number}")
        version.store.create(version.part_key("00000-00000"), data)
        with pytest.raises(IntegrityError, match=fault) as caught:
            commit(version, make_block(), make_options())
        message = str(caught.value)
        assert f"v{number}/data/part-00000-00000.parquet" in message
        assert "remove it and run" in message
        assert "\n" not in message
        assert committed(version) == {}
        version.store.remove(version.part_key("00000-00000"))
        assert commit(version, make_block(), make_options()).rows == 5


def test_a_part_where_the_block_has_no_rows_is_named(version, make_block, make_options):
    version.store.create(version.part_key("00000-00000"), write_part(make_block(), make_options()))
    with pytest.raises(IntegrityError, match=r"part-00000-00000\.parquet: a part of a block"):
        commit(version, make_block(rows=0, rejects=5), make_options())


def test_rejects_of_a_dead_attempt(version, make_block, make_options):
    block = make_block(rejects=2)
    for place, lines in enumerate([b"{}\n", b"nonsense", b""]):
        key = version.reject_key(block.block_id)
        version.store.create(key, lines)
        with pytest.raises(IntegrityError, match=r"rejects/00000-00000\.jsonl: left by another"):
            commit(version, block, make_options())
        version.store.remove(key)
        assert place >= 0
    reworded = [dataclasses.replace(reject, detail="said otherwise") for reject in block.rejects]
    lines = "".join(json.dumps(dataclasses.asdict(reject)) + "\n" for reject in reworded).encode()
    version.store.create(version.reject_key(block.block_id), lines)
    assert commit(version, block, make_options()).rejects == 2


def test_a_block_must_account_for_its_documents(version, make_block, make_options):
    block = dataclasses.replace(make_block(), documents=6)
    with pytest.raises(IntegrityError, match="6 documents came in, but 5 are in its rows and 0"):
        commit(version, block, make_options())
    assert list(version.store.list("")) == []


def test_an_id_twice_in_a_block_is_refused(version, make_block, make_options):
    block = make_block()
    rows = block.rows.set_column(0, block.rows.schema.field("id"), pa.array(["a"] * 5))
    with pytest.raises(IntegrityError, match="an id occurs twice"):
        commit(version, block.with_rows(rows), make_options())


def test_chunks_of_a_document_count_as_one(version, make_block, make_options):
    block = make_block()
    rows = block.rows.set_column(1, block.rows.schema.field("doc_id"), pa.array(list("aabbb")))
    record = commit(version, dataclasses.replace(block, rows=rows, documents=2), make_options())
    assert (record.documents, record.rows) == (2, 5)


def test_another_record_of_the_same_block_is_an_error(version, make_block, make_options):
    record = commit(version, make_block(), make_options())
    key = version.commit_key("00000-00000")
    store = version.store

    class Late:
        """A store on which the record appears only after it was looked for."""

        looked = False

        def __getattr__(self, name):
            return getattr(store, name)

        def read(self, asked):
            if asked == key and not self.looked:
                self.looked = True
                raise FileNotFoundError(key)
            return store.read(asked)

    late = Version(version.root, version.name)
    late.__dict__["store"] = Late()
    assert commit(late, make_block(), make_options()) == record
    store.replace(key, dataclasses.replace(record, tokens=1).to_json())
    late.__dict__["store"] = Late()
    with pytest.raises(IntegrityError, match="says other than the same block"):
        commit(late, make_block(), make_options())


def test_a_record_without_a_field_that_has_a_default_is_of_an_earlier_release():
    @dataclasses.dataclass(frozen=True)
    class Grown(Record):
        rows: int
        blanks: int = 0

    assert Grown.from_json(b'{"rows": 3}', "record.json") == Grown(3)
    with pytest.raises(IntegrityError, match="wrong or missing fields rows"):
        Grown.from_json(b'{"blanks": 3}', "record.json")
    with pytest.raises(IntegrityError, match="wrong or missing fields blanks"):
        Grown.from_json(b'{"rows": 3, "blanks": null}', "record.json")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        ({"rows": "5"}, "wrong or missing fields rows"),
        ({"rows": True}, "wrong or missing fields rows"),
        ({"rows": -1}, "wrong or missing fields rows"),
        ({"id_digest": "x"}, "wrong or missing fields id_digest"),
        ({"block_id": "00000-00001"}, "of block '00000-00001'"),
        ({"part": "../../etc/passwd"}, "with part '../../etc/passwd'"),
        ({"part": None}, "with part None"),
    ],
)
def test_a_damaged_record_is_named(version, make_block, make_options, change, fault):
    record = commit(version, make_block(), make_options())
    if isinstance(change, dict):
        change = json.dumps(record.to_dict() | change).encode()
    version.store.replace(version.commit_key("00000-00000"), change)
    for attempt in (
        lambda: committed(version),
        lambda: commit(version, make_block(), make_options()),
    ):
        with pytest.raises(IntegrityError, match=r"_meta/commits/00000-00000\.json") as caught:
            attempt()
        assert fault in str(caught.value)


def test_committed_reads_only_what_it_does_not_know(version, make_block, make_options):
    first = commit(version, make_block(0), make_options())
    known = committed(version)
    second = commit(version, make_block(1), make_options())
    version.store.replace(version.commit_key("00000-00000"), b"never read again")
    assert committed(version, known) == {"00000-00000": first, "00001-00000": second}


def test_blocks_are_ordered_by_number_and_not_by_digit(version, make_block, make_options):
    for split in (100_000, 99_999, 2):
        commit(version, make_block(split, rows=1), make_options())
        end_split(version, SplitEnd(f"{split:05d}", 1, 1))
    order = ["00002", "99999", "100000"]
    assert list(committed(version)) == [f"{split}-00000" for split in order]
    assert list(ended_splits(version)) == order


def test_a_split_ends_with_its_last_block(version, make_block, make_options):
    commit(version, make_block(2, 0, last=False), make_options())
    assert ended_splits(version) == {}
    commit(version, make_block(2, 1, rejects=1, before=5), make_options())
    assert ended_splits(version) == {"00002": SplitEnd("00002", 2, 11)}
    version.store.remove(version.split_key("00002"))
    commit(version, make_block(2, 1, rejects=1, before=5), make_options())
    assert ended_splits(version) == {"00002": SplitEnd("00002", 2, 11)}


def test_a_split_ends_once(version):
    end_split(version, SplitEnd("00007", 3, 40))
    end_split(version, SplitEnd("00007", 3, 40))
    assert ended_splits(version) == {"00007": SplitEnd("00007", 3, 40)}
    with pytest.raises(IntegrityError, match="says 3 blocks and 40 documents, this attempt read 3"):
        end_split(version, SplitEnd("00007", 3, 41))


def test_an_end_that_stands_for_another_split_is_refused_however_it_is_read(version):
    assert standing_end(version, "00007") is None
    version.store.create(version.split_key("00007"), SplitEnd("00008", 3, 40).to_json())
    for read in (ended_splits, lambda version: standing_end(version, "00007")):
        with pytest.raises(IntegrityError, match=r"splits/00007\.json: of split '00008'"):
            read(version)


def test_a_split_is_done_when_all_of_its_blocks_are_committed(version, make_block, make_options):
    assert not version.split_is_done("00000")
    end_split(version, SplitEnd("00000", 2, 10))
    commit(version, make_block(0, 1, before=5), make_options())
    assert not version.split_is_done("00000")
    commit(version, make_block(0, 0, last=False), make_options())
    assert version.split_is_done("00000")
    blocks = version.committed_of("00000")
    assert "00000-00001" in blocks
    assert "00000-00002" not in blocks


def test_the_splits_that_are_done_are_told_from_one_listing(version, make_block, make_options):
    for split, seq in [(0, 0), (0, 1), (1, 1), (2, 0), (3, 0)]:
        commit(version, make_block(split, seq, last=False), make_options())
    for split in (0, 1, 3):
        end_split(version, SplitEnd(f"{split:05d}", 2 if split < 2 else 1, 10))
    done = done_splits(version, committed(version))
    assert done == {"00000", "00003"}
    assert done == {f"{split:05d}" for split in range(4) if version.split_is_done(f"{split:05d}")}


def test_records_do_not_depend_on_the_order_of_their_fields(make_block, make_options, tmp_path):
    version = Version(str(tmp_path), "v1")
    record = commit(version, make_block(), make_options())
    turned = dict(reversed(record.to_dict().items()))
    assert CommitRecord.from_json(json.dumps(turned).encode(), "x").to_json() == record.to_json()


def test_a_version_travels_without_its_store(version):
    assert version.store.url
    copy = pickle.loads(pickle.dumps(version))
    assert copy == version
    assert "store" not in vars(copy)
