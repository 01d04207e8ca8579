"""No secret in any output: canaries are planted wherever a secret may come from, and every byte is searched for them.

Each canary is a value that nothing else holds. It is looked for in all encodings that a text may be written in, by code
of this test's own. The last test turns the redaction off and has to find them: so the search sees what there is.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyharness import bundle
from pyharness.results import Report
from tests.sabotage.canaries import CASE, QWEN, WITHOUT_REDACTION, Planted, plant_all, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.e2e, pytest.mark.gpu_0, pytest.mark.harness]


@pytest.fixture
def planted(site: Site, tmp_path: Path) -> Planted:
    """Return a site with canaries in environment, inventory, services, headers and variables."""
    return plant_all(site, tmp_path)


@pytest.fixture
def state() -> Iterator[Path]:
    """Return a state directory with a name as short as a Unix socket in it wants it."""
    with tempfile.TemporaryDirectory(prefix="c4-") as folder:
        yield Path(folder)


def test_a_run_that_passes(planted: Planted, state: Path) -> None:
    places = ["--results", str(planted.site.results), "-e", f"disagg_state_dir={state}"]
    ran = planted.run(CASE, "--model", QWEN, "--json", *places, *planted.arguments())
    assert json.loads(ran.stdout)["verdict"] == "pass", ran.stderr.decode()
    planted.assert_clean(ran)
    text = (planted.results() / "deployment.json").read_text()
    assert '"OPENAI_API_KEY": "<redacted: OPENAI_API_KEY>"' in text
    logs = "".join(path.read_text() for path in (planted.results() / "logs").rglob("sglang_server_*.log"))
    assert "<redacted: OPENAI_API_KEY>" in logs
    assert "NODE_DB_PASSWORD" in logs
    # Read by who knows none of them: the files are clean by themselves.
    report = Report.model_validate(json.loads(ran.stdout))
    assert bundle.write(planted.results(), report) is not None
    unpack(planted.results() / bundle.NAME, planted.site.results / "unpacked")
    assert planted.canaries.in_files(planted.site.results) == {}

    # Neither on the node nor where Ansible was given its variables.
    assert planted.canaries.in_files(state) == {}
    assert not list(Path(tempfile.gettempdir()).glob(f"disagg-e2e-runner-{ran.pid}-*"))


def refusing(planted: Planted) -> list[str]:
    """Return the arguments of a run whose services refuse their command line, and repeat it."""
    words = json.dumps(["--no-such-option", "--api-key", planted.canaries.plant("argument", "/+")])
    return [
        CASE,
        "--model",
        QWEN,
        "--results",
        str(planted.site.results),
        *planted.arguments("-e", f"disagg_extra_arguments={words}"),
    ]


def test_a_run_that_fails(planted: Planted) -> None:
    ran = planted.run(*refusing(planted))
    assert ran.status != 0
    # A service has its key on its command line because its engine wants it there: that process is not ours to hide.
    ran.command_lines = {line for line in ran.command_lines if b"--no-such-option" not in line}
    planted.assert_clean(ran)
    assert b"no-such-option" in ran.stdout + ran.stderr
    assert b"<redacted: " in ran.stdout + ran.stderr
    unpack(planted.results() / bundle.NAME, planted.site.results / "unpacked")
    assert planted.canaries.in_files(planted.site.results) == {}


def test_a_run_that_is_interrupted(planted: Planted) -> None:
    ran = planted.run(
        CASE, "--model", QWEN, "--results", str(planted.site.results), *planted.arguments(), stop_at="deploy"
    )
    assert ran.status == 2
    planted.assert_clean(ran)
    assert list((planted.results() / "logs" / "diagnosis").rglob("processes-by-memory.txt"))
    unpack(planted.results() / bundle.NAME, planted.site.results / "unpacked")
    assert planted.canaries.in_files(planted.site.results) == {}


def test_what_teardown_takes_home(planted: Planted, state: Path) -> None:
    places = ["--results", str(planted.site.results)]
    variable = ["-e", f"disagg_state_dir={state}"]
    ran = planted.run(CASE, "--model", QWEN, "--keep", "-q", *places, *variable, *planted.arguments())
    run_id = json.loads((planted.results() / "report.json").read_text())["run_id"]
    assert "a service's own" in set().union(*planted.canaries.in_files(state).values())  # the logs lie on the node yet
    ended = planted.run("teardown", "--run", run_id, *places, *variable, *planted.arguments())
    assert (ran.status, ended.status) == (0, 0), ended.stderr.decode()
    planted.assert_clean(ran)
    planted.assert_clean(ended)
    assert planted.canaries.in_files(state) == {}
    logs = list((planted.site.results / run_id).rglob("sglang_server_*.log"))
    assert logs
    assert "<redacted: " in logs[0].read_text()


def test_a_wheel_from_a_url_with_a_password_and_a_signature(planted: Planted) -> None:
    plant = planted.canaries.plant
    url = (
        f"http://user:{plant('wheel password')}@127.0.0.1:9/mooncake_transfer_engine-1.0-py3-none-any.whl"
        f"?sig={plant('wheel signature')}&x={plant('wheel query')}#sha256={'0' * 64}"
    )
    ran = planted.run(
        CASE, "--model", QWEN, "--results", str(planted.site.results), *planted.arguments("-e", f"disagg_wheel={url}")
    )
    assert ran.status == 2
    planted.assert_clean(ran)


@pytest.mark.parametrize(
    "verb",
    [
        ["plan", CASE],
        ["plan", CASE, "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["teardown"],
        ["teardown", "--run", "x"],
    ],
)
def test_the_verbs(planted: Planted, verb: list[str]) -> None:
    more = ["--results", str(planted.site.results)] if verb[0] == "teardown" else []
    ran = planted.run(*verb, *planted.arguments(*more))
    planted.assert_clean(ran)
    if verb[0] == "plan":
        assert ran.status == 0, ran.stderr.decode()
        assert b"<redacted: OPENAI_API_KEY>" in ran.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ["-e", "my-password={}"],
        ["-e", "my_password=[{}"],
        ["--wheel", "http://u:{}@h/x.whl"],
        ["--token={}"],
    ],
)
def test_what_is_refused_is_not_repeated(planted: Planted, wrong: list[str]) -> None:
    canary = planted.canaries.plant("refused")
    ran = planted.run(CASE, "--results", str(planted.site.results), *(word.format(canary) for word in wrong))
    assert ran.status == 2
    planted.assert_clean(ran)


def test_without_the_redaction_the_canaries_are_found(planted: Planted) -> None:
    """What the tests above rest on: each way out does hold secrets, and the search finds them."""
    ran = planted.run(*refusing(planted), program=("-c", WITHOUT_REDACTION))
    assert ran.status != 0
    told = planted.canaries.found(ran.stdout + ran.stderr)
    assert "argument" in told
    files = planted.canaries.in_files(planted.site.results)
    for name in ("report.json", "junit.xml"):
        assert "argument" in files[f"{CASE}/{name}"]
    everything = set().union(*files.values())
    assert {"argument", "service", "a service's own", "index", "known to Ansible only"} <= everything
    ran = planted.run("plan", CASE, *planted.arguments(), program=("-c", WITHOUT_REDACTION))
    assert {"service", "index"} <= planted.canaries.found(ran.stdout)
