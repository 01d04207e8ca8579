"""What every role, playbook and test case has to be like, read from the files themselves."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pyharness import case as cases
from pyharness import paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ROLES = sorted(path for path in (paths.COLLECTION / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted(paths.PLAYBOOKS.glob("*.yml"))
PLAYED = PLAYBOOKS + sorted((paths.PLAYBOOKS / "tasks").glob("*.yml"))
TASK_FILES = [path for role in ROLES for path in sorted((role / "tasks").glob("*.yml"))]
ENTRY_POINTS = ("main", "validate", "stop")
COMMANDS = ("command", "shell", "raw", "script")

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
each_task_file = pytest.mark.parametrize(
    "path", TASK_FILES, ids=[f"{path.parent.parent.name}-{path.stem}" for path in TASK_FILES]
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield all tasks of a file, those in blocks too."""
    todo = list(load(path) or [])
    while todo:
        task = todo.pop(0)
        yield task
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
            todo += task.get(part, [])


def options_of(role: Path) -> dict[str, dict[str, Any]]:
    """Return the options of all entry points together."""
    options: dict[str, dict[str, Any]] = {}
    for entry in load(role / "meta" / "argument_specs.yml")["argument_specs"].values():
        options |= entry.get("options", {})
    return options


def commented_out(role: Path) -> set[str]:
    """Return the variables that stand commented out in a role's defaults."""
    text = (role / "defaults" / "main.yml").read_text(encoding="utf-8")
    return set(re.findall(r"^# (\w+): ", text, re.MULTILINE))


def sources(role: Path) -> list[Path]:
    """Return a role's own files in which Ansible finds variables."""
    folders = ("tasks", "templates", "vars", "handlers", "defaults")
    return [path for name in folders for path in sorted((role / name).rglob("*")) if path.is_file()]


def test_there_are_roles_to_look_at() -> None:
    assert {"node", "service", "sglang_server", "pd_router", "deployment"} <= {role.name for role in ROLES}
    assert len(TASK_FILES) >= 3 * len(ROLES)


@each_role
def test_a_role_has_its_entry_points_and_readme(role: Path) -> None:
    for entry in ENTRY_POINTS:
        assert (role / "tasks" / f"{entry}.yml").is_file(), f"{role.name} lacks tasks/{entry}.yml"
    assert (role / "README.md").is_file(), f"{role.name} lacks README.md"


@each_role
def test_defaults_are_those_of_the_argument_specs(role: Path) -> None:
    specified = {name: option["default"] for name, option in options_of(role).items() if not option.get("required")}
    assert (load(role / "defaults" / "main.yml") or {}) == specified


@each_role
def test_required_variables_stand_commented_out_in_the_defaults(role: Path) -> None:
    assert commented_out(role) == {name for name, option in options_of(role).items() if option.get("required")}


@each_role
def test_an_option_says_its_type_and_what_it_is(role: Path) -> None:
    for name, option in options_of(role).items():
        assert option.get("type"), f"{name} has no type"
        assert option.get("description"), f"{name} has no description"


@each_role
def test_entry_points_that_share_an_option_agree_on_it(role: Path) -> None:
    seen: dict[str, Any] = {}
    for entry in load(role / "meta" / "argument_specs.yml")["argument_specs"].values():
        for name, option in entry.get("options", {}).items():
            forms = {key: option.get(key) for key in ("type", "elements", "default", "choices")}
            assert seen.setdefault(name, forms) == forms, f"{name} differs between entry points"


@each_role
def test_variables_carry_the_roles_name(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in options_of(role))
    for path in sorted((role / "vars").rglob("*.yml")):
        assert all(name.startswith(f"__{role.name}_") for name in load(path) or {}), f"{path}: internal names only"


@each_role
def test_what_a_role_sets_carries_its_name(role: Path) -> None:
    for path in sorted((role / "tasks").glob("*.yml")):
        for task in tasks_of(path):
            facts = task.get("ansible.builtin.set_fact", {})
            names = [name for name in facts if name != "cacheable"] + ([task["register"]] if "register" in task else [])
            wrong = [name for name in names if not name.startswith((f"{role.name}_", f"__{role.name}_"))]
            assert not wrong, f"{path}: {task['name']}: {', '.join(wrong)}"


