"""The table of misbehaviours and its parser."""

import pytest

from pyharness.simulator.cli import main
from pyharness.simulator.misbehaviour import MISBEHAVIOURS, ROLES, UsageError, Value, parse

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]


def test_values_and_defaults_are_read() -> None:
    told = parse(["slow=0.5", "error-after=3", "http-500", "exit-after-start"], "decode")
    assert told.seconds("slow") == 0.5
    assert told.count("error-after") == 3
    assert told.choice("http-500") == "json"
    assert told.seconds("exit-after-start") == 1.0
    assert "slow" in told
    assert "empty-text" not in told
    assert told.count("die-after-ready") is None
    assert told.seconds("late-counters") == 0.0
    assert str(told) == "slow=0.5, error-after=3, http-500=json, exit-after-start=1"


def test_asking_for_a_misbehaviour_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        "slwo" in parse([], "single")  # noqa: B015 -- the question itself has to fail


@pytest.mark.parametrize(
    ("arguments", "role", "words"),
    [
        (["slwo=3"], "decode", "unknown misbehaviour 'slwo': the nearest is 'slow'"),
        (["http500"], "decode", "the nearest is 'http-500'"),
        (["slow=1", "slow=2"], "decode", "'slow' is given twice"),
        (["recompute"], "prefill", "no effect in role prefill, only in decode"),
        (["short-transfer"], "single", "only in prefill and decode"),
        (["empty-text=yes"], "decode", "takes no value"),
        (["empty-text="], "decode", "takes no value"),
        (["slow"], "decode", "'slow=SECONDS' takes a positive number of seconds, not None"),
        (["slow=soon"], "decode", "not 'soon'"),
        (["slow=-1"], "decode", "not '-1'"),
        (["slow=nan"], "decode", "not 'nan'"),
        (["slow=inf"], "decode", "not 'inf'"),
        (["error-after=0"], "decode", "a whole number above 0, not '0'"),
        (["error-after=1.5"], "decode", "not '1.5'"),
        (["http-500=xml"], "decode", "json or html, not 'xml'"),
        (["http-500="], "decode", "not ''"),
    ],
)
def test_a_wrong_argument_is_explained(arguments: list[str], role: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments, role)
    assert words in str(caught.value)


def test_the_command_line_exits_with_2_on_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["serve", "--role", "single", "--model-path", "x", "--served-model-name", "x", "--host", "x"]
    with pytest.raises(SystemExit) as caught:
        main([*command, "--port", "1", "--misbehave", "emty-text"])
    assert caught.value.code == 2
    assert "the nearest is 'empty-text'" in capsys.readouterr().err


def test_the_listing_documents_every_misbehaviour(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["misbehaviours"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == len(MISBEHAVIOURS)
    for row, entry in zip(rows, MISBEHAVIOURS, strict=True):
        assert row.startswith(f"| `{entry.key}")
        assert row.endswith(f"{entry.effect} |")


@pytest.mark.parametrize("entry", MISBEHAVIOURS, ids=lambda entry: entry.key)
def test_the_table_is_consistent(entry: object) -> None:
    (row,) = (row for row in MISBEHAVIOURS if row == entry)
    assert set(row.roles) <= set(ROLES)
    assert bool(row.choices) == (row.value is Value.CHOICE)
    if row.default is not None or row.value is Value.NOTHING:
        assert row.key in parse([row.key], row.roles[0])
    else:
        assert row.key in parse([f"{row.key}=1"], row.roles[0])
