"""What encoders say at the end of a run, some of them restarted shortly before."""

import threading

import pytest

from embedkit.actors import encoder_pool
from embedkit.actors.encoder_handle import EncoderHandle
from embedkit.actors.encoder_pool import EncoderPool
from embedkit.encoders.meter import EncoderLoad


@pytest.fixture
def pool(monkeypatch) -> EncoderPool:
    """A pool of one encoder that never says anything by itself."""
    monkeypatch.setattr(encoder_pool, "_RETURN_SECONDS", 0.5)
    pool = EncoderPool.__new__(EncoderPool)
    pool._encoders = {"encoder-0": EncoderHandle(actor=None)}
    pool._loads, pool._looking = {}, threading.Lock()
    return pool


def said(tokens: int) -> EncoderLoad:
    return EncoderLoad("encoder-0", "second", tokens=tokens)


def test_what_was_asked_long_ago_is_asked_anew(pool, monkeypatch):
    encoder = pool._encoders["encoder-0"]
    encoder.ran, answers = True, [None, None, said(0), said(70)]

    def look(encoders: list[EncoderHandle], timeout: float) -> None:
        assert timeout == 60.0
        answer = answers.pop(0)
        encoder.running, encoder.load = answer is not None, answer

    monkeypatch.setattr(encoder_pool, "look", look)
    assert pool.last_loads() == [said(70)]
    assert answers == []


@pytest.mark.parametrize(("ran", "some"), [(False, False), (True, True)])
def test_an_encoder_that_does_not_come_is_waited_for_if_it_ever_ran(pool, monkeypatch, ran, some):
    pool._encoders["encoder-0"].ran = ran
    looks: list[float] = []
    monkeypatch.setattr(encoder_pool, "look", lambda encoders, timeout: looks.append(timeout))
    assert pool.last_loads() == []
    assert (len(looks) > 2) == some
