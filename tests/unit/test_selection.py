"""Which test cases a run takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyharness import case as cases
from pyharness import selection
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

DECLARED = {
    "test_a": (["pre_merge", "e2e", "gpu_0", "mooncake"], []),
    "test_b": (["nightly", "e2e", "gpu_2", "sglang"], ["org/one", "org/two"]),
    "test_c": (["nightly", "e2e", "gpu_2", "vllm"], ["org/one"]),
    "test_d": (["weekly", "stress", "gpu_0", "mooncake"], []),
}


@pytest.fixture(autouse=True)
def _declared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let four test cases be declared, and three of them be in suites."""
    whole = cases.load("test_1p1d_erdma")

    def load(name: str) -> cases.TestCase:
        if name not in DECLARED:
            raise UsageError(f"no test case is called {name}")
        markers, models = DECLARED[name]
        return whole.model_copy(update={"test_case": name, "markers": markers, "models": models})

    monkeypatch.setattr(cases, "names", lambda: sorted(DECLARED))
    monkeypatch.setattr(cases, "load", load)
    monkeypatch.setattr(selection, "SUITES", tmp_path / "suites.yml")
    selection._known_markers.cache_clear()
    write(tmp_path, "sglang: [test_c, test_a, test_b]\nmooncake: [test_a]\n")


def write(folder: Path, text: str) -> None:
    (folder / "suites.yml").write_text(text)


def test_a_suite_keeps_its_order() -> None:
    assert selection.select((), "sglang", None) == ["test_c", "test_a", "test_b"]


def test_all_has_each_once_and_ends_with_those_of_no_suite() -> None:
    assert selection.select((), "all", None) == ["test_c", "test_a", "test_b", "test_d"]


@pytest.mark.parametrize(
    ("expression", "taken"),
    [
        ("pre_merge and gpu_0", ["test_a"]),
        ("gpu_0", ["test_a", "test_d"]),
        ("not gpu_0", ["test_c", "test_b"]),
        ("nightly and not (vllm or mooncake)", ["test_b"]),
        ("nightly\nor vllm", ["test_c", "test_a", "test_b"]),
        ("pre_merge", ["test_a"]),
        ("post_merge", ["test_a"]),
        ("weekly and not nightly", ["test_d"]),
        ("release", ["test_c", "test_a", "test_b", "test_d"]),
    ],
)
def test_markers_choose_among_all(expression: str, taken: list[str]) -> None:
    assert selection.select((), None, expression) == taken


def test_markers_choose_among_a_suite() -> None:
    assert selection.select((), "sglang", "gpu_2") == ["test_c", "test_b"]


def test_names_count_as_often_as_they_are_named_and_before_the_suite() -> None:
    assert selection.select(["test_b", "test_b"], None, None) == ["test_b", "test_b"]
    assert selection.select(["test_b"], "mooncake", None) == ["test_b", "test_a"]


def test_of_a_suite_a_model_chooses_those_that_declare_it() -> None:
    assert selection.select((), "sglang", None, ["org/two"]) == ["test_b"]
    assert selection.select(["test_a"], None, None, ["org/two"]) == ["test_a"]


@pytest.mark.parametrize(
    "expression",
    [
        "gpu_0 and",
        "gpu_0(1)",
        "1",
        "'gpu_0'",
        "gpu_0 == e2e",
        "gpu_0 if e2e else slow",
        "x" * 99999 + "(",
        "",
        "__import__",
    ],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(UsageError, match=r"^-m "):
        selection.select((), None, expression)


def test_a_marker_that_nobody_has_is_refused() -> None:
    with pytest.raises(UsageError, match="gpu0 is no marker of any test case; there are: benchmark, e2e"):
        selection.select((), None, "gpu0 and e2e")


def test_nothing_left_is_refused() -> None:
    with pytest.raises(UsageError, match="--suite mooncake -m 'gpu_2': no test case is left"):
        selection.select((), "mooncake", "gpu_2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sglang: test_a\n", "has to be a mapping of suites to lists"),
        ("- test_a\n", "has to be a mapping of suites to lists"),
        ("sglang: [test_z]\n", "sglang: test_z is no test case"),
        ("all: [test_a]\n", "all: all is made of the others"),
        ("sglang: [\n", "cannot be read"),
    ],
)
def test_a_mistake_in_the_suites_is_named(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(UsageError, match=said):
        selection.suites()
