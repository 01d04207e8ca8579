"""Where prefill and decode meet."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyharness.simulator.rooms import Delivery, Rooms, Target, TransferError, request_delivery, serve_claim

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.simulator]

TARGET = Target("127.0.0.32:16000", 4096, 8320)
WAITING = "SGLANG_DISAGGREGATION_WAITING_TIMEOUT"


@pytest.fixture(autouse=True)
def _never_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAITING, "10")


@pytest.mark.parametrize("first", ["prefill", "decode"])
def test_the_two_halves_meet_whoever_comes_first(first: str) -> None:
    rooms = Rooms()
    delivered: list[Target] = []

    def deliver(target: Target) -> Delivery:
        delivered.append(target)
        return Delivery(target.length, 12)

    with ThreadPoolExecutor() as threads:
        if first == "prefill":
            prefill = threads.submit(rooms.offer, 7, deliver)
            decode = threads.submit(rooms.claim, 7, TARGET)
        else:
            decode = threads.submit(rooms.claim, 7, TARGET)
            prefill = threads.submit(rooms.offer, 7, deliver)
        prefill.result()
        assert decode.result() == Delivery(8320, 12)
    assert delivered == [TARGET]


def test_rooms_are_not_mixed_up() -> None:
    rooms = Rooms()

    def deliverer(room: int) -> Callable[[Target], Delivery]:
        return lambda target: Delivery(target.length, room)

    with ThreadPoolExecutor() as threads:
        for room in (1, 2):
            threads.submit(rooms.offer, room, deliverer(room))
        assert rooms.claim(2, TARGET).cached_tokens == 2
        assert rooms.claim(1, TARGET).cached_tokens == 1


def test_a_failed_delivery_fails_both_halves() -> None:
    rooms = Rooms()

    def deliver(target: Target) -> Delivery:
        message = f"no way to {target.session}"
        raise TransferError(message)

    with ThreadPoolExecutor() as threads:
        prefill = threads.submit(rooms.offer, 7, deliver)
        with pytest.raises(TransferError, match=r"no way to 127\.0\.0\.32:16000"):
            rooms.claim(7, TARGET)
        with pytest.raises(TransferError, match=r"no way to 127\.0\.0\.32:16000"):
            prefill.result()


def test_neither_half_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAITING, "0.01")
    rooms = Rooms()
    with pytest.raises(TransferError, match=r"decode did not fetch the KV cache of room 7 within 0\.01 s"):
        rooms.offer(7, lambda _: Delivery(0, 0))
    with pytest.raises(TransferError, match="prefill got no request for room 7"):
        rooms.claim(7, TARGET)


def test_a_claim_over_http_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAITING, "0.01")
    status, content = serve_claim(Rooms(), {"room": 7})
    assert (status, "no transfer request" in content["error"]) == (400, True)
    body = {"room": 7, "session": TARGET.session, "address": TARGET.address, "length": TARGET.length}
    status, content = serve_claim(Rooms(), body)
    assert (status, "prefill got no request" in content["error"]) == (502, True)


def test_a_prefill_that_is_not_there_is_named() -> None:
    with pytest.raises(TransferError, match=r"bootstrap service at 127\.0\.0\.1:1 gave no answer"):
        request_delivery("127.0.0.1", 1, 7, TARGET)
