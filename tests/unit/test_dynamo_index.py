"""The workers' own events as ground truth, and indexes that are not equal to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from pyharness.exercise import Exchange
from pyharness.verification.base import CheckFailed
from pyharness.verification.dynamo import asking, events, index, metrics, router_index
from pyharness.verification.dynamo.events import Blocks, Event
from pyharness.verification.dynamo.index import Follower
from tests.unit import dynamo_recorded as recorded
from tests.unit.dynamo_recorded import RECORDED, document, frames, publishing, service
from tests.unit.fake_http import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial
    from tests.unit.fake_http import FakeServer, Request

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.dynamo]

FIRST = [Event(0, events.STORED, (11, 12), None, tuple(range(300, 332)), 16)]
NAMES = {1: "worker-1", 2: "worker-2"}


def wire(*batches: list[Any]) -> list[tuple[int, bytes]]:
    return [(number, msgpack.packb([0.0, batch, 0])) for number, batch in enumerate(batches)]


def stored(hashes: list[int], parent: int | None = None, first: int = 300) -> dict[str, Any]:
    tokens = list(range(first, first + 16 * len(hashes)))
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": tokens,
        "block_size": 16,
    }


def removed(*hashes: int) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": list(hashes)}


def worker(number: int, replay: str = "", url: str = "http://127.0.0.1:9") -> Service:
    doors = {"kv_events": "tcp://127.0.0.1:9", "kv_replay": replay}
    return service(f"worker-{number}", "worker", url, endpoints=doors, pid=100 + number)


def failure(check: Any, *arguments: Any) -> str:
    with pytest.raises(CheckFailed) as raised:
        check(*arguments)
    assert raised.value.class_ == "product"
    return str(raised.value)


# -- events


def test_recorded_events_are_read() -> None:
    (event,) = events.decode(*frames("1")[0])
    assert (event.kind, len(event.hashes), event.parent, event.block_size) == ("BlockStored", 2, None, 16)
    assert list(event.tokens) == asking.prompt("a", 40)[:32]


def test_events_as_arrays_are_read_as_well_as_maps() -> None:
    batch = msgpack.packb([0.0, [["BlockStored", [1], None, list(range(16)), 16, None], ["AllBlocksCleared"]]])
    first, second = events.decode(4, batch)
    assert first == Event(4, "BlockStored", (1,), None, tuple(range(16)), 16)
    assert second.kind == "AllBlocksCleared"


@pytest.mark.parametrize("payload", [b"", b"\xc1", msgpack.packb([0.0]), msgpack.packb([0.0, [{"type": "Other"}]])])
def test_what_is_no_event_is_told(payload: bytes) -> None:
    with pytest.raises(ValueError, match="event 3"):
        events.decode(3, payload)


def test_blocks_follow_the_events() -> None:
    held = Blocks()
    for event in FIRST:
        held.apply(event)
    held.apply(Event(1, events.STORED, (13,), 11, tuple(range(500, 516)), 16))
    assert held.parents == {11: None, 12: 11, 13: 11}
    assert held.chain(13) == [*range(300, 316), *range(500, 516)]
    assert sorted(held.leaves()) == [12, 13]
    assert held.prefix([*range(300, 332), 7], 16) == 2
    assert held.prefix([*range(300, 316), *range(500, 516)], 16) == 2
    assert held.prefix([*range(300, 310)], 16) == 0
    held.apply(Event(2, events.REMOVED, (11,)))
    assert held.dropped == [tuple(range(300, 316))]
    assert held.chain(12) == []
    assert (held.stored, held.removed) == (3, 1)
    held.apply(Event(3, events.CLEARED))
    assert (held.parents, held.removed) == ({}, 3)


def test_a_replay_is_taken_from_where_one_was() -> None:
    sent = wire([stored([1, 2])], [removed(2)])
    with publishing(sent) as url:
        follower = Follower(worker(1, url))
        assert follower.catch_up().parents == {1: None}
        sent += [(2, msgpack.packb([0.0, [stored([3], 1)], 0]))]
        assert follower.catch_up().parents == {1: None, 3: 1}
        assert follower.next == 3
        assert dict(follower.kinds) == {"BlockStored": 2, "BlockRemoved": 1}


def test_a_replay_that_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_REPLAY_SECONDS", 0.3)
    with publishing(wire([stored([1])], [stored([2])])[1:]) as url:
        assert "replays number 1, and 0 comes next" in failure(events.replayed, worker(1, url))
    with publishing(wire([stored([1])]), end=False) as url:
        assert "does not end its replay within 0.3 s, after 1 numbers" in failure(events.replayed, worker(1, url))
    with publishing([(0, b"\xc1")]) as url:
        assert "event 0 cannot be read" in failure(events.replayed, worker(1, url))
    assert "does not end its replay" in failure(events.replayed, worker(1, "tcp://127.0.0.1:9"))


# -- dynamo.indexer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving("127.0.0.41") as found:
        yield found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give nobody time to catch up: what is recorded does not change."""
    monkeypatch.setattr(index, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(router_index, "_SETTLE_SECONDS", 0.0)


def a_trial(server: FakeServer, **changes: Any) -> Trial:
    services = [
        service("frontend", "frontend", server.url),
        worker(1),
        worker(2),
        service("indexer", "indexer", server.url),
    ]
    return recorded.trial("test_dynamo_router", services, **changes)


def told_of(server: FakeServer, change: Any = lambda _dump: None) -> tuple[Trial, list[Follower]]:
    """Return a trial whose indexer holds what was recorded, its workers numbered as this trial numbers them."""
    dump = document("dump")
    (held,) = dump.values()
    for entry in held["events"]:
        entry["worker_id"] += 1  # the frontend comes first
    change(held["events"])
    server.answers["/dump"] = Answer(body=dump)
    followers = [Follower(worker(number)) for number in (1, 2)]
    for follower, number in zip(followers, ("1", "2"), strict=True):
        for place, payload in frames(number):
            for event in events.decode(place, payload):
                follower.held.apply(event)
    return a_trial(server), followers


@pytest.fixture(autouse=True)
def _nothing_new(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers publish nothing more where a test does not publish itself."""
    if "server" in request.fixturenames:
        monkeypatch.setattr(events, "replayed", lambda _service, _first=0: [])


def test_the_recorded_index_is_that_of_the_recorded_events(server: FakeServer) -> None:
    told = index.indexer_equals_events(*told_of(server))
    assert (told["worker-1"]["indexed"], told["worker-2"]["indexed"]) == (2, 1)
    assert (told["worker-1"]["missing"], told["worker-1"]["stale"], told["others"]) == (0, 0, 0)


def lose_one(entries: list[Any]) -> None:
    entries[1]["event"]["data"]["stored"]["blocks"].pop()


def keep_one(entries: list[Any]) -> None:
    entries[1]["event"]["data"]["stored"]["blocks"].append({"block_hash": 99})


def mix_up(entries: list[Any]) -> None:
    entries[1]["event"]["data"]["stored"]["blocks"].reverse()


def misplace(entries: list[Any]) -> None:
    entries[0]["worker_id"] = 77


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lose_one, "'missing': 1, 'stale': 0"),
        (keep_one, "'missing': 0, 'stale': 1"),
        (mix_up, "'parents_differ': 2"),
        (misplace, "'others': 1"),
    ],
)
def test_an_index_that_is_not_equal(server: FakeServer, change: Any, told: str) -> None:
    assert told in failure(index.indexer_equals_events, *told_of(server, change))


def test_an_index_of_nothing_proves_nothing(server: FakeServer) -> None:
    server.answers["/dump"] = Answer(body={})
    followers = [Follower(worker(1))]
    assert "no worker has published" in failure(index.indexer_equals_events, a_trial(server), followers)
    server.answers["/dump"] = Answer(body=[])
    assert "/dump gave []" in failure(index.indexer_equals_events, a_trial(server), followers)


def test_workers_are_registered_with_their_doors(server: FakeServer) -> None:
    server.answers |= {"/register": Answer(201), "/unregister": Answer(404, b"no such worker")}
    trial = a_trial(server)
    assert index.register(trial, [worker(1), worker(2)]) == {"worker-1": 2, "worker-2": 3}
    body = json.loads(server.asked("/register")[0].body)
    assert (body["instance_id"], body["block_size"], body["endpoint"]) == (2, 16, "tcp://127.0.0.1:9")
    assert "/unregister with HTTP 404: no such worker" in failure(index.unregister, trial, worker(2))


# -- the router


def applied(stored_events: int, removed_events: int = 0, **refused: int) -> bytes:
    lines = ["# TYPE dynamo_component_kv_cache_events_applied counter"]
    counts = {("stored", "ok"): stored_events, ("removed", "ok"): removed_events}
    counts |= {("stored", status): count for status, count in refused.items()}
    for (kind, status), count in counts.items():
        lines.append(f'dynamo_component_kv_cache_events_applied{{event_type="{kind}",status="{status}"}} {count}')
    return "\n".join([*lines, ""]).encode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (applied(1, 1), None),
        (applied(0, 0), "has applied {'stored': 0"),
        (applied(1, 0), "'removed': 0"),
        (applied(1, 1, parent_block_not_found=3), "others {'stored parent_block_not_found': 3}"),
    ],
)
def test_events_that_the_router_did_not_apply(server: FakeServer, text: bytes, told: str | None) -> None:
    server.answers["/metrics"] = Answer(body=text)
    follower = Follower(worker(1))
    follower.kinds.update([events.STORED, events.REMOVED])
    trial = a_trial(server)
    if told is None:
        assert router_index.router_took_events(trial, [follower])["applied"]["stored"] == 1
    else:
        assert told in failure(router_index.router_took_events, trial, [follower])


def test_the_recorded_frontend_has_the_metric() -> None:
    found = metrics.parse(RECORDED["frontend_metrics"]).by(router_index._APPLIED, "event_type", "status")
    assert found["stored", "ok"] > 0


def holding() -> list[Follower]:
    """Return two workers, of whom the first holds a beginning of two blocks, and one block made up by its engine."""
    first, second = Follower(worker(1)), Follower(worker(2))
    for event in [*FIRST, Event(1, events.STORED, (14,), 12, tuple(range(3_000_000, 3_000_016)), 16)]:
        first.held.apply(event)
    second.held.apply(Event(0, events.STORED, (11,), None, tuple(range(300, 316)), 16))
    return [first, second]


def test_beginnings_are_those_that_a_prompt_can_have() -> None:
    found = router_index.prefixes(holding(), 10, range(300, 2000))
    assert found == [list(range(300, 332)), list(range(300, 316))]
    assert len(router_index.prefixes(holding(), 1, range(300, 2000))) == 2
    assert router_index.prefixes(holding(), 10, range(3)) == []


def routing_to(worker_id: int, share: float | None) -> Any:
    """Answer each prompt from one worker, with one share."""

    def send(url: str, body: dict[str, Any], _seconds: float) -> Exchange:
        rate = share if share is not None else (len(body["prompt"]) - 4) / 16 / (len(body["prompt"]) // 16 + 1)
        extension = {"worker_id": {"decode_worker_id": worker_id}, "timing": {"kv_hit_rate": rate}}
        said = {"choices": [{"text": " word", "finish_reason": "length"}], "usage": {}, "nvext": extension}
        return Exchange("POST", url, body, 200, {}, json.dumps(said), None, 0.01)

    return send


def test_a_router_that_knows_and_routers_that_do_not(server: FakeServer) -> None:
    server.answers["/metrics"] = Answer(body=applied(0))
    told = router_index.router_knows_prefixes(a_trial(server, send=routing_to(1, None)), holding(), NAMES)
    assert (told["prefixes"], told["blocks"], told["wrong"]) == (2, 3, 0)
    # Sent to the one who holds less; and the right one, with a wrong belief.
    wrong = failure(router_index.router_knows_prefixes, a_trial(server, send=routing_to(2, None)), holding(), NAMES)
    assert wrong.startswith("1 of 2 stored and 0 dropped beginnings were routed otherwise")
    wrong = failure(router_index.router_knows_prefixes, a_trial(server, send=routing_to(1, 0.0)), holding(), NAMES)
    assert "'hit_rate': 0.0, 'true_share': 0.6667" in wrong
    nothing = [Follower(worker(1)), Follower(worker(2))]
    assert "there was none" in failure(router_index.router_knows_prefixes, a_trial(server), nothing, NAMES)


def test_a_router_that_keeps_what_was_dropped(server: FakeServer) -> None:
    server.answers["/metrics"] = Answer(body=applied(0))
    followers = holding()
    for hashes, parent in (((21, 22), None), ((23,), 22)):
        tokens = tuple(range(700 + hashes[0], 700 + hashes[0] + 16 * len(hashes)))
        followers[1].held.apply(Event(1, events.STORED, hashes, parent, tokens, 16))
    followers[1].held.apply(Event(2, events.REMOVED, (23, 22, 21)))
    (chain,) = router_index._dropped(followers, 10, range(300, 2000))
    assert chain == list(range(721, 737))
    told = failure(router_index.router_knows_prefixes, a_trial(server, send=routing_to(1, None)), followers, NAMES)
    assert told.startswith("1 of 2 stored and 1 dropped beginnings were routed otherwise")
    assert "'held': {'worker-1': 0, 'worker-2': 0}" in told
    assert "'true_share': 0.0" in told


def test_what_a_server_says_is_read(server: FakeServer) -> None:
    def fine(_request: Request) -> Answer:
        return Answer(body=b"not JSON")

    server.answers["/dump"] = fine
    followers = [Follower(worker(1))]
    assert "Expecting value" in failure(index.indexer_equals_events, a_trial(server), followers)
