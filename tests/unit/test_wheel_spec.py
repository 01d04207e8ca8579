"""The ways to name a wheel, in the collection and on the command line."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import wheel_spec
from pyharness import wheel_source
from pyharness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "source", "value", "told"),
    [
        ("dist/demo-1.0-py3-none-any.whl", "file", "dist/demo-1.0-py3-none-any.whl", "dist/demo-1.0-py3-none-any.whl"),
        ("0.3.13.post1", "index", "0.3.13.post1", "0.3.13.post1"),
        ("1!2.0+cpu", "index", "1!2.0+cpu", "1!2.0+cpu"),
        ("artifact:123", "artifact", "123", "artifact:123"),
        (f"https://h/a/x.whl#sha256={SHA.upper()}", "url", "https://h/a/x.whl", "https://h/a/x.whl"),
        (
            f"http://h:81/x%2B1.whl?sig=abc#sha256={SHA}",
            "url",
            "http://h:81/x%2B1.whl?sig=abc",
            "http://h:81/x%2B1.whl",
        ),
    ],
)
def test_each_way_is_known(text: str, source: str, value: str, told: str) -> None:
    spec = wheel_spec.parse(text)
    assert (spec.source, spec.value, spec.told) == (source, value, told)
    assert spec.sha256 == (SHA if source == "url" else "")


def test_the_file_of_a_url_has_its_plain_name() -> None:
    assert wheel_spec.parse(f"https://h/a/x%2B1.whl?sig=a/b#sha256={SHA}").file_name == "x+1.whl"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latest", "--wheel latest: this is neither a file ending in .whl nor a version such as 0.3.13"),
        ("dir/0.3", "neither a file"),
        ("0.3 --index-url=x", "neither a file"),
        ("", "neither a file"),
        ("artifact:", "artifact: has to be followed by the id"),
        ("artifact:12a", "artifact: has to be followed by the id"),
        ("artifact:../1", "artifact: has to be followed by the id"),
        ("https://h/x.whl", "add #sha256= and the 64 digits that sha256sum FILE gives"),
        ("https://h/x.whl#sha256=12", "add #sha256="),
        ("https://h/x.whl#md5=12", "add #sha256="),
        (f"https://h/x.tar.gz#sha256={SHA}", "has to name a file ending in .whl"),
        (f"https://h/..%2Fx.whl/#sha256={SHA}", "has to name a file ending in .whl"),
        (f"https://h/a%2F..%2F.whl#sha256={SHA}", "has to name a file ending in .whl"),
        (f"ftp://h/x.whl#sha256={SHA}", "has to begin with https://"),
        (f"https:///x.whl#sha256={SHA}", "has to begin with https:// (or http://) and a host"),
        (f"https://h:port/x.whl#sha256={SHA}", "this is no URL"),
        (f"https://me:tok-SECRET@h/x.whl?tok-SECRET#sha256={SHA}", "put them into ~/.netrc"),
    ],
)
def test_what_names_no_wheel_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        wheel_source.parse(text)
    told = str(refused.value)
    assert told.startswith("--wheel ")
    assert said in told
    assert "\n" not in told
    assert "SECRET" not in told


def test_a_file_goes_to_the_playbooks_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert wheel_source.parse("x.whl").variable == str(tmp_path / "x.whl")
    assert wheel_source.parse("artifact:1").variable == "artifact:1"
    url = f"https://h/x.whl?sig=1#sha256={SHA}"
    assert (wheel_source.parse(url).variable, wheel_source.parse(url).told) == (url, "https://h/x.whl")


def test_another_wheel_than_the_one_asked_for_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(b"it")
    digest = hashlib.sha256(b"it").hexdigest()
    right = {"sha256": digest, "version": "1.0", "origin": "artifact 12 of a/b"}
    for text in (str(path), "1.0", f"https://h/x.whl#sha256={digest}", "artifact:12"):
        source = wheel_source.parse(text)
        assert source.is_deployed(**right)
        assert not source.is_deployed(sha256=SHA, version="1.0.1", origin="artifact 123 of a/b")


def test_what_is_wrong_can_be_shown_too() -> None:
    assert wheel_source.told("https://me:secret@h/x.whl?secret#secret") == "https://h/x.whl"
    assert wheel_source.told("latest") == "latest"
