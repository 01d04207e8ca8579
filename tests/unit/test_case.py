"""Declarations of test cases: what is wrong with one is said in one line that names file and key."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyharness import case, paths
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

RIGHT: dict[str, Any] = {
    "test_case": "test_it",
    "title": "A test case",
    "engine": "sglang",
    "nodes": ["prefill_nodes", "decode_nodes"],
    "models": ["org/model"],
    "gpus": {"tensor_parallel": 2, "first": 6},
    "transport": "rdma",
    "ports": {"server": 30001},
    "request": {"path": "/generate", "json": {"text": "Once"}, "timeout_seconds": 30},
    "reference": "single_engine",
    "markers": ["nightly", "e2e", "gpu_0"],
}


def load(folder: Path, document: Any) -> case.TestCase:
    """Load a document, or a text, as the test case test_it."""
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    (folder / "test_it.yml").write_text(text, encoding="utf-8")
    return case.load("test_it", folder)


def changed(key: str, value: Any) -> dict[str, Any]:
    """Return a right declaration with one key changed; a dot leads into a mapping."""
    document = copy.deepcopy(RIGHT)
    *way, last = key.split(".")
    place = document
    for part in way:
        place = place[part]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("markers", "lacks"),
    [(["e2e", "gpu_0"], "lifecycle"), (["nightly", "gpu_0"], "type"), (["nightly", "e2e"], "hardware")],
)
def test_a_marker_of_each_kind_is_needed(tmp_path: Path, markers: list[str], lacks: str) -> None:
    with pytest.raises(UsageError, match=rf"test_it\.yml: markers: has to have one of .+ \({lacks}\)"):
        load(tmp_path, changed("markers", markers))


def test_two_stages_are_one_too_many(tmp_path: Path) -> None:
    markers = ["nightly", "e2e", "gpu_0", "post_merge"]
    with pytest.raises(UsageError, match="markers: has to have the earliest stage alone, which is post_merge"):
        load(tmp_path, changed("markers", markers))


def test_a_right_one_is_read(tmp_path: Path) -> None:
    loaded = load(tmp_path, RIGHT)
    assert loaded.prompt == "Once"
    assert loaded.gpus.first == 6
    assert loaded.asked.body == {"text": "Once"}


def test_all_declarations_of_this_project_are_right() -> None:
    assert "test_1p1d_erdma" in case.names()
    for name in case.names():
        assert case.load(name).test_case == name


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("zzzzzz", 3, "zzzzzz: no such key (there is: test_case, title, engine,"),
        ("transport", "rmda", "transport: input should be 'rdma' or 'tcp', not 'rmda'"),
        ("nodes", [], "nodes: list should have at least 1 item"),
        ("gpus.tensor_parallel", "two", "gpus.tensor_parallel: input should be a valid integer"),
        ("gpus", 2, "gpus: input should be"),
        ("request.path", "generate", "request.path: string should match pattern"),
        ("request.timeout_seconds", 0, "request.timeout_seconds: input should be greater than 0"),
        ("ports.server", "http", "ports.server: has to be the number of a port, or leased, not 'http'"),
        ("test_case", "test_other", "test_case is 'test_other' and has to be the file's name, 'test_it'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, key: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, changed(key, value))
    assert str(caught.value).startswith(f"{tmp_path / 'test_it.yml'}: {said}")


@pytest.mark.parametrize(
    ("key", "typo", "said"),
    [
        ("models", "modles", "modles: no such key; did you mean models?"),
        ("request.timeout_seconds", "timeout_second", "request.timeout_second: no such key; did you mean timeout_"),
        ("request.json", "jsn", "request.jsn: no such key; did you mean json?"),
        ("gpus.tensor_parallel", "tensorparallel", "gpus.tensorparallel: no such key; did you mean tensor_parallel?"),
    ],
)
def test_a_typo_in_a_key_gets_the_nearest(tmp_path: Path, key: str, typo: str, said: str) -> None:
    document = copy.deepcopy(RIGHT)
    *way, last = key.split(".")
    place = document[way[0]] if way else document
    place[typo] = place.pop(last)
    with pytest.raises(UsageError) as caught:
        load(tmp_path, document)
    assert str(caught.value).startswith(f"{tmp_path / 'test_it.yml'}: {said}")


@pytest.mark.parametrize("key", RIGHT)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match=rf"test_it\.yml: {key}: is missing"):
        load(tmp_path, {name: value for name, value in RIGHT.items() if name != key})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: a\ntitle: b\n", "key 'title' stands twice"),
        ("gpus: {first: 1, first: 2}\n", "key 'first' stands twice"),
        ("1: a\n", "key 1 is no text"),
        ("[1, 2", "no valid YAML"),
        ("- a\n", "has to be a mapping of keys to values"),
        ("", "has to be a mapping of keys to values"),
        ("a: 2001-99-99\n", "no valid YAML"),
        ("!!map text", "no valid YAML"),
        ("a: !!int ''", "no valid YAML"),
        ("a: !!timestamp x", "no valid YAML"),
        ("a: " + "9" * 5000, "no valid YAML"),
        ("[" * 600, "no valid YAML"),
        ("a: !!python/object:os.system x", "no valid YAML"),
        ("test_case: 0x" + "f" * 5000, "test_case: input should be a valid string, not a number that long"),
        ('"a\\nb": 1', "a b: no such key"),
    ],
)
def test_what_is_no_declaration_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    told = str(caught.value)
    assert "\n" not in told
    assert str(tmp_path / "test_it.yml") in told
    assert said in told


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_it.yml").write_bytes(b"\x7fELF\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"test_it\.yml: cannot be read: 'utf-8' codec"):
        case.load("test_it", tmp_path)


def test_a_name_that_is_not_there_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="no test case is called test_1p1d_edrma; did you mean test_1p1d_erdma"):
        case.load("test_1p1d_edrma")


def test_a_name_longer_than_a_file_name_may_be_is_refused() -> None:
    with pytest.raises(UsageError, match="File name too long"):
        case.load("a" * 300)


def test_only_test_cases_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("test_b", "test_a", "bench_c", "chaos_d", "helper"):
        (tmp_path / f"{name}.yml").touch()
    monkeypatch.setattr(paths, "DECLARATIONS", tmp_path)
    assert case.names() == ["bench_c", "chaos_d", "test_a", "test_b"]


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
# Mostly the right keys: with arbitrary ones nothing but the first check would ever be met.
_DOCUMENTS = st.dictionaries(st.sampled_from(sorted(RIGHT)) | st.text(max_size=6), _VALUES, max_size=4)
_ONCE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(folder: Path, text: str) -> None:
    """Load a text, and see that it is a test case or an error of one line that names the file."""
    (folder / "test_it.yml").write_text(text, encoding="utf-8", newline="")
    try:
        loaded = case.load("test_it", folder)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 (either outcome is right; this is what one is like)
        assert "test_it.yml" in str(error)  # noqa: PT017
    else:
        assert isinstance(loaded, case.TestCase)


@_ONCE
@given(document=_DOCUMENTS)
def test_any_mapping_is_a_test_case_or_one_line(tmp_path: Path, document: dict[str, Any]) -> None:
    outcome(tmp_path, yaml.safe_dump({**RIGHT, **document}, allow_unicode=True))


@_ONCE
@given(text=st.text(st.characters(codec="utf-8")) | st.text(alphabet="[]{}:,-!&*?|>'\"%@ \n\tab01", max_size=40))
def test_any_text_is_a_test_case_or_one_line(tmp_path: Path, text: str) -> None:
    outcome(tmp_path, text)


def varied(**changes: Any) -> dict[str, Any]:
    variants = [{"name": "one", "set": {"layout": "page_first"}}, {"name": "two", "models": [RIGHT["models"][0]]}]
    return {**copy.deepcopy(RIGHT), "variants": variants, **changes}


def test_each_model_is_tried_in_each_variant_that_takes_it(tmp_path: Path) -> None:
    declared = load(
        tmp_path, varied(models=["org/a", "org/b"], variants=[{"name": "x"}, {"name": "y", "models": ["org/a"]}])
    )
    assert [str(trial) for trial in declared.trials()] == ["org/a [x]", "org/a [y]", "org/b [x]"]
    assert [trial.slug for trial in declared.trials(["org/a"], ["y"])] == ["org__a.y"]
    assert declared.trials(["org/b"], ["y"]) == []


def test_a_variant_with_no_models_serves_none_of_the_cases(tmp_path: Path) -> None:
    declared = load(tmp_path, varied(models=["org/a", "org/b"], variants=[{"name": "x", "models": []}, {"name": "y"}]))
    assert [str(trial) for trial in declared.trials()] == ["org/a [y]", "org/b [y]", "[x]"]
    (alone,) = declared.trials(variants=["x"])
    assert (alone.model, alone.slug) == (None, "x")
    assert [str(trial) for trial in declared.trials(["org/a"])] == ["org/a [y]"]


def test_a_case_without_models_and_variants_is_one_trial(tmp_path: Path) -> None:
    document = {key: value for key, value in RIGHT.items() if key not in ("request", "reference")}
    (trial,) = load(tmp_path, {**document, "models": []}).trials()
    assert (trial.model, trial.variant, str(trial), trial.slug) == (None, None, "services", "services")


def test_a_verification_that_sends_what_is_not_declared_is_told_so(tmp_path: Path) -> None:
    document = {key: value for key, value in RIGHT.items() if key not in ("request", "reference")}
    declared = load(tmp_path, document)
    assert declared.prompt == ""
    with pytest.raises(UsageError, match="request: is missing"):
        _ = declared.asked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variants: a stands twice"),
        ({"variants": [{"name": "A b"}]}, "variants.0.name: string should match pattern"),
        ({"variants": [{"name": "a", "model": ["x"]}]}, "variants.0.model: no such key; did you mean models?"),
        ({"variants": [{"name": "a", "models": ["org/none"]}]}, "variants.a.models: org/none is not one of models"),
        (
            {"variants": [{"name": "a", "unsupported": {"platform": "cpu", "refusal": "(", "reason": "x"}}]},
            "variants.0.unsupported.refusal: has to be a regular expression",
        ),
        (
            {"variants": [{"name": "a", "expected_failure": {"chek": "x"}}]},
            "variants.0.expected_failure.chek: no such key; did you mean check?",
        ),
        ({"reference": "pattern"}, "request.pattern: is missing, and reference is pattern"),
    ],
)
def test_a_mistake_in_what_varies_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, {**copy.deepcopy(RIGHT), **changes})
    assert str(caught.value).startswith(f"{tmp_path / 'test_it.yml'}: {said}")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"reason": "so"}, "allowed_log_lines: each entry has either rule or pattern"),
        ({"rule": "infra.disk_full", "pattern": "x", "reason": "so"}, "each entry has either rule or pattern"),
        ({"rule": "infra.disk_full"}, "allowed_log_lines.0.reason: is missing"),
        (
            {"rule": "infra.disk_fool", "reason": "so"},
            "rule: has to be the id of a rule; did you mean infra.disk_full?",
        ),
        ({"pattern": "(", "reason": "so"}, "allowed_log_lines.0.pattern: has to be a regular expression"),
        ({"rul": "infra.disk_full", "reason": "so"}, "allowed_log_lines.0.rul: no such key; did you mean rule?"),
    ],
)
def test_a_line_is_allowed_in_one_way_and_with_a_reason(tmp_path: Path, entry: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, changed("allowed_log_lines", [entry]))
    assert said in str(caught.value)


def test_a_line_that_is_allowed_is_read(tmp_path: Path) -> None:
    (entry,) = load(
        tmp_path, changed("allowed_log_lines", [{"rule": "infra.disk_full", "reason": "so"}])
    ).allowed_log_lines
    assert (entry.rule, entry.pattern, entry.reason) == ("infra.disk_full", None, "so")
