"""The rules by which failures are classed: each does what its example says, none hides another."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyharness import paths
from pyharness.classification import causes, documentation, rules, scanning
from pyharness.classification.matching import Matcher
from pyharness.classification.playbooks import BY_ROLE
from pyharness.errors import UsageError
from tests.unit.test_roles_contract import ROLES

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

RULES = rules.load()
PASSING = Path(__file__).parent / "lines_of_passing_runs.txt"


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.id)
def test_a_rule_is_the_first_that_matches_its_example(rule: rules.Rule) -> None:
    for place in rule.where:
        first = RULES.match(rule.example, place)
        assert first is not None, place
        assert first.id == rule.id, place


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.id)
def test_no_example_of_a_rule_is_harmless(rule: rules.Rule) -> None:
    assert [text.id for text in RULES.harmless if text.matches(rule.example)] == []


@pytest.mark.parametrize("text", RULES.harmless, ids=lambda text: text.id)
def test_what_is_harmless_matches_its_example(text: rules.Harmless) -> None:
    assert text.matches(text.example)


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.id)
def test_a_rule_is_found_in_a_log(rule: rules.Rule, tmp_path: Path) -> None:
    place = rule.where[0]
    log = tmp_path / "it.log"
    log.write_text(f"first\n{rule.example}\nlast\n")
    harmless = RULES.harmless if place == "services" else ()
    found = scanning.scan(log, Matcher(RULES.of(place), harmless), scanning.Window(year=2026))
    assert [(entry.rule.id, entry.hits[0].line) for entry in found] == [(rule.id, 2)]


def test_no_rule_matches_what_passing_runs_of_real_engines_write(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_bytes(PASSING.read_bytes())
    matcher = Matcher(RULES.of("services"), RULES.harmless)
    assert [
        (entry.rule.id, entry.hits[0].text) for entry in scanning.scan(log, matcher, scanning.Window(year=2026))
    ] == []


def test_the_traceback_of_a_passing_run_is_caught_where_nothing_says_that_it_is_harmless(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_bytes(PASSING.read_bytes())
    found = scanning.scan(log, Matcher(RULES.of("services"), ()), scanning.Window(year=2026))
    assert "product.peer_gone" in [entry.rule.id for entry in found]


def test_every_class_has_a_rule() -> None:
    classes = {rule.class_ for rule in RULES.rules} | {entry.class_ for entry in RULES.made}
    assert classes >= {"product", "test", "infrastructure", "configuration", "unsupported", "unknown"}


def test_what_a_role_failure_is_called_is_known_and_of_its_class() -> None:
    made = {entry.id: entry.class_ for entry in RULES.made}
    for role, (class_, _hint) in BY_ROLE.items():
        assert made[f"ansible.role.{role}" if role else "ansible.playbook"] == class_
        assert not role or role in {entry.name for entry in ROLES}


def test_levels_name_rules_that_exist() -> None:
    for level in causes.levels():
        for pattern in (*level.rules, *level.explains):
            stem = pattern.removesuffix("*")
            assert any(name.startswith(stem) for name in RULES.ids), pattern


def test_ids_are_known_by_file_or_as_those_of_checks() -> None:
    assert RULES.knows("infra.disk_full")
    assert RULES.knows("check.answer_correct")
    assert not RULES.knows("infra.disk_fool")


GOOD = """\
- id: infra.disk_full
  class: infrastructure
  severity: fatal
  find: [full]
  pattern: full
  hint: empty it
  example: full
  source: nowhere
"""


def write(folder: Path, content: str) -> Path:
    for name in (*rules.FILES, "harmless", "made"):
        (folder / f"{name}.yml").write_text("[]\n")
    (folder / "product.yml").write_text(content)
    return folder


def test_rules_of_another_folder_are_read(tmp_path: Path) -> None:
    assert [rule.id for rule in rules.read(write(tmp_path, GOOD)).rules] == ["infra.disk_full"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD.replace("severity", "severe"), "product.yml: rule infra.disk_full: severity: Field required"),
        (GOOD.replace("fatal", "deadly"), "rule infra.disk_full: severity: Input should be 'fatal'"),
        (GOOD.replace("pattern: full", "pattern: '(full'"), "pattern: has to be a regular expression"),
        (GOOD.replace("infra.disk_full", "Disk Full"), "rule Disk Full: id: String should match"),
        (GOOD.replace("[full]", "[]"), "find: List should have at least 1 item"),
        (GOOD + "  more: it\n", "rule infra.disk_full: more: Extra inputs are not permitted"),
        (GOOD + GOOD, "rule infra.disk_full stands twice"),
        (GOOD + "  id: again\n", "stands twice"),
        ("it: is\n", "has to be a list"),
        ("- just words\n", "rule 1: rule: Input should be"),
        ("- [\n", "product.yml: cannot be read"),
    ],
)
def test_a_mistake_in_a_rule_is_told_with_its_place(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        rules.read(write(tmp_path, content))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"infrastructure\.yml: cannot be read"):
        rules.read(tmp_path)


def test_the_documentation_has_all_rules_as_they_are() -> None:
    text = (paths.PROJECT / "docs" / "failures.md").read_text(encoding="utf-8")
    assert text.endswith(documentation.tables() + "\n"), "python -m pyharness.classification.documentation"
