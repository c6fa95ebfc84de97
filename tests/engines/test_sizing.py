"""Hours, cost, storage and the bottleneck of a run that is sized, by hand and against runs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from calling import call
from running import flags, records, tiny_job, write_jsonl

from embedkit.encoders.host_cores import HostWork
from embedkit.engines import measured_rates
from embedkit.engines.estimate import plan_job
from embedkit.engines.sizing import Fleet, SizingOptions, size_run
from embedkit.engines.store_requests import input_requests, output_requests
from embedkit.engines.workload import Workload
from embedkit.errors import ConfigError, InputError

pytestmark = pytest.mark.usefixtures("logging_restored")

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

WORK = Workload(
    files=1000,
    formats={"jsonl": 1.0},
    input_bytes=900 * 10**9,
    splits=26_000,
    blocks=130_000,
    rejecting_blocks=0,
    block_rows=7692.0,
    looks_at_ids=False,
    documents=10**9,
    rows=10**9,
    tokens=200 * 10**9,
    vectors=10**9,
    vector_bytes=1536 * 10**9,
    text_bytes=0,
    compared=False,
    remote_inputs=False,
    remote_output=False,
)
FLEET = Fleet(
    encoders=8,
    tokens_per_second=400_000.0,
    given=True,
    host=HostWork(384, 200.0, 1e-6),
    workers=16,
    processes=True,
    driver_cores=2,
    workers_given=True,
)
PRICED = SizingOptions(10**9, 400_000.0, 3.0)


def test_hours_and_cost_by_hand():
    found = size_run(WORK, FLEET, PRICED, start_seconds=36.0)
    assert found.hours.encoders == pytest.approx(200e9 / 3.2e6 / 3600)
    # Of a core: reading, tokenizing, and writing 384 components for 200 tokens.
    core = 1 / (0.08e-6 + 1e-6 + 16e-9 * 384 / 200)
    assert found.hours.host == pytest.approx(200e9 / (16 * core) / 3600)
    assert found.hours.encoding == found.hours.encoders
    assert found.hours.planning == pytest.approx(1000 * 60e-6 / 3600)
    examined = 1e9 * 2048 / 130_000
    finishing = 31 + 130_000 * 287e-6 + 1e9 * 4.7 / 9.6e6 / 2 + examined * 40e-6 / 2
    assert found.hours.finishing == pytest.approx(finishing / 3600)
    assert found.hours.near_duplicates == 0
    total = found.hours.planning + found.hours.encoders + found.hours.finishing + 0.01
    assert found.hours.total == pytest.approx(total)
    assert found.encoder_hours == pytest.approx(8 * total)
    assert found.cost == pytest.approx(24 * total)


def test_what_is_stored_by_hand():
    beside = 55 * 10**9 + 12_000 * 130_000
    assert WORK.stored_bytes == 1536 * 10**9 + beside
    with_text = replace(WORK, text_bytes=7)
    assert with_text.stored_bytes == WORK.stored_bytes + 7


def test_ids_and_near_duplicates_are_shared_by_the_workers():
    work = replace(WORK, looks_at_ids=True, compared=True)
    found = size_run(work, FLEET, PRICED)
    ids = 0.9 + 1e9 * 11.1 / 11.52e6 / 16 + 1e9 * 1e-7
    assert found.hours.planning == pytest.approx((1000 * 60e-6 + ids) / 3600)
    assert found.hours.near_duplicates == pytest.approx(1e9 * 331e-6 / 16 / 3600)
    alone = size_run(WORK, FLEET, PRICED).hours.finishing
    assert found.hours.finishing == pytest.approx(alone + found.hours.near_duplicates)
    assert found.work.stored_bytes - WORK.stored_bytes == 8 * 10**9


def test_a_store_is_waited_for():
    here = size_run(WORK, FLEET, PRICED).hours
    away = size_run(replace(WORK, remote_inputs=True, remote_output=True), FLEET, PRICED).hours
    assert away.planning - here.planning == pytest.approx(1000 * 0.1 / 32 / 3600)
    # Commit record and statistics of each block, and two of each split, 16 at once in each of two
    # processes; the hashes of each block by two, 8 at once; some rows by three, 4 at once.
    turns = (2 * 130_000 + 2 * 26_000) / 32 + 2 * 130_000 / 16 + (3 * 2048 + 16) / 4
    turns += 10 * 130 + 4 * 26 + 3
    assert away.finishing - here.finishing == pytest.approx(turns * 0.1 / 3600)


@pytest.mark.parametrize(
    ("changes", "fleet", "bottleneck", "said"),
    [
        ({}, {}, "encoders", "from some .* of them on the host side takes longer"),
        ({}, {"workers": 2}, "host", "some 4 keep the encoders busy"),
        ({}, {"processes": False, "encoders": 64}, "host", "--engine ray"),
        ({"files": 10**10}, {}, "planning", "fewer and larger input files than 10,000,000,000"),
        (
            {"looks_at_ids": True, "tokens": 10**7},
            {"workers": 1},
            "planning",
            "more workers, which look for repeated ids",
        ),
        ({"blocks": 10**9}, {}, "finishing", "--block-rows"),
        ({"compared": True}, {"encoders": 64}, "finishing", "--near-duplicates off"),
    ],
)
def test_the_bottleneck_is_what_takes_longest_and_its_remedy_is_said(
    changes, fleet, bottleneck, said
):
    found = size_run(replace(WORK, **changes), replace(FLEET, **fleet), PRICED)
    assert found.hours.bottleneck == bottleneck
    hours = found.hours
    assert getattr(hours, bottleneck) == max(
        hours.encoders, hours.host, hours.planning, hours.finishing
    )
    assert re.search(said, found.remedy)
    name = "host side" if bottleneck == "host" else bottleneck
    assert any(line.startswith(f"bottleneck {name}, ") for line in found.to_text())


@pytest.mark.parametrize(
    ("work", "given", "following"),
    [
        (WORK, True, "finishing"),
        (replace(WORK, compared=True, looks_at_ids=True), False, "finishing"),
        (replace(WORK, files=30_000_000), False, "planning"),
    ],
)
def test_more_encoders_help_as_long_as_it_says(work, given, following):
    """Where the job does not say how many workers there are, there are more with more encoders."""
    each = 1000 if given else 3
    fleet = replace(FLEET, workers=8 * each, workers_given=given)
    found = size_run(work, fleet, PRICED)
    most = int(re.search(r"some ([\d,]+) of them", found.remedy)[1].replace(",", ""))
    assert f"{following} takes longer" in found.remedy
    for encoders, bottleneck in ((0.9 * most, "encoders"), (1.1 * most, following)):
        workers = 8 * each if given else round(encoders * each)
        more = replace(fleet, encoders=round(encoders), workers=workers)
        assert size_run(work, more, PRICED).hours.bottleneck == bottleneck


def test_requests_by_hand():
    assert input_requests(WORK).get == 1000 + 2 * 26_000 + 900 * 10**9 // 2**23
    parquet = replace(WORK, formats={"parquet": 0.5, "csv": 0.5}, looks_at_ids=True)
    assert input_requests(parquet).get == 2500 + 2 * (2 * 26_000 + 900 * 10**9 // 2**23)
    found = output_requests(replace(WORK, rejecting_blocks=1000))
    assert found.put == 3 * 130_000 + 26_000 + 1000 + 16
    assert found.list == 26_000 + 10 * 130 + 4 * 26 + 3 + 13
    assert found.get == 3 * 130_000 + 2 * 26_000 + 2 * 1000 + 2 * 130_000 + 3 * 2048 + 16 + 53
    # Statistics of small blocks have the hashes; a heartbeat comes every 30 seconds.
    small = output_requests(replace(WORK, rejecting_blocks=1000, block_rows=256.0), 3600.0)
    assert small.get == found.get - 2 * 130_000 + 130_000
    assert (small.put, small.list) == (found.put + 240, found.list + 240)


def test_what_was_measured_stands_in_the_results():
    """Every rate names the heading that it is from, and what it is made of stands below that."""
    results = (BENCHMARKS / "RESULTS.md").read_text()
    source = Path(measured_rates.__file__).read_text()
    headings = re.findall(r'"([A-Z][a-zA-Z0-9, ]+)"', source)
    assert len(headings) >= 3
    for heading in headings:
        assert f"\n## {heading}\n" in results
    for figure in ("28.7", "13.1", "11,520,000", "100,000", "10.4", "5.7", "33.1", "55 bytes"):
        assert figure in results
    assert measured_rates.FINISH_SECONDS_PER_BLOCK == 28.7 / 100_000
    assert measured_rates.NEAR_SECONDS_PER_ROW == 33.1 / 100_000


# --- of a job ---


@pytest.fixture
def job(tiny_model, tmp_path):
    file = write_jsonl(tmp_path / "in.jsonl", records(200))

    def make(**changes):
        settings = {"split_bytes": 1 << 20, "block_rows": 64, "near_duplicates": "off"}
        return tiny_job(tiny_model, file, tmp_path / "out", **settings | changes)

    return make


def test_a_sample_stands_for_more_documents(job):
    config = job(engine="ray", encoders="2..16", split_bytes=4096, block_rows=16)
    once = plan_job(config, sizing=SizingOptions(tokens_per_second=1e6)).sizing
    options = SizingOptions(200_000, 1e6, 2.0)
    found = plan_job(config, sizing=options).sizing
    assert (found.work.documents, found.work.rows) == (200_000, 200_000)
    assert found.work.tokens == 1000 * once.work.tokens
    assert found.work.input_bytes == 1000 * once.work.input_bytes
    assert found.work.vector_bytes == 1000 * once.work.vector_bytes
    assert found.work.splits == pytest.approx(1000 * once.work.splits, rel=0.05)
    assert found.work.blocks == pytest.approx(1000 * once.work.blocks, rel=0.3)
    assert found.fleet.encoders == 16
    assert found.hours.encoders == pytest.approx(found.work.tokens / 16e6 / 3600)
    assert found.cost == pytest.approx(16 * 2 * found.hours.total)


def test_a_trial_tells_of_files_as_all_of_them_do(job):
    """Its files are counted as far as it reads them, and not whole for each of its records."""
    asked = SizingOptions(documents=20_000, tokens_per_second=1000.0)
    whole = plan_job(job(), sizing=asked).sizing.work
    trial = plan_job(job(limit=10), sizing=asked).sizing.work
    assert whole.files == 100
    for name in ("files", "input_bytes", "splits"):
        assert getattr(trial, name) == pytest.approx(getattr(whole, name), rel=0.6)


@pytest.mark.parametrize("files_per_split", [0.6, 6])
def test_a_small_sample_tells_how_many_splits_there_will_be(tiny_model, tmp_path, files_per_split):
    files = [write_jsonl(tmp_path / f"{n}.jsonl", records(50, 50 * n)) for n in range(60)]
    size = sum(file.stat().st_size for file in files) / 60
    settings = {"split_bytes": int(files_per_split * size), "block_rows": 40}
    options = SizingOptions(3000, 1e6)

    def planned(inputs):
        config = tiny_job(tiny_model, inputs, tmp_path / "out", **settings)
        return plan_job(config, sizing=options).sizing.work

    sample, every = planned(files[0]), planned(tmp_path)
    assert sample.files == pytest.approx(every.files, rel=0.1)
    assert sample.splits == pytest.approx(every.splits, rel=0.2)
    assert sample.blocks == pytest.approx(every.blocks, rel=0.2)


def test_workers_are_those_of_the_job_or_as_many_as_there_is_work_for(job):
    def fleet(**settings):
        options = SizingOptions(tokens_per_second=4e6)
        return plan_job(job(encoders=8, **settings), sizing=options).sizing.fleet

    told = fleet(engine="ray", workers=3)
    assert (told.workers, told.workers_given, told.processes) == (3, True, True)
    assert told.passed == pytest.approx(3 * told.host.tokens_per_second)
    auto = fleet(engine="ray")
    assert auto.workers > 8
    assert auto.passed > auto.encoded
    local = fleet(engine="local")
    assert local.passed <= local.host.process_tokens_per_second
    assert fleet(engine="plain").workers == 1


def test_without_options_nothing_is_sized(job):
    found = plan_job(job())
    assert found.sizing is None
    assert "sizing" not in found.to_dict()
    assert "sized for" not in found.to_text()


def test_a_speed_that_is_not_given_is_guessed_and_said_so(job):
    found = plan_job(job(), sizing=SizingOptions(price_per_hour=1.0)).sizing
    assert (found.fleet.encoders, found.fleet.given) == (1, False)
    assert "guessed" in "\n".join(found.to_text())


def test_what_nobody_knows_is_asked_for(job, monkeypatch):
    monkeypatch.setattr("embedkit.engines.estimate.tokens_per_second", lambda *_: None)
    config = job(device="cpu")
    with pytest.raises(ConfigError, match="give it as --tokens-per-second"):
        plan_job(config, sizing=SizingOptions(documents=10))
    assert plan_job(config, sizing=SizingOptions(tokens_per_second=5.0)).sizing is not None


def test_no_records_tell_nothing_of_others(tiny_model, tmp_path):
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    config = tiny_job(tiny_model, empty, tmp_path / "out")
    with pytest.raises(InputError, match="no records in the inputs"):
        plan_job(config, sizing=SizingOptions(10, 1e6))
    found = plan_job(config, sizing=SizingOptions(tokens_per_second=1e6)).sizing
    assert found.hours.encoders == 0


# --- the command ---

NAMES = {
    "documents", "scaled", "files", "splits", "blocks", "rows", "tokens", "vectors", "input_bytes",
    "stored_bytes", "encoders", "tokens_per_second", "tokens_per_second_given", "workers",
    "cores_per_encoder", "host_tokens_per_second", "hours", "encoder_hours", "price_per_hour",
    "cost", "requests", "bottleneck", "remedy", "assumed",
}  # fmt: skip
HOURS = {
    "start", "planning", "encoders", "host", "near_duplicates", "finishing", "encoding", "total"
}  # fmt: skip


def test_the_command_says_it_for_persons_and_programs(job):
    sized = ("--documents", "1000000000", "--tokens-per-second", "400000")
    arguments = (*flags(job(engine="ray", encoders=8)), *sized, "--price-per-hour", "3")
    found = call("plan", *arguments, "--json").json["sizing"]
    assert found.keys() == NAMES
    assert found["hours"].keys() == HOURS
    counts = {"put", "list", "get"}
    assert all(found["requests"][side].keys() == counts for side in ("inputs", "output"))
    assert (found["documents"], found["encoders"], found["price_per_hour"]) == (10**9, 8, 3)
    assert found["cost"] == pytest.approx(24 * found["hours"]["total"])
    spoken = call("plan", *arguments).out.splitlines()
    names = [line[:11].strip() for line in spoken]
    begin = names.index("sized for")
    assert names[begin - 1] == "model"
    assert [name for name in names[begin:] if name] == [
        "sized for", "encoders", "hours", "cost", "storage", "requests", "bottleneck", "assumed"
    ]  # fmt: skip
    assert "encoders   8 of 400,000 tokens/s each" in "\n".join(spoken)
    assert all(line[10] == " " for line in spoken)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--documents", "0", "documents = 0: expected a number of at least 1"),
        ("--tokens-per-second", "0", "tokens_per_second = 0: expected a number above 0"),
        ("--tokens-per-second", "nan", "tokens_per_second = nan"),
        ("--tokens-per-second", "inf", "tokens_per_second = inf"),
        ("--price-per-hour", "-1", "price_per_hour = -1: expected a number of at least 0"),
        ("--price-per-hour", "nan", "price_per_hour = nan"),
    ],
)
def test_values_that_are_none_are_refused_in_one_line(job, option, value, said):
    answer = call("plan", *flags(job()), option, value)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.error


def test_a_run_has_none_of_these_options():
    with pytest.raises(Exception, match="No such option"):
        call("run", "--price-per-hour", "3")


def test_json_has_no_infinite_numbers(job):
    found = plan_job(job(), sizing=SizingOptions(tokens_per_second=1e-3, price_per_hour=0))
    json.dumps(found.to_dict(), allow_nan=False)
