"""What an S3 store is asked while a version grows and is completed, counted on the wire."""

import json
from collections import Counter
from functools import partial
from urllib.parse import parse_qs, urlsplit

import aiobotocore.httpsession
import pytest
from blocks import MAX_TOKENS, Job, make_block, make_options
from running import records, tiny_job, write_jsonl

from embedkit.config import JobConfig
from embedkit.dataset.commit import commit_block
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.version import Version, find_version
from embedkit.engines.display import Nothing, Snapshot
from embedkit.engines.estimate import plan_job
from embedkit.engines.plain import PlainWork
from embedkit.engines.run import run_job
from embedkit.engines.sizing import SizingOptions
from embedkit.flow import beats

_RUNNING = {
    "LIST _meta/commits": 1,
    "PUT data": 1,
    "PUT _meta/stats": 1,
    "PUT _meta/commits": 1,
    "PUT _meta/splits": 1,
}
_FINISHING = {
    # Once to see that there is none yet, once to add up.
    "GET _meta/commits": 2,
    "GET _meta/splits": 2,
    "GET _meta/stats": 1,
    # Of the 512 rows at most that the report looks at, and of all of some 2,000 blocks at most.
    "GET data": 2,
}
_PLACES = ("_meta/commits", "_meta/splits", "_meta/stats", "data", "rejects")


@pytest.fixture
def requests(bucket, monkeypatch) -> Counter[str]:
    """Counts requests by method and folder; a listing is a LIST."""
    counted: Counter[str] = Counter()
    send = aiobotocore.httpsession.AIOHTTPSession.send

    async def counting(session, request):
        url = urlsplit(request.url)
        query = parse_qs(url.query)
        listed = query.get("prefix", [""])[0]
        method = "LIST" if "list-type" in query else request.method
        place = next((one for one in _PLACES if f"/{one}/" in (listed or url.path)), "rest")
        counted[f"{method} {place}"] += 1
        return await send(session, request)

    monkeypatch.setattr(aiobotocore.httpsession.AIOHTTPSession, "send", counting)
    return counted


@pytest.fixture(autouse=True)
def _no_heartbeat_by_the_clock(monkeypatch):
    """Those of a run's beginning are counted; those of its thread come as time goes by."""
    monkeypatch.setattr(beats, "_FIRST_SECONDS", 3600.0)


@pytest.fixture
def job_of(tiny_model, bucket, tmp_path):
    """Makes a job over so many files of one record each, which are splits of one block each."""

    def make(files: int):
        folder = tmp_path / f"corpus-{files}"
        folder.mkdir()
        for number in range(files):
            text = {"text": f"record {number} of {files} " + 3500 * " "}
            folder.joinpath(f"{number:03}.jsonl").write_text(json.dumps(text) + "\n")
        output = f"s3://{bucket}/{files}"
        return JobConfig(
            pooling="mean",
            inputs=(str(folder),),
            model=tiny_model,
            output=output,
            engine="plain",
            split_bytes=4096,
            # They ask for the rows of groups as well, which grow as they please.
            near_duplicates="off",
        )

    return make


def grown(few: Counter[str], many: Counter[str], blocks: int) -> dict[str, float]:
    """How many requests more there are for each block more."""
    return {
        name: (many[name] - few[name]) / blocks
        for name in sorted(few.keys() | many.keys())
        if many[name] != few[name]
    }


def counted(requests: Counter[str], work) -> Counter[str]:
    requests.clear()
    work()
    return Counter(requests)


def test_a_run_asks_a_constant_of_the_store_for_each_split_of_one_block(job_of, requests):
    jobs = [job_of(files) for files in (2, 7, 12)]
    few, some, many = (counted(requests, partial(run_job, job)) for job in jobs)
    each, further = grown(few, some, 5), grown(some, many, 5)
    # Some rows that are shown one by one, of which there are a few whatever the blocks.
    for found in (each, further):
        assert 2 <= found["GET data"] <= 3
        found["GET data"] = 2
    assert each == further
    assert {name: each.get(name, 0) for name in _RUNNING} == _RUNNING
    finishing = {name: count for name, count in each.items() if name not in _RUNNING}
    assert finishing.keys() <= _FINISHING.keys()
    assert all(count <= _FINISHING[name] for name, count in finishing.items())