@pytest.mark.parametrize("path", TASK_FILES + PLAYED, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_a_role_that_is_not_asked_to_check_its_arguments_is_given_the_right_ones(path: Path) -> None:
    """With rolespec_validate off, because it takes its time or the caller's own were checked: it is looked at here."""
    for task in tasks_of(path):
        included = task.get("ansible.builtin.import_role") or task.get("ansible.builtin.include_role") or {}
        if included.get("rolespec_validate", True):
            continue
        callee = paths.COLLECTION / "roles" / included["name"].removeprefix("disagg.e2e.")
        options = load(callee / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
        required = {name for name, option in options.items() if option.get("required")}
        # Playbooks have variables of their own beside.
        given = {name for name in task["vars"] if not name.startswith("disagg_")}
        assert required <= given <= set(options), f"{path}: {task['name']}"


@each_role
def test_a_role_uses_no_internals_of_another(role: Path) -> None:
    for path in sources(role):
        internals = set(re.findall(r"\b__[a-z]\w*", path.read_text(encoding="utf-8")))
        wrong = {name for name in internals if not name.startswith(f"__{role.name}_")}
        assert not wrong, f"{path}: {', '.join(sorted(wrong))}"


@each_role
def test_a_role_knows_no_groups(role: Path) -> None:
    """Playbooks pass peers. The deployment's own document is about all nodes, and its template may look at them."""
    for path in sources(role):
        if role.name == "deployment" and path.suffix == ".j2":
            continue
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"\bgroups\[|\bgroups\.|\bhostvars\b|\bgroup_names\b|^\s*-?\s*hosts:", text, re.MULTILINE)
        assert not found, f"{path}: {found}"


@each_task_file
def test_a_tasks_name_begins_with_its_files(path: Path) -> None:
    prefix = f"{path.stem.capitalize()} | "
    for task in tasks_of(path):
        assert str(task.get("name", "")).startswith(prefix), f"{path}: {task.get('name')}"


@each_task_file
def test_modules_go_by_their_full_names(path: Path) -> None:
    for task in tasks_of(path):
        modules = [key for key in task if "." in key]
        assert len(modules) == 1 or "block" in task, f"{path}: {task['name']}: {sorted(task)}"


@each_role
def test_validate_changes_nothing(role: Path) -> None:
    path = role / "tasks" / "validate.yml"
    for task in tasks_of(path):
        includes = task.get("ansible.builtin.include_role", {})
        if includes:
            assert includes.get("tasks_from") == "validate", f"{path}: {task['name']}"
        changing = {"copy", "file", "template", "apt", "package", "user", "systemd", "service"}
        assert not changing & {key.rpartition(".")[2] for key in task}, f"{path}: {task['name']} may change something"


@pytest.mark.parametrize("path", TASK_FILES + PLAYBOOKS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_a_command_says_when_it_changes_something(path: Path) -> None:
    for task in tasks_of(path):
        if any(f"ansible.builtin.{name}" in task or name in task for name in COMMANDS):
            assert "changed_when" in task, f"{path}: {task['name']}"


@pytest.mark.parametrize("path", TASK_FILES + PLAYBOOKS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_nothing_sleeps(path: Path) -> None:
    text = re.sub(r"^\s*#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not re.search(r"\bsleep\b|\bpause:|ansible\.builtin\.pause", text), f"{path}: wait for a condition instead"


@pytest.mark.parametrize("name", cases.names())
def test_a_test_case_has_all_that_goes_by_its_name(name: str) -> None:
    assert (paths.PLAYBOOKS / f"{name}.yml").is_file()
    verification = paths.PROJECT / "pyharness" / "verification" / f"{name}.py"
    assert verification.is_file()
    module = importlib.import_module(f"pyharness.verification.{name}")
    assert callable(module.verify)
    assert callable(module.exercise)
    assert module.CHECKS


@pytest.mark.parametrize("folder", [paths.PLAYBOOKS, paths.PROJECT / "pyharness" / "verification"])
def test_what_goes_by_a_test_cases_name_is_declared(folder: Path) -> None:
    named = {path.stem for path in folder.iterdir() if path.is_file() and path.stem.startswith(cases.CASE_PREFIXES)}
    assert named <= set(cases.names())


@pytest.mark.parametrize("name", cases.names())
def test_a_test_case_is_marked_like_a_test(name: str) -> None:
    markers = set(cases.load(name).markers)
    assert markers & set(cases.LIFECYCLES), "one says when it runs"
    assert markers & set(cases.TYPES), "one says what kind of test it is"
    assert any(re.fullmatch(r"gpu_[01248]", marker) for marker in markers), "one says what hardware it needs"


@pytest.mark.parametrize("name", cases.names())
def test_a_declaration_is_data_only(name: str) -> None:
    text = (paths.DECLARATIONS / f"{name}.yml").read_text(encoding="utf-8")
    assert "{{" not in text
    assert "{%" not in text


@pytest.mark.parametrize("name", cases.names())
def test_a_test_case_deploys_on_the_groups_that_it_declares(name: str) -> None:
    deploys = [play for play in load(paths.PLAYBOOKS / f"{name}.yml") if "deploy" in play.get("tags", [])]
    groups = cases.load(name).nodes
    assert deploys[0]["name"] == "Deploy", "where the harness tells provisioning and deploying apart"
    assert deploys[0]["hosts"].split(":") == groups
    assert {host.partition("[")[0] for play in deploys for host in play["hosts"].split(":")} == set(groups)
