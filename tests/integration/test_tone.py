"""T-One's wrappers: a test plays tone-cli. It rewrites the lines, runs the script, reads the result and the logs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ansible_collections.disagg.e2e.plugins.module_utils import cache, node_state
from pyharness import case as cases
from pyharness import paths
from tests.unit.fake_http import Answer, serving
from tests.unit.test_wheel_sources import TOKEN, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"
WRAPPERS = paths.PROJECT / "tone_tests" / "scripts"
LINES = ("LOCAL_IP", "REMOTE_IP", "ARTIFACT_ID", "GIT_REPO", "test_case_name", "TEST_TYPE")
ONE_MODEL = ("--model", "Qwen/Qwen3-8B")


class ToneCli:
    """What tone-cli does, in a clone of the project.

    Args:
        clone: an empty folder. It gets the project's files as links, except for tone_tests, which is rewritten.
    """

    def __init__(self, clone: Path) -> None:
        clone.mkdir()
        for entry in paths.PROJECT.iterdir():
            if entry.name not in {"tone_tests", "run", ".git"}:
                (clone / entry.name).symlink_to(entry)
        self.tests = clone / "tone_tests"
        # One wrapper is enough: all are the same but for their names, and run-all would take its time for each.
        others = {path.name for path in WRAPPERS.glob("test_*.sh")} - {f"{CASE}.sh"}
        shutil.copytree(WRAPPERS, self.tests / "scripts", ignore=lambda _folder, _names: others)
        # Addresses of its own, so that runs that go on at the same time do not meet.
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        self.local, self.remote = f"127.41.{10 + worker}.1", f"127.41.{10 + worker}.2"
        self.inventory = clone.parent / "inventory"
        shutil.copytree(paths.INVENTORIES / "simulator" / "group_vars", self.inventory / "group_vars")
        (self.inventory / "hosts.yml").write_text(
            "all:\n  children:\n"
            f"    prefill_nodes: {{hosts: {{prefill: {{ansible_host: {self.local}}}}}}}\n"
            f"    decode_nodes: {{hosts: {{decode: {{ansible_host: {self.remote}}}}}}}\n"
        )
        self.environment = {key: value for key, value in os.environ.items() if key not in (*LINES, "TONE_TESTS_DIR")}
        self.environment["DISAGG_INVENTORY"] = str(self.inventory)

    def substitute(self, **values: str) -> None:
        """Rewrite the lines in place, in each script that begins with test_."""
        for script in (self.tests / "scripts").glob("test_*"):
            text = script.read_text()
            for name, value in values.items():
                text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
                assert count == 1, f"{script.name} has {count} lines that begin with {name}="
            script.write_text(text)

    def command(self, *arguments: str, script: str = f"{CASE}.sh") -> list[str]:
        return [str(self.tests / "scripts" / script), *arguments]

    def run(self, *arguments: str, script: str = f"{CASE}.sh", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script, from a folder that has nothing to do with it."""
        return subprocess.run(
            self.command(*arguments, script=script),
            cwd="/",
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def result(self) -> str:
        """Read the result as T-One does, in both layouts. Returns the status."""
        texts = [(self.tests / "run" / part / CASE / "test_results.json").read_text() for part in ("", "logs")]
        found = [json.loads(text) for text in texts]
        for result in found:
            assert set(result) == {"test_case", "status", "timestamp"}
            assert result["test_case"] == CASE
            assert result["status"] in {"Pass", "Fail"}
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", result["timestamp"])
        assert found[0]["status"] == found[1]["status"]
        return str(found[0]["status"])

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.tests / "run" / CASE / "report.json").read_text()))

    def pass_of_before(self) -> None:
        """Leave the Pass of an earlier run."""
        for part in ("", "logs"):
            folder = self.tests / "run" / part / CASE
            folder.mkdir(parents=True)
            (folder / "test_results.json").write_text(json.dumps({"test_case": CASE, "status": "Pass"}))
        (self.tests / "run" / CASE / "report.json").write_text('{\n  "run_id": "20200101-000000-abcd"\n}\n')