def test_a_block_asks_the_same_however_much_is_committed(bucket, requests):
    asked = []
    for before in (1, 40):
        version = Version(f"s3://{bucket}/{before}", "v1")
        blocks = [make_block(split, 0, 2) for split in range(before + 1)]
        Job(blocks[:-1]).write(version)
        split = blocks[-1].split_id

        def work(version=version, split=split, block=blocks[-1]):
            committed = version.committed_of(split)
            assert not version.split_is_done(split, committed)
            assert block.block_id not in committed
            commit_block(version, block, make_options(), MAX_TOKENS, b"{}")

        asked.append(counted(requests, work))
    assert asked[0] == asked[1]
    assert asked[0] == _RUNNING | {"GET _meta/commits": 1}


def test_a_complete_version_is_found_so_by_its_records_and_one_listing_of_each_folder(
    job_of, requests
):
    few, many = job_of(2), job_of(7)
    for job in (few, many):
        run_job(job)
    asked = [counted(requests, partial(run_job, job)) for job in (few, many)]
    assert grown(*asked, 5) == {"GET _meta/commits": 1, "GET _meta/splits": 1}


def test_a_run_asks_and_stores_what_its_plan_tells(tiny_model, bucket, requests, tmp_path):
    for number in range(2):
        rows = [{"id": f"{number}-{row}", "text": f"record {row}"} for row in range(600)]
        for place in (0, 300):
            # A reject for each block.
            rows[place]["text"] = ""
        size = write_jsonl(tmp_path / "in" / f"{number}.jsonl", rows).stat().st_size
    settings = {"split_bytes": size + 1000, "block_rows": 300, "near_duplicates": "off"}
    settings |= {"max_reject_share": 0.5, "id_column": "id", "store_text": True}
    job = tiny_job(tiny_model, tmp_path / "in", tmp_path, **settings)
    job = job.model_copy(update={"output": f"s3://{bucket}/out"})
    sized = plan_job(job, sizing=SizingOptions(tokens_per_second=1e9)).sizing
    work, told = sized.work, sized.output_requests
    assert (work.splits, work.blocks, work.rejecting_blocks) == (2, 4, 4)
    asked: Counter[str] = Counter()
    kinds = {"PUT": "put", "LIST": "list", "DELETE": "remove"}
    for name, count in counted(requests, partial(run_job, job)).items():
        asked[kinds.get(name.split()[0], "get")] += count
    # Ids are looked for in the version before as well, and rows are shown from some of the parts.
    for name in ("put", "list", "get"):
        assert getattr(told, name) == pytest.approx(asked[name], rel=0.05)
    version = find_version(job.output)
    manifest = read_manifest(version)
    assert (work.rows, work.blocks) == (manifest.rows, manifest.blocks)
    assert work.tokens == pytest.approx(manifest.tokens, rel=0.05)
    folders = ("data", "_meta/stats", "_meta/commits", "_meta/ids")
    sizes = (version.store.sizes(version.key(f"{folder}/")) for folder in folders)
    stored = sum(size for found in sizes for _, size in found)
    # Vectors of texts that are so alike take less than most do.
    assert work.text_bytes < stored < work.stored_bytes


class Recorder(Nothing):
    """A display that is shown a moment every so many seconds."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.shown: list[Snapshot] = []

    def show(self, snapshot: Snapshot) -> None:
        self.shown.append(snapshot)


@pytest.mark.soak
def test_the_store_is_asked_for_blocks_and_not_for_progress(
    tiny_model, bucket, requests, tmp_path, monkeypatch
):
    file = write_jsonl(tmp_path / "in.jsonl", records(80))
    work = PlainWork.run

    def run(interval: float) -> tuple[Counter[str], list[Snapshot]]:
        settings = {"output": f"s3://{bucket}/{interval}", "block_rows": 4, "split_bytes": 1 << 20}
        job = tiny_job(tiny_model, file, tmp_path).model_copy(update=settings)
        asked: Counter[str] = Counter()
        monkeypatch.setattr(
            PlainWork,
            "run",
            lambda *given: asked.update(counted(requests, partial(work, *given))),
        )
        display = Recorder(interval)
        run_job(job, display)
        return asked, display.shown

    once, moments = run(3600.0)
    assert once["PUT data"] == once["PUT _meta/commits"] == 20
    assert sum(count for name, count in once.items() if name.startswith("LIST")) <= 1
    assert len(moments) == 1
    often, moments = run(0.001)
    assert often == once
    assert len(moments) > 20
    documents = [one.documents for one in moments]
    assert documents == sorted(documents)
    assert documents[-1] == 80
    assert len(set(documents)) > 5
