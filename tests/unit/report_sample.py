"""A failed run with all that a report can hold, and logs that try to become part of its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.builders import RUN, make_check, make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.results import Report

BEGAN = 1767225600.0  # 2026-01-01T00:00:00Z, as builders.make_report has it
DECODE_LOG = "logs/org__model/sglang_server_remote.log"
CAUSE = "E0101 00:00:21.500000  102 tcp_transport.cpp:88] writev: Connection reset by peer"
# Each would do something if it became markup, a command of a terminal, or were obeyed by a browser.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</pre></details><img src=x onerror=\"document.title = 'taken'\">",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt; &amp;",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://x.example\x1b\\link\x1b]8;;\x1b\\",
    "\x00 \x08 \x7f \x9b1m \u202egnp.exe \ufeff \u2028",
    "caf\xe9 \u4f60\u597d \U0001f680 ]]> --> <!-- <![CDATA[",
)


def phase(name: str, at: int, seconds: float, *, trial: str | None = None, ok: bool = True) -> dict[str, Any]:
    """Return a phase that began at a second of the run."""
    status = "ok" if ok else "failed"
    return {
        "name": name,
        "trial": trial,
        "status": status,
        "started_at": f"2026-01-01T00:00:{at:02d}Z",
        "seconds": seconds,
    }


def event(at: float, kind: str, text: str, **where: Any) -> dict[str, Any]:
    """Return an event at a second of the run."""
    return {"at": BEGAN + at, "kind": kind, "text": text, **where}


def fault() -> dict[str, Any]:
    """Return a fault that could not be taken back."""
    at = BEGAN + 22.0
    seen = {"states": {"102": "T"}, "words": HOSTILE[0]}
    well = {"status": "ok", "at": at, "seconds": 0.2, "evidence": seen}
    steps = [{"step": "inject", **well}, {"step": "effect", **well}]
    left = {"step": "gone", "status": "failed", "at": at + 1, "seconds": 0.1, "problem": "stopped still"}
    return {
        "name": "stall",
        "targets": [{"node": "two", "service": "decode"}],
        "at": at,
        "steps": [*steps, left],
        "proven": True,
        "reverted": False,
        "limit_seconds": 20.0,
    }


def failed_report(**changes: Any) -> Report:
    """Return the report of a run whose decode server lost its connection."""
    trial = "org/model"
    of = {
        "prefill": {"node": "one", "service": "prefill", "trial": trial},
        "router": {"node": "one", "service": "router", "trial": trial},
        "decode": {"node": "two", "service": "decode", "trial": trial},
    }
    values: dict[str, Any] = {
        "finished_at": "2026-01-01T00:00:30Z",
        "simulated": True,
        "runtime": "process",
        "engine": {"name": "sglang", "platform": "simulator", "runtime": "process", "environment": "/env"},
        "phases": [
            phase("provision", 0, 6.2),
            phase("deploy", 6, 12.0, trial=trial),
            phase("verify", 18, 2.5, trial=trial),
            phase("exercise", 20, 3.5, trial=trial, ok=False),
            phase("teardown", 24, 5.0),
        ],
        "timeline": [
            event(7.0, "start", "python3 -m sglang.launch_server", **of["prefill"]),
            event(7.2, "start", "python3 -m sglang.launch_server", **of["decode"]),
            event(14.0, "ready", "/health", **of["prefill"]),
            event(15.5, "ready", "/health", **of["decode"]),
            event(15.6, "start", "sglang_router", **of["router"]),
            event(17.0, "ready", "/health", **of["router"]),
            event(20.4, "request", "POST /generate", seconds=0.4, **of["router"]),
            event(21.0, "request", "POST /generate", seconds=2.1, ok=False, **of["router"]),
            event(21.5, "fault", "connection reset", ok=False, **of["decode"]),
            *(event(26.0, "stop", "stopped", **where) for where in of.values()),
        ],
        "models": [
            {
                "name": trial,
                "served": {"path": "/model", "revision": "r1", "stand_in": None},
                "checks": [
                    make_check("services_are_ours"),
                    make_check("answer_correct", "fail"),
                    make_check("kv_cache_moved", "skipped"),
                ],
                "faults": [fault()],
            }
        ],
        "checks": [make_check("nodes_clean")],
        "transport": {
            "declared": "rdma",
            "requested": "tcp",
            "used": "tcp",
            "evidence": [{"trial": trial, "witness": "tcp_info", "bytes": 30744}],
        },
        "versions": {"python": "3.11.7", "sglang": "0.5.23", "torch": None},
        "artifacts": {
            "wheel": {"file": "demo-1.0-py3-none-any.whl", "sha256": "0" * 64, "source": "file", "origin": None},
            "image": None,
        },
        "timing": {"total": 29.4, "engine_start": 9.8, "inference": 2.5, "own": 17.1},
        "failures": [
            make_failure(
                evidence=f"HTTP 502 from the router\nits last words:\n{HOSTILE[0]}\n{HOSTILE[3]}",
                hint="see why decode closed the connection",
                rule="transfer-reset",
                line={"file": DECODE_LOG, "line": 4000, "host": "two", "text": CAUSE},
            ),
            make_failure(check="transport_used", evidence="nothing was carried", consequence=True),
            make_failure(
                **{"class": "infrastructure", "check": "nodes_clean", "evidence": "a port is held", "trial": None},
                consequence=True,
            ),
        ],
    }
    report = make_report(**{**values, **changes})
    report.judge()
    return report


def write_logs(folder: Path, lines: int = 8000) -> None:
    """Write the logs of that run; the decode server's is long, and line 4000 of it is the cause."""
    for name in ("org__model", "ansible"):
        (folder / "logs" / name).mkdir(parents=True, exist_ok=True)
    text = [
        f"[2026-01-01 00:00:{number % 60:02d}] decode {number}: a batch of {number % 7} requests"
        for number in range(1, lines + 1)
    ]
    text[3999] = CAUSE
    (folder / DECODE_LOG).write_text("\n".join(text) + "\n")
    (folder / "logs/org__model/load_balancer.log").write_text("\n".join(HOSTILE) + "\n")
    (folder / "logs/org__model/curl_response.log").write_text(
        f"> POST http://127.0.0.41:8000/generate\r\n< HTTP 502\n{HOSTILE[1]}\n"
    )
    (folder / "logs/ansible/deploy<b>&'\"#?.log").write_text("\nthe line before this one is empty\n")
    (folder / "logs/org__model/empty.log").write_text("")


GREEN: dict[str, Any] = make_report(
    run_id=RUN.replace("20260101", "20251231"),
    verdict="pass",
    versions={"python": "3.11.7", "sglang": "0.5.22", "torch": None},
    artifacts={"wheel": {"file": "demo-0.9-py3-none-any.whl", "sha256": "1" * 64, "source": "file"}, "image": None},
    timing={"total": 20.0, "engine_start": 9.0, "inference": 2.0, "own": 9.0},
).to_json()
