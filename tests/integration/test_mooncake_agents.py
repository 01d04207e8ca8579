"""The programs of roles transfer_agent, store_client and mooncake_master, with real Mooncake."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pyharness import exercise
from pyharness.verification import agents
from tests.mooncake_bench import ROLES, bench, mooncake  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from tests.mooncake_bench import Bench

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.mooncake]

AGENT = str(ROLES / "transfer_agent/files/transfer_agent.py")
CLIENT = str(ROLES / "store_client/files/store_client.py")
METADATA = str(ROLES / "mooncake_master/files/metadata_server.py")


def ask(service: Service, verb: str, asked: Any) -> tuple[int | None, dict[str, Any]]:
    done = exercise.post(f"{service.url}/{verb}", asked, 20.0)
    return done.status, done.json()


def said(python: str, *command: str, **environment: str) -> tuple[int, str]:
    """Run a program that ends. Returns its exit status and all that it said."""
    done = subprocess.run([python, *command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def ended(python: str, *command: str, **environment: str) -> tuple[int, str]:
    """Run a program that ends. Returns its exit status and the last line that it said."""
    status, text = said(python, *command, **environment)
    return status, text.splitlines()[-1]


def test_a_wrong_request_is_told_in_one_line(bench: Bench) -> None:  # noqa: F811
    agent = bench.agent("agent_a", capacity=4096)
    assert ask(agent, "fill", {"offset": 0, "size": 10}) == (400, {"error": "'seed' is missing"})
    outside = (400, {"error": "10 bytes at 4090 do not lie in a memory of 4096"})
    assert ask(agent, "fill", {"offset": 4090, "size": 10, "seed": "a"}) == outside
    assert ask(agent, "hash", {"ranges": [[-1, 10]]})[0] == 400
    assert ask(agent, "nothing", {}) == (404, {"error": "no /nothing here"})
    assert ask(agent, "hash", {"ranges": 7})[0] == 400
    way = {"direction": "up", "peer": "p", "size": 1, "count": 1, "local": 0, "remote": 0}
    assert ask(agent, "transfer", way) == (400, {"error": "direction is 'up', neither read nor write"})
    assert requests.post(f"{agent.url}/hash", data=b"{", timeout=10).json() == {"error": "the body is no JSON"}
    assert ask(agent, "hash", {"ranges": []}) == (200, {"sha256": []})


def test_an_agents_memory_holds_what_its_seed_says(bench: Bench) -> None:  # noqa: F811
    agent = bench.agent("agent_a")
    ask(agent, "fill", {"offset": 100, "size": 1000, "seed": "a"})
    ranges = [[100, 1000], [0, 100]]
    told = [agents.digest(agents.content("a", 1000)), agents.digest(bytes(100))]
    assert ask(agent, "hash", {"ranges": ranges}) == (200, {"sha256": told})


def test_without_mooncake_a_program_ends_with_the_reason() -> None:
    told = "Mooncake cannot be imported: No module named 'mooncake'"
    common = ["--host=127.0.0.1", "--port=1", "--transport=tcp"]
    assert ended(sys.executable, AGENT, *common, "--capacity=4096") == (1, told)
    with subprocess.Popen([sys.executable, "-m", "http.server", "--bind=127.0.34.77", "7777"]) as listener:
        store = [*common, "--master=127.0.34.77:7777", "--metadata=P2PHANDSHAKE", "--segment-size=1", "--buffer-size=1"]
        assert ended(sys.executable, CLIENT, *store) == (1, told)
        listener.kill()


def test_a_client_without_a_master_says_so(bench: Bench) -> None:  # noqa: F811
    common = ["--host=127.0.0.1", "--port=1", "--transport=tcp", "--segment-size=1048576", "--buffer-size=1048576"]
    started = time.monotonic()
    status, told = ended(
        bench.where.python,
        CLIENT,
        *common,
        "--master=127.0.0.1:1",
        "--metadata=P2PHANDSHAKE",
        "--join-seconds=1",
        PYTHONPATH=bench.where.overlay,
    )
    assert (status, time.monotonic() - started < 20) == (1, True)
    assert told.startswith("no master at 127.0.0.1:1 after 1 s")


def start_metadata(bench: Bench) -> tuple[str, int]:  # noqa: F811
    port = bench.port("prefill")
    command = [bench.where.python, METADATA, f"--host={bench.addresses['prefill']}", f"--port={port}"]
    return bench.start("metadata", "metadata", "prefill", port, command).url, port


def test_the_metadata_server_is_mooncakes_with_a_health(bench: Bench) -> None:  # noqa: F811
    url, port = start_metadata(bench)
    assert requests.get(f"{url}/metadata", params={"key": "k"}, timeout=10).status_code == 404
    assert requests.put(f"{url}/metadata", params={"key": "k"}, data=b"v", timeout=10).status_code == 200
    assert requests.get(f"{url}/metadata", params={"key": "k"}, timeout=10).content == b"v"
    # Mooncake says in one thread that it has started, and in another that it could not: in either order.
    again = said(
        bench.where.python,
        METADATA,
        f"--host={bench.addresses['prefill']}",
        f"--port={port}",
        PYTHONPATH=bench.where.overlay,
    )
    assert again[0] == 1
    assert "address already in use" in again[1]


@pytest.mark.parametrize("kind", ["separate", "embedded"])
def test_clients_find_each_other_by_a_metadata_server(bench: Bench, kind: str) -> None:  # noqa: F811
    if kind == "separate":
        url, arguments = start_metadata(bench)[0], []
    else:
        port = bench.port("prefill")
        url = f"http://{bench.addresses['prefill']}:{port}"
        arguments = ["--enable_http_metadata_server=true", f"--http_metadata_server_port={port}"]
    bench.master(*arguments)
    clients = [bench.client(name, metadata=f"{url}/metadata") for name in ("client_a", "client_b")]
    segments = [ask(client, "describe", {})[1]["segment"] for client in clients]
    for segment in segments:
        objects = [{"key": segment, "seed": segment, "size": 70000}]
        assert ask(clients[0], "put", {"objects": objects, "segments": [segment]}) == (200, {"codes": [0]})
    told = [{"size": 70000, "sha256": agents.digest(agents.content(segment, 70000))} for segment in segments]
    for client in clients:
        for way in ("bytes", "into", "batch"):
            assert ask(client, "get", {"keys": segments, "way": way}) == (200, {"objects": told})
    assert json.loads(requests.get(f"{bench.services[-3].url}/health", timeout=10).text)["service_ready"] is True
