"""etcd or NATS away for a while: what Dynamo does without them, and whether all is as before when they are back."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

from pyharness import exercise, faults
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.dynamo import streams, worker_faults
from pyharness.verification.dynamo.pulse import Beat, Pulse, errors_bounded, figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_STORE_SECONDS = 5.0
# Where Dynamo 1.6 keeps who serves what; see `etcdctl get --prefix v1/`.
_PREFIX = "v1/instances/"


def instances(etcd: Service) -> list[str]:
    """Return the keys of all that is registered, by etcd's gateway (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway).

    Raises:
        CheckFailed: etcd does not say.
    """

    def coded(key: str) -> str:
        return base64.b64encode(key.encode()).decode()

    # The end of a range is the first key behind it: the prefix with its last character raised.
    end = _PREFIX[:-1] + chr(ord(_PREFIX[-1]) + 1)
    asked = {"key": coded(_PREFIX), "range_end": coded(end), "keys_only": True}
    done = exercise.post(f"{etcd.url}/v3/kv/range", asked, _STORE_SECONDS)
    try:
        found = done.json().get("kvs") or []
        return sorted(base64.b64decode(entry["key"]).decode() for entry in found)
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckFailed(
            f"{etcd.name} does not tell its keys: {done.problem or done.status}",
            {"exchange": done.transcript()[-1000:]},
            hint=f"read {etcd.log} on {etcd.node}",
        ) from error


def etcd_outage_survived(trial: Trial, seed: str) -> Evidence:
    """Check that without etcd streams and requests go on as with it, and that it comes back with what it knew."""
    (etcd,) = trial.deployment.of_kind("etcd")
    fault = faults.Outage(etcd, data=lambda: instances(etcd))
    return _outage(trial, seed, fault, allowed=0)


def nats_outage_survived(trial: Trial, seed: str) -> Evidence:
    """Check that without NATS a stream goes on, that no request is answered wrongly, and that all is well in time."""
    (nats,) = trial.deployment.of_kind("nats")
    fault = faults.Outage(nats)
    return _outage(trial, seed, fault, allowed=None)


def _outage(trial: Trial, seed: str, fault: faults.Outage, allowed: int | None) -> Evidence:
    """Make an outage and hold it.

    Args:
        trial: whose services.
        seed: of the stream's prompt.
        fault: which outage.
        allowed: how many requests may fail meanwhile; None where it carries them, so that all may.
    """
    load = trial.workload
    workers = [service for service in trial.deployment.of_kind("worker") if trial.nodes.current(service)]
    stream = streams.begin(trial, seed, int(load["stream_tokens"]))
    streams.under_way(trial, stream)
    with (
        Pulse(trial) as pulse,
        faults.injected(
            trial,
            fault,
            limit_seconds=float(load["recovery_seconds"]),
            recovered=lambda: all(worker_faults.answers(trial, worker) for worker in workers),
        ) as hold,
    ):
        evidence = streams.whole(stream.result(), int(load["stream_tokens"]))
        _hold_for(trial, hold.proven_at + float(load["outage_seconds"]))
        back = time.monotonic()
    name = fault.service.name
    during = pulse.between(hold.proven_at, back)
    evidence["during"] = _judged(during, allowed, f"while {name} was away")
    evidence["after"] = figures(pulse.between(back))
    _none_left(trial, pulse.between(hold.injected_at), name)
    return {**evidence, "fault": hold.evidence}


def _judged(beats: Sequence[Beat], allowed: int | None, when: str) -> Evidence:
    return errors_bounded(beats, len(beats) if allowed is None else allowed, when)


def _none_left(trial: Trial, beats: Sequence[Beat], name: str) -> None:
    """Check that each request that was made meanwhile was answered, with an error if need be, and none was left."""
    limit = float(trial.workload["answer_seconds"])
    left = [beat for beat in beats if beat.seconds >= limit]
    if left:
        raise CheckFailed(
            f"{len(left)} of {len(beats)} requests that were made while {name} was away, or came back, were never "
            f"answered, within {limit:g} s each",
            figures(beats),
            hint="the frontend's log has them",
        )


def _hold_for(trial: Trial, until: float) -> None:
    """Let the outage last, on top of what the stream took."""
    while time.monotonic() < until:
        trial.go_on()
        time.sleep(min(0.1, max(0.0, until - time.monotonic())))


def newcomer_found(trial: Trial) -> Evidence:
    """Check that a worker that registers after an outage is found, and answers."""
    later = [service for service in trial.deployment.later if service.kind == "worker"]
    newcomer = next(service for service in later if trial.nodes.current(service) is None)
    with faults.injected(
        trial,
        faults.Start(newcomer),
        limit_seconds=float(trial.workload["recovery_seconds"]),
    ) as hold:
        started = time.monotonic()
        while not worker_faults.answers(trial, newcomer):
            spent = time.monotonic() - started
            if spent > float(trial.workload["recovery_seconds"]):
                raise CheckFailed(
                    f"{newcomer.name} was started and is ready, and answers nothing {spent:.1f} s later",
                    {"waited_seconds": round(spent, 3)},
                    hint="the frontend's log has `Adding worker` for each that it finds",
                )
            trial.go_on()
        found = round(time.monotonic() - hold.injected_at, 3)
    return {"newcomer": newcomer.name, "answers_after_seconds": found, "fault": hold.evidence}
