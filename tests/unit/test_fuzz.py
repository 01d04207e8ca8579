"""Malformed input of every kind: exit code 2, one line that says what, where and what to do, nothing begun.

The same properties hold for a hundred examples before a merge, always the same ones, and for thousands every night.
Inventories are in test_fuzz_inventory.py.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import strategies as st

from pyharness import case, cli, paths, playbook, selection
from pyharness.verification import node_probe
from tests.unit.fuzzing import FEW_AND_MANY, fuzz, mutated, odd_text, odd_value, one_line, yaml_bytes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"
PASS = {"test_case": CASE, "status": "Pass", "timestamp": "2026-01-01T00:00:00Z"}


class Begun(BaseException):  # no error of the run's, which it would make a failure of
    """Something would have been started now: what was given is well-formed."""


def _begin(*_arguments: Any, **_options: Any) -> Any:
    raise Begun


@pytest.fixture(autouse=True)
def _starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tell whoever would begin a run or a playbook, instead of doing it."""
    monkeypatch.setattr(paths, "use_project_ansible", lambda: None)
    monkeypatch.setattr(playbook.PlaybookRunner, "run", _begin)
    monkeypatch.setattr(node_probe.Nodes, "load", _begin)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def declarations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder of declarations with one case, and markers that need no reading of the others."""
    folder = tmp_path / "vars"
    folder.mkdir()
    monkeypatch.setattr(paths, "DECLARATIONS", folder)
    monkeypatch.setattr(selection, "SUITES", folder / "suites.yml")
    (folder / "suites.yml").write_text(f"sglang: [{CASE}]\n")
    return folder


def _earlier_pass(results: Path) -> None:
    folder = results / CASE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_results.json").write_text(json.dumps(PASS))
    (folder / "report.json").write_text(json.dumps({"run_id": "earlier", "verdict": "pass"}))


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Run a command line. Returns its one line; None if what it was given is well-formed."""
    with contextlib.suppress(Begun):
        code = cli.main(arguments)
        told = capsys.readouterr()
        assert code == 2, f"{arguments}: exit code {code}"
        assert told.out == ""
        return one_line(told.err)
    capsys.readouterr()
    return None


@FEW_AND_MANY
def test_a_malformed_declaration_is_one_line_and_no_pass_stays(
    examples: int, declarations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = (paths.PLAYBOOKS / "vars" / f"{CASE}.yml").read_text(encoding="utf-8")
    document = yaml.safe_load(real)
    seen = set()

    def check(content: bytes) -> None:
        (declarations / f"{CASE}.yml").write_bytes(content)
        _earlier_pass(tmp_path / "run")
        told = _refused([CASE, "-q", "--results", str(tmp_path / "run")], capsys)
        if told is None:
            assert case.load(CASE).test_case == CASE
            return
        seen.add(told)
        assert f"{CASE}.yml: " in told
        assert json.loads((tmp_path / "run" / CASE / "test_results.json").read_text())["status"] == "Fail"

    fuzz(examples, yaml_bytes(mutated(document), real), check)
    assert len(seen) > examples / 4, "hardly anything was refused: the examples are too tame"


@FEW_AND_MANY
def test_malformed_suites_are_one_line(examples: int, declarations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = "sglang:\n  - test_1p1d_erdma\nvllm:\n  - test_1p1d_erdma\n"
    (declarations / f"{CASE}.yml").write_text((paths.PLAYBOOKS / "vars" / f"{CASE}.yml").read_text())

    def check(content: bytes) -> None:
        (declarations / "suites.yml").write_bytes(content)
        told = _refused(["--suite", "vllm", "-q"], capsys)
        assert told is None or "suites.yml: " in told or "--suite vllm: " in told

    fuzz(examples, yaml_bytes(mutated(yaml.safe_load(real)), real), check)


# Words of which command lines are made; an option may be followed by anything, also by another option.
_OPTIONS = ["-i", "--inventory", "--wheel", "--model", "--variant", "--results", "-e", "--extra-vars", "--suite", "-m"]
_OPTIONS += ["--keep", "--json", "-q", "--wheels", "--", "-", "-x", "--results=", "--inventory=", "-e="]
_SOURCES = ["latest", "x.whl", "https://", "https://h/x.whl", "http://[", "artifact:", "artifact:9999999999999999999"]
_PLACES = [".", "/", "/dev/null", "/proc/1", "/etc/passwd/x", "a" * 5000, "inventories/local/hosts.yml"]
_PAIRS = ["a", "=", "=1", "a=[", "a=2001-99-99", "a=!!int ''", "a=" + "9" * 5000, "a=" + "[" * 2000, "é=1", "a=\t"]
_PAIRS += ["a: 1", "class=1", "a=!!python/object:os.system x", "a=*b", "a=&b *b", "@file", "a=!vault |\n 1"]
_EXPRESSIONS = [
    "e2e and",
    "(" * 3000,
    "not " * 5000 + "e2e",
    "e2e if x else y",
    "lambda: 1",
    "e2e\x0bor",
    "𝕖2e",  # noqa: RUF001 (what looks like the marker and is another text)
    "e2e;",
]
_NAMES = ["test_1p1d_edrma", "../vars/suites", "suites", "test_", "a" * 300, "/etc/passwd", "test_1p1d_erdma/", "."]
_WORDS = st.sampled_from([*_SOURCES, *_PLACES, *_PAIRS, *_EXPRESSIONS, *_NAMES, *_OPTIONS, CASE])


@FEW_AND_MANY
def test_a_malformed_command_line_is_one_line_and_no_pass_stays(
    examples: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = set()

    def check(words: list[str]) -> None:
        _earlier_pass(tmp_path / "run")
        told = _refused([CASE, *words, "-q"], capsys)
        if told is not None:
            seen.add(told)
        if told is not None and not any(word.startswith("--results") for word in words):
            assert json.loads((tmp_path / "run" / CASE / "test_results.json").read_text())["status"] == "Fail", words

    fuzz(examples, st.lists(_WORDS | odd_text(), min_size=1, max_size=4), check)
    assert len(seen) > examples / 3, "hardly anything was refused: the examples are too tame"


@FEW_AND_MANY
@pytest.mark.parametrize("option", ["-e", "-m", "--wheel", "--model", "--variant", "--results", "-i", "--suite"])
def test_a_malformed_value_is_one_line(option: str, examples: int, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"-e": _PAIRS, "-m": _EXPRESSIONS, "--wheel": _SOURCES}.get(option, [*_PLACES, *_NAMES])
    name = [] if option in ("-m", "--suite") else [CASE]
    both = st.sampled_from(values) | odd_text() | st.builds("".join, st.lists(st.sampled_from(values), max_size=3))
    if option == "-e":
        both |= odd_value().map(lambda value: f"a={yaml.safe_dump(value)}") | odd_text().map("a={}".format)
    fuzz(examples // 4, both, lambda value: _refused([*name, option, value, "-q"], capsys))


@pytest.mark.pre_merge
@pytest.mark.parametrize("verb", sorted(cli._VERBS))
def test_no_verb_takes_what_it_does_not_know(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = _refused([verb, "--no-such-option"], capsys)
    assert told is not None
    assert f"pyharness {verb} --help" in told
