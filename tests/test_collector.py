"""When Python's collector of garbage runs."""

import gc

import pytest
from running import records, tiny_job, write_jsonl

from embedkit.collector import no_collections
from embedkit.config import CorpusConfig
from embedkit.corpus import plan
from embedkit.errors import InputError
from embedkit.flow import prepare


def test_it_is_off_inside_and_what_it_was_afterwards():
    with no_collections():
        assert not gc.isenabled()
        with no_collections():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_who_turned_it_off_finds_it_so():
    gc.disable()
    try:
        with no_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_job_is_made_ready_without_it(tiny_model, tmp_path, monkeypatch):
    inputs = write_jsonl(tmp_path / "in" / "a.jsonl", records(3))
    seen = {}

    def seeing(module, name):
        of_module = getattr(module, name)

        def see(*arguments, **named):
            seen[name] = gc.isenabled()
            return of_module(*arguments, **named)

        monkeypatch.setattr(module, name, see)

    seeing(plan, "list_inputs")
    seeing(prepare, "create_or_check_plan")
    prepare.prepare(tiny_job(tiny_model, inputs, tmp_path / "out"))
    assert seen == {"list_inputs": False, "create_or_check_plan": False}
    assert gc.isenabled()


def test_a_plan_that_fails_leaves_it_on(tmp_path):
    with pytest.raises(InputError):
        plan.plan_inputs(CorpusConfig(inputs=(str(tmp_path / "none.txt"),)))
    assert gc.isenabled()
