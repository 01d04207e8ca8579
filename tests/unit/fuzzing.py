"""What malformed input is made of, and how its tests are run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

_FEW = 100
_MANY = 3000
FEW_AND_MANY = pytest.mark.parametrize(
    "examples", [pytest.param(_FEW, marks=pytest.mark.pre_merge), pytest.param(_MANY, marks=pytest.mark.nightly)]
)


def fuzz(examples: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], object]) -> None:
    """Check a property of examples: before a merge always of the same, every night of others.

    Args:
        examples: how many.
        strategy: makes them.
        check: raises AssertionError where the property does not hold.
    """

    @settings(
        max_examples=examples,
        derandomize=examples <= _FEW,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def hold(example: Any) -> None:
        check(example)

    hold()


def one_line(told: str) -> str:
    """Check that a text is one line for a person, and return it."""
    assert told.startswith("error: "), told
    assert told.endswith("\n")
    assert len(told.splitlines()) == 1, told
    assert "Traceback" not in told
    assert len(told) < 12000, "a line that nobody reads to its end"
    assert len(told) > len("error: 12345"), told
    return told


def odd_text() -> st.SearchStrategy[str]:
    """Return texts as an argument of a program can be: any but NUL, also bytes that are no UTF-8."""
    letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    bytes_in_it = st.binary(min_size=1, max_size=6).map(
        lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape")
    )
    return st.text(letters, max_size=12) | st.text("[]{}:,-!&*?|>'\"%@ \n\t=()", max_size=12) | bytes_in_it


def odd_value() -> st.SearchStrategy[Any]:
    """Return values of every type that YAML has, and sizes that nobody expects."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from(
            [10**400, -(10**30), 1e400, float("nan"), "x" * 10000, "\u202e\u0000\ud83d"[:1], "{{ nowhere }}"]
        )
        | st.floats()
        | st.text(max_size=8)
        | st.binary(max_size=8)
        | st.dates()
    )
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    )


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """Return a document with one to three things in it wrong: a key less, more or of another name, another value."""
    result = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = [place for place in _mappings(result) if place]
        if not places:
            return result
        place = draw(st.sampled_from(range(len(places))))
        mapping = places[place]
        key = draw(st.sampled_from(sorted(mapping, key=str)))
        what = draw(st.sampled_from(("drop", "rename", "value", "add", "wrap", "null")))
        if what == "drop":
            del mapping[key]
        elif what == "rename":
            mapping[draw(_renamed(str(key)))] = mapping.pop(key)
        elif what == "value":
            mapping[key] = draw(odd_value())
        elif what == "add":
            mapping[draw(st.text(max_size=6) | st.integers() | st.none())] = draw(odd_value())
        elif what == "wrap":
            mapping[key] = [mapping[key]]
        else:
            mapping[key] = None
    return result


def _mappings(value: Any) -> list[dict[Any, Any]]:
    if isinstance(value, dict):
        return [value, *(inner for part in value.values() for inner in _mappings(part))]
    return [inner for part in value for inner in _mappings(part)] if isinstance(value, list) else []


def _renamed(key: str) -> st.SearchStrategy[str]:
    return st.sampled_from([key[:-1], key + "s", key.upper(), key.replace("_", "-"), f" {key}", key[::-1], f"{key}\n"])


def yaml_bytes(documents: st.SearchStrategy[Any], real: str) -> st.SearchStrategy[bytes]:
    """Return files: documents written down, a real file damaged, YAML's rarer parts, and anything.

    Args:
        documents: makes what is written as YAML.
        real: a right file.
    """
    written = documents.map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"))
    lines = real.splitlines(keepends=True)
    cut = st.integers(0, len(real) - 1).map(lambda at: real[:at].encode())
    doubled = st.sampled_from(lines).map(lambda line: (real + line).encode())
    dropped = st.sampled_from(range(len(lines))).map(lambda at: "".join(lines[:at] + lines[at + 1 :]).encode())
    indented = st.sampled_from(range(len(lines))).map(lambda at: "".join([*lines[:at], " \t", *lines[at:]]).encode())
    rare = st.sampled_from(
        [
            b"a: &a [*a]\n",
            b"&a {a: *a}\n",
            b"<<: [1]\n",
            b"<<: *x\n",
            b"--- 1\n--- 2\n",
            b"%YAML 9.9\n---\na: 1\n",
            b"!!python/object/apply:os.system [id]\n",
            b"a: !!binary \xff\n",
            b"a: !!timestamp x\n",
            b"? [1]\n: 2\n",
            b"{{ a }}: 1\n",
            b"a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  00\n",
            b"a: !unsafe '{{ x }}'\n",
            b"\xef\xbb\xbf" + real.encode(),
            real.encode("utf-16"),
            real.replace("\n", "\r").encode(),
            (real + "\nzz: " + "[" * 1500).encode(),
            (real + "\nzz: " + "9" * 5000).encode(),
            b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n",
            b"",
            b"\0",
            b"...",
        ]
    )
    replaced = st.tuples(st.sampled_from(range(len(lines))), st.text(max_size=20)).map(
        lambda pair: "".join([*lines[: pair[0]], pair[1], "\n", *lines[pair[0] + 1 :]]).encode("utf-8", "surrogatepass")
    )
    return st.one_of(written, written, cut, doubled, dropped, indented, rare, replaced, st.binary(max_size=60))
