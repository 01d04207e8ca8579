"""What is whole, what is told of and what is wrong: checks of streams, by what a real Dynamo sent."""

from __future__ import annotations

import pytest

from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import stalling, streams, worker_faults
from pyharness.verification.dynamo.worker_faults import Moved
from tests.unit.dynamo_recordings import changed, recorded, with_event, without

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

TOKENS = 16
PROMPT = 64
BEFORE = 6


def test_a_whole_stream_has_all_its_tokens_and_a_reason_to_end() -> None:
    evidence = streams.whole(recorded("whole"), TOKENS)
    assert (evidence["tokens"], evidence["finish_reason"], evidence["ending"]) == (TOKENS, "length", "done")


def test_a_stream_that_moved_is_whole_and_its_gap_is_told() -> None:
    told = recorded("migrated")
    assert streams.whole(told, TOKENS)["tokens"] == TOKENS
    killed = told.content_events[BEFORE - 1].at + 0.01
    assert streams.gap_of(told, killed) == told.gap_around(killed)


def test_a_gap_is_found_also_where_the_moment_lies_before_it() -> None:
    told = recorded("migrated")
    longest = max(range(len(told.gaps)), key=lambda place: told.gaps[place])
    assert streams.gap_of(told, told.content_events[longest].at - 0.001) == told.longest_gap
    assert streams.gap_of(told, told.events[-1].at + 1) == 0.0


def test_a_lost_stream_is_not_whole() -> None:
    with pytest.raises(CheckFailed, match=r"not whole: 6 of 16 tokens, done, .*temporarily unavailable") as failed:
        streams.whole(recorded("lost"), TOKENS)
    assert failed.value.class_ == "product"


@pytest.mark.parametrize("ending", ["closed", "truncated", "late"])
def test_a_stream_that_just_stops_is_not_whole(ending: str) -> None:
    told = changed(without(recorded("whole"), -1), ending=ending, problem="it stopped")
    with pytest.raises(CheckFailed, match=rf"not whole: 16 of 16 tokens, {ending}, it stopped"):
        streams.whole(told, TOKENS)


def test_a_truncated_stream_that_says_that_it_is_whole_is_found() -> None:
    with pytest.raises(CheckFailed, match=r"as if it were whole, with 15 of 16 tokens \(usage: 16\)"):
        streams.whole(without(recorded("whole"), 7), TOKENS)


def test_a_doubled_token_is_found() -> None:
    told = recorded("whole")
    told = changed(told, events=(*told.events[:4], *told.events[3:]))
    with pytest.raises(CheckFailed, match="with 17 of 16 tokens"):
        streams.whole(told, TOKENS)


def test_a_lost_stream_has_to_say_so() -> None:
    assert streams.told_of_loss(recorded("lost"), TOKENS)["tokens"] == BEFORE


def test_a_lost_stream_that_ends_without_an_error_is_found() -> None:
    with pytest.raises(CheckFailed, match="ends without an error after 6 of 16 tokens"):
        streams.told_of_loss(without(recorded("lost"), len(recorded("lost").events) - 2), TOKENS)


def test_a_lost_stream_that_is_taken_for_whole_is_found() -> None:
    told = without(recorded("whole"), *range(BEFORE, TOKENS))
    with pytest.raises(CheckFailed, match="ends taken for whole after 6 of 16 tokens"):
        streams.told_of_loss(told, TOKENS)


def test_an_error_that_is_followed_by_more_is_found() -> None:
    told = with_event(recorded("whole"), 3, error={"message": "gone"})
    with pytest.raises(CheckFailed, match="tells an error, and goes on"):
        streams.told_of_loss(told, TOKENS)


def test_the_usage_of_a_stream_that_moved_is_wrong_in_1_6_1() -> None:
    """A known defect, as it was recorded: 6 generated tokens are counted as the prompt's."""
    with pytest.raises(CheckFailed, match=r"usage\.prompt_tokens is 70, and the prompt has 64 tokens"):
        streams.counts_right(recorded("migrated"), PROMPT)
    assert streams.counts_right(recorded("whole"), PROMPT)["prompt_tokens"] == PROMPT


def test_a_stream_that_moved_names_the_killed_worker_in_1_6_1() -> None:
    """A known defect, as it was recorded: the frontend keeps who served first."""
    told = recorded("migrated")
    victim = streams.server(told.events[:1]) or 0
    with pytest.raises(CheckFailed, match="name the worker that was killed"):
        worker_faults.named_right(Moved(told, PROMPT, victim))
    assert worker_faults.named_right(Moved(told, PROMPT, victim + 1))["killed"] == victim + 1


def test_who_serves_is_what_the_last_event_says_that_says_it() -> None:
    told = recorded("whole")
    assert streams.server(told.events) == streams.server(told.events, "prefill") != 0
    assert streams.server(told.events[-1:]) is None


class _Under:
    """A stream that is under way, and gets no further."""

    def __init__(self, later: int = 0, *, over: bool = False) -> None:
        self.events = [object()] * BEFORE
        self.is_over = over
        self._later = later

    def wait_events(self, count: int, seconds: float) -> bool:
        assert seconds >= 0
        self.events += [object()] * self._later
        return len(self.events) >= count


def test_a_stream_that_stands_still_is_told_of() -> None:
    with pytest.raises(CheckFailed, match="the stream of a stopped worker stands still: no event for 0 s"):
        worker_faults.stall_told(_Under(), 0.0, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [_Under(later=1), _Under(over=True)])
def test_a_stream_that_goes_on_or_ends_does_not_stand_still(stream: _Under) -> None:
    assert worker_faults.stall_told(stream, 0.0, 0.0)["limit_seconds"] == 0.0  # type: ignore[arg-type]


def test_what_was_seen_of_a_stopped_workers_stream_is_judged_by_itself() -> None:
    failed = CheckFailed("it stands still", hint="wait")
    with pytest.raises(CheckFailed, match="it stands still"):
        stalling.told_in_time(stalling.Stalled(stood_still=failed))
    assert stalling.told_in_time(stalling.Stalled(evidence={"events": 7})) == {"events": 7}