@pytest.fixture
def tone(tmp_path: Path) -> Iterator[ToneCli]:
    """Return a tone-cli. Whatever it ran, nothing of it is left."""
    cli = ToneCli(tmp_path / "clone")
    yield cli
    for report in cli.tests.rglob("report.json"):
        assert node_state.run_processes(json.loads(report.read_text())["run_id"]) == []


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read progress until a line holds `text`. Returns all of it."""
    seen = ""
    assert process.stderr is not None
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    return pytest.fail(f"{text!r} was never told:\n{seen}")


def test_every_test_case_has_its_wrapper_and_every_wrapper_its_test_case() -> None:
    wrappers = {path.stem: path for path in WRAPPERS.glob("*.sh") if path.stem not in {"common", "run_test"}}
    assert sorted(wrappers) == cases.names()
    for name, path in wrappers.items():
        assert os.access(path, os.X_OK)
        text = path.read_text()
        assert re.findall(r"^(\w+)=", text, flags=re.MULTILINE) == list(LINES)
        assert f'\ntest_case_name="{name}"\n' in text
        kind = re.search(r'^TEST_TYPE="(single|double)"$', text, flags=re.MULTILINE)
        assert kind
        assert kind[1] == ("double" if len(cases.load(name).nodes) > 1 else "single")


def test_tone_cli_gets_a_pass_with_its_files(tone: ToneCli) -> None:
    tone.pass_of_before()
    tone.substitute(LOCAL_IP=tone.local, REMOTE_IP=tone.remote)

    done = tone.run(*ONE_MODEL)

    assert done.returncode == 0, done.stdout + done.stderr
    assert tone.result() == "Pass"
    folder = tone.tests / "run" / CASE
    assert {"logs", "whls", ".shrc", "test_results.json"} <= {path.name for path in folder.iterdir()}
    assert [path.suffix for path in (folder / "whls").iterdir()] == [".whl"]
    later = tone.tests / "run" / "logs" / CASE
    for logs in (folder / "logs", later):
        collected = {path.name for path in (logs / "Qwen__Qwen3-8B").iterdir()}
        assert {"sglang_server_local.log", "sglang_server_remote.log", "load_balancer.log"} <= collected
    before = tone.tests / "run" / "previous" / CASE / "20200101-000000-abcd" / "test_results.json"
    assert json.loads(before.read_text())["status"] == "Pass"


def test_the_artifact_is_what_is_tested_and_the_token_is_nowhere(tone: ToneCli) -> None:
    kept = node_cache() / "wheels" / "files"
    wheel = next(kept.glob("mooncake-transfer-engine-non-cuda-*/*.whl"))  # an earlier test has had it fetched
    tone.substitute(LOCAL_IP=tone.local, REMOTE_IP=tone.remote, ARTIFACT_ID="7", GIT_REPO="o/r")
    with serving("127.41.5.1") as github, serving("127.41.5.2") as store:
        github.answers["/repos/o/r/actions/artifacts/7"] = Answer(body={"id": 7, "name": "mooncake"})
        github.answers["/repos/o/r/actions/artifacts/7/zip"] = Answer(302, headers={"Location": f"{store.url}/zip"})
        store.answers["/zip"] = Answer(body=zipped({f"dist/{wheel.name}": wheel.read_bytes()}))

        done = tone.run(*ONE_MODEL, GITHUB_API_URL=github.url, GH_TOKEN=TOKEN)

        assert done.returncode == 0, done.stdout + done.stderr
        assert [request.headers["Authorization"] for request in github.requests] == [f"Bearer {TOKEN}"] * 2
    assert tone.result() == "Pass"
    assert tone.report()["artifacts"]["wheel"]["source"] == "artifact"
    assert [path.name for path in (tone.tests / "run" / CASE / "whls").iterdir()] == [wheel.name]
    assert TOKEN not in done.stdout + done.stderr
    fetched = kept / f"artifact-7-{cache.key_of(github.url, 'o/r')}"
    assert (fetched / wheel.name).exists()
    assert files_with(TOKEN, tone.tests, node_cache() / "runs", fetched) == []
    shutil.rmtree(fetched)  # of a server that will never be again
    (kept / f".{fetched.name}.lock").unlink()


def node_cache() -> Path:
    """Return the cache directory of the simulator inventory."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("DISAGG_E2E_CACHE") or f"{base}/disagg-e2e")


