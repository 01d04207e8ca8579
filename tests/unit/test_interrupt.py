"""Signals are noted, acted on where it is safe, and never in the middle of cleaning up."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from pyharness.interrupt import Interrupt, Interrupted

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_not_raised_at_once(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt = Interrupt()
    with interrupt.armed():
        interrupt.check()
        assert not interrupt.is_set()
        os.kill(os.getpid(), number)
        assert interrupt.signal_name == number.name
    assert interrupt.is_set()
    assert capsys.readouterr().err == f"\n{number.name}: stopping; nothing of the run will be left\n"
    with pytest.raises(Interrupted, match=number.name):
        interrupt.check()


def test_the_first_signal_is_the_one_that_counts(capsys: pytest.CaptureFixture[str]) -> None:
    interrupt = Interrupt()
    with interrupt.armed():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupt.signal_name == "SIGTERM"
    assert "SIGINT: still taking the run down" in capsys.readouterr().err


def test_the_handlers_of_before_come_back() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    interrupt = Interrupt()
    with contextlib.suppress(RuntimeError), interrupt.armed():
        assert signal.getsignal(signal.SIGHUP) == interrupt._note
        raise RuntimeError
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def test_without_a_signal_it_goes_on() -> None:
    interrupt = Interrupt()
    with interrupt.armed():
        interrupt.check()
    assert not interrupt.is_set()
