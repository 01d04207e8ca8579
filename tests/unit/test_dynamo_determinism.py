"""Outputs that are the same, or not, by what a real Dynamo sent."""

from __future__ import annotations

import json

import pytest

from pyharness import paths
from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import determinism
from pyharness.verification.dynamo.determinism import Output
from tests.unit.builders import FakeNodes, make_deployment, make_trial
from tests.unit.dynamo_recordings import changed, recorded, without

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

PIECES = [event.text for event in recorded("replayed").content_events]
TEXT = "".join(PIECES)
ONE = Output(TEXT, "stream", 11, warm=True)


def test_a_recorded_replay_is_the_traces_text() -> None:
    output = determinism.streamed(recorded("replayed"))
    assert (output.text, output.way) == (TEXT, "stream")
    assert determinism.identical([output, ONE], TEXT)["match_percent"] == 100.0


def test_one_output_that_differs_is_found_with_who_gave_it() -> None:
    other = Output(TEXT[:-1], "unary", 12, warm=False)
    with pytest.raises(
        CheckFailed, match=r"1 of 3 outputs are not the expected one: .* by unary of worker 12"
    ) as failed:
        determinism.identical([ONE, other, ONE], TEXT)
    assert failed.value.evidence["match_percent"] == 66.67


def test_no_output_at_all_is_no_match() -> None:
    with pytest.raises(CheckFailed, match="none was asked for"):
        determinism.identical([], TEXT)


def test_the_output_of_a_stream_that_moved_is_exact() -> None:
    """The worker that takes over begins the trace anew: 6 tokens, and then all 16."""
    evidence = determinism.migrated(recorded("replayed_migrated"), PIECES)
    assert (evidence["tokens"], evidence["tokens_before_the_migration"]) == (22, 6)


@pytest.mark.parametrize("place", [3, 6, 12])
def test_a_token_that_a_migration_loses_is_found(place: int) -> None:
    with pytest.raises(CheckFailed, match="is not the trace up to a token and then the trace: 21 tokens"):
        determinism.migrated(without(recorded("replayed_migrated"), place), PIECES)


def test_a_token_that_a_migration_doubles_is_found() -> None:
    told = recorded("replayed_migrated")
    with pytest.raises(CheckFailed, match="23 tokens"):
        determinism.migrated(changed(told, events=(*told.events[:9], *told.events[8:])), PIECES)


def test_a_stream_that_never_moved_shows_nothing_of_migration() -> None:
    with pytest.raises(CheckFailed, match="16 tokens"):
        determinism.migrated(recorded("replayed"), PIECES)


COLD = Output(TEXT, "stream", 11, warm=False)


def test_a_reset_empties_caches_that_were_not_empty() -> None:
    assert determinism.emptied([COLD, ONE], [COLD])["warm_before"] == 1


@pytest.mark.parametrize(
    ("before", "after", "told"), [(COLD, COLD, "0 of 1 .* and 0 of 1 after"), (ONE, ONE, "1 of 1 .* and 1 of 1 after")]
)
def test_a_reset_that_empties_nothing_is_found(before: Output, after: Output, told: str) -> None:
    with pytest.raises(CheckFailed, match=told):
        determinism.emptied([before], [after])


class _Vocabulary(FakeNodes):
    def __init__(self, words: list[str | None]) -> None:
        super().__init__({})
        self._words = words

    def run_python(self, _node: str, script: str) -> dict[str, list[str | None]]:
        assert "/model/tokenizer.json" in script
        return {"words": self._words}


def test_what_a_trace_says_is_read_in_the_models_own_vocabulary() -> None:
    deployment = make_deployment(
        services=[{**make_deployment().services[1].model_dump(), "kind": "frontend", "name": "frontend"}]
    )
    words = determinism.words_of(make_trial(_Vocabulary(["\u0120sea", "\u0120calm"]), deployment), [300, 301])
    assert words == [" sea", " calm"]
    with pytest.raises(CheckFailed, match="no words of the served model's vocabulary") as failed:
        determinism.words_of(make_trial(_Vocabulary(["\u0100"]), deployment), [300])
    assert failed.value.class_ == "test"


def test_the_trace_is_such_as_dynamo_reads_it() -> None:
    rows = [
        json.loads(line)
        for line in (paths.PROJECT / "playbooks" / "traces" / "lighthouse.jsonl").read_text("utf-8").splitlines()
    ]
    assert [row["request_id"] for row in rows] == ["short", "long"]
    assert all(row["output_length"] == len(row["output_token_ids"]) for row in rows)