def files_with(secret: str, *folders: Path) -> list[Path]:
    """Return the files that hold a secret. One may go away while it is looked for."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.exists() and secret.encode() in path.read_bytes()]


def test_a_failing_run_is_a_fail_and_exit_code_1(tone: ToneCli) -> None:
    done = tone.run(*ONE_MODEL, "-e", "disagg_misbehave={decode: [wrong-text]}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert tone.result() == "Fail"
    assert tone.report()["verdict"] == "fail"


def test_a_run_that_is_ended_leaves_a_fail_and_nothing_running(tone: ToneCli) -> None:
    tone.pass_of_before()
    process = subprocess.Popen(
        tone.command(*ONE_MODEL),
        cwd="/",
        env=tone.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_line(process, " deploy")
    assert tone.result() == "Fail"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert tone.result() == "Fail"
    assert tone.report()["failures"][0]["evidence"].startswith("SIGTERM ended the run in phase")


def test_run_test_hands_a_signal_on_and_stops(tone: ToneCli) -> None:
    second = tone.tests / "scripts" / "test_zzz.sh"
    second.write_text(f"#!/bin/sh\ntouch {tone.tests}/ran\n")
    second.chmod(0o755)
    process = subprocess.Popen(
        tone.command("run-all", script="run_test.sh"),
        cwd="/",
        env=tone.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_line(process, " provision")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert tone.result() == "Fail"
    assert not (tone.tests / "ran").exists()


def test_run_all_keeps_the_order_of_the_suites(tone: ToneCli) -> None:
    names = ("test_transfer_engine", CASE, "test_aaa", "test_mooncake_store")
    for name in names:
        script = tone.tests / "scripts" / f"{name}.sh"
        script.unlink(missing_ok=True)
        script.write_text(f"#!/bin/sh\necho {name}\n")
        script.chmod(0o755)
    done = tone.run("run-all", script="run_test.sh")
    assert done.stdout.split() == ["test_transfer_engine", CASE, "test_mooncake_store", "test_aaa"]


@pytest.mark.parametrize(("codes", "worst"), [((0, 0), 0), ((0, 1), 1), ((2, 1), 2), ((0, 127), 2)])
def test_run_all_gives_the_worst_exit_code(tone: ToneCli, codes: tuple[int, int], worst: int) -> None:
    (tone.tests / "scripts" / f"{CASE}.sh").unlink()
    for index, code in enumerate(codes):
        script = tone.tests / "scripts" / f"test_{index}.sh"
        script.write_text(f"#!/bin/sh\necho ran {index}\nexit {code}\n")
        script.chmod(0o755)
    done = tone.run("run-all", script="run_test.sh")
    assert (done.returncode, done.stdout) == (worst, "ran 0\nran 1\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: run_test.sh run-single TEST_CASE"),
        (("run-single",), "usage: run_test.sh"),
        (("run-single", "test_nothing"), "error: run-single: there is no test case test_nothing; there are: test_1p1d"),
        (("run-single", "../common"), "error: run-single: there is no test case ../common"),
        (("run-single", "run_test"), "error: run-single: there is no test case run_test"),
        (("run-all", "NOTHING"), "error: run-all: no test case has the engine NOTHING"),
    ],
)
def test_run_test_says_what_it_needs(tone: ToneCli, arguments: tuple[str, ...], said: str) -> None:
    done = tone.run(*arguments, script="run_test.sh")
    assert done.returncode == 2
    assert done.stderr.startswith(said)


@pytest.mark.parametrize(
    ("values", "environment", "said"),
    [
        ({}, {"LOCAL_IP": "192.0.2.1"}, "REMOTE_IP is '' and has to be the address of a host; TEST_TYPE is double"),
        ({"REMOTE_IP": "192.0.2.2"}, {}, "LOCAL_IP is '' and has to be the address of a host"),
        ({"LOCAL_IP": "host-1"}, {"REMOTE_IP": "192.0.2.2"}, "LOCAL_IP is 'host-1' and has to be the address"),
        ({"LOCAL_IP": "192.0.2.1", "REMOTE_IP": "192.0.2.1"}, {}, "are both 192.0.2.1; a double test takes two hosts"),
        ({"TEST_TYPE": '"triple"'}, {}, "TEST_TYPE is 'triple' and has to be single or double"),
        (
            {"LOCAL_IP": "192.0.2.1", "REMOTE_IP": "192.0.2.2", "ARTIFACT_ID": "7"},
            {},
            "ARTIFACT_ID is 7 and GIT_REPO is empty",
        ),
        (
            {"LOCAL_IP": "192.0.2.1", "REMOTE_IP": "192.0.2.2"},
            {"DISAGG_SSH_KEY": "/nowhere/key"},
            "DISAGG_SSH_KEY is /nowhere/key, and there is no such file",
        ),
        ({}, {"DISAGG_INVENTORY": "/nowhere"}, "-i /nowhere: there is no such inventory"),
        ({"ARTIFACT_ID": "seven", "GIT_REPO": "o/r"}, {"DISAGG_INVENTORY": "keep"}, "--wheel artifact:seven: "),
    ],
)
def test_bad_input_is_one_line_and_a_fail(
    tone: ToneCli, values: dict[str, str], environment: dict[str, str], said: str
) -> None:
    tone.pass_of_before()
    if environment.get("DISAGG_INVENTORY") != "keep":
        del tone.environment["DISAGG_INVENTORY"]
        tone.environment |= environment
    tone.substitute(**values)
    done = tone.run()
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert tone.result() == "Fail"
    again = tone.run()
    assert (again.returncode, again.stderr) == (2, done.stderr), "what it left is not in the way of the next run"


def test_wrong_arguments_of_the_harness_are_a_fail_too(tone: ToneCli) -> None:
    done = tone.run("-e", "novalue")
    assert (done.returncode, tone.result()) == (2, "Fail")
    assert "-e novalue: has to be KEY=VALUE" in done.stderr
    assert tone.run("-e", "novalue").stderr == done.stderr


def test_a_test_case_that_is_not_known_is_refused(tone: ToneCli) -> None:
    for name, said in (
        ("test_nothing", "no test case is called test_nothing"),
        ("'../x'", "has to be a test case's name"),
    ):
        tone.substitute(test_case_name=name)
        done = tone.run()
        assert done.returncode == 2
        assert said in done.stderr
        assert not (tone.tests / "run").exists()


def test_an_environment_that_cannot_be_made_is_a_fail(tone: ToneCli) -> None:
    tone.pass_of_before()
    (tone.tests.parent / ".venv").unlink()
    done = tone.run(PYTHON="/bin/false")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the harness's environment could not be made; see above")
    assert tone.result() == "Fail"


def test_the_addresses_become_an_inventory(tone: ToneCli, tmp_path: Path) -> None:
    del tone.environment["DISAGG_INVENTORY"]
    (tmp_path / "key").touch()
    tone.substitute(LOCAL_IP="192.0.2.1", GIT_REPO="o/r")
    # An option that the harness does not have: it ends when the inventory is made, and touches no host.
    tone.run(
        "--nothing",
        REMOTE_IP="192.0.2.2",
        LOCAL_IP="192.0.2.9",
        DISAGG_SSH_USER="me",
        DISAGG_SSH_KEY=str(tmp_path / "key"),
    )
    made = tone.tests / "run" / "inventories" / CASE
    hosts = yaml.safe_load((made / "hosts.yml").read_text())["all"]
    assert hosts["children"] == {
        "prefill_nodes": {"hosts": {"local": {"ansible_host": "192.0.2.1", "ansible_connection": "local"}}},
        "decode_nodes": {
            "hosts": {
                "remote": {
                    "ansible_host": "192.0.2.2",
                    "ansible_user": "me",
                    "ansible_ssh_private_key_file": str(tmp_path / "key"),
                }
            }
        },
    }
    template = paths.INVENTORIES / "a10"
    assert hosts["vars"] == yaml.safe_load((template / "hosts.yml").read_text())["all"]["vars"]
    shared = "group_vars/all.yml"
    assert (made / shared).read_text() == (template / shared).read_text()


def test_a_result_path_of_ones_own_gets_the_result_only(tone: ToneCli) -> None:
    own = tone.tests / "run" / "mine"
    own.mkdir(parents=True)
    (own / "kept").touch()
    tone.run("-e", "novalue", TEST_CASE_RESULT_PATH="run/mine")
    assert json.loads((own / "test_results.json").read_text())["status"] == "Fail"
    assert (own / "kept").exists()


def test_a_folder_for_results_of_ones_own_is_used(tone: ToneCli, tmp_path: Path) -> None:
    tone.run("-e", "novalue", TONE_TESTS_DIR=str(tmp_path / "own"))
    assert json.loads((tmp_path / "own" / "run" / CASE / "test_results.json").read_text())["status"] == "Fail"
    assert not (tone.tests / "run").exists()
