"""When Python's collector of garbage runs."""

import gc

import pytest

from embedkit.collector import no_collections
from embedkit.config import CorpusConfig
from embedkit.corpus.plan import plan_inputs
from embedkit.errors import InputError


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


def test_a_plan_that_fails_leaves_it_on(tmp_path):
    with pytest.raises(InputError):
        plan_inputs(CorpusConfig(inputs=(str(tmp_path / "none.txt"),)))
    assert gc.isenabled()
