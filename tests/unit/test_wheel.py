"""The Mooncake that processes have loaded against the wheel that was asked for."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.errors import UsageError
from pyharness.verification.base import CheckFailed
from pyharness.verification.wheel import read_wheel, wheel_in_use
from tests.unit.builders import FakeNodes, make_deployment, make_service, make_trial, write_wheel

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.mooncake]

ENGINE = b"\x7fELF engine"
FILES = {"mooncake/engine.so": ENGINE, "mooncake/__init__.py": b""}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def loaded(path: str = "/overlay/mooncake/engine.so", content: bytes | None = ENGINE) -> dict[str, Any]:
    return {"path": path, "pids": [101], "deleted": content is None, "sha256": content and digest(content)}


def nodes(
    prefill: list[dict[str, Any]], decode: list[dict[str, Any]], module: bytes = FILES["mooncake/__init__.py"]
) -> FakeNodes:
    files = {"/overlay/mooncake/__init__.py": digest(module)}
    one = {"services": {"prefill": {"libraries": prefill}}, "files": files}
    return FakeNodes({"one": one, "two": {"services": {"decode": {"libraries": decode}}, "files": files}})


def check(wheel: Path, found: FakeNodes, asked: str | None = None, **changes: Any) -> dict[str, Any]:
    entry = {"file": str(wheel), "sha256": digest(wheel.read_bytes()), "version": "1.0", "source": "file"}
    deployment = make_deployment(wheel={**entry, "package": "demo", "directory": "/overlay"}, **changes)
    return wheel_in_use(make_trial(found, deployment, asked))


def refused(wheel: Path, found: FakeNodes, asked: str | None = None, **changes: Any) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        check(wheel, found, asked, **changes)
    assert caught.value.spoils_judgement, "nothing follows for the wheel that was asked for"
    return caught.value


def test_a_wheel_tells_name_version_and_files(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, FILES, version="0.3.13.post1")
    facts = read_wheel(path)
    assert (facts.name, facts.version) == ("demo", "0.3.13.post1")
    assert facts.sha256 == digest(path.read_bytes())
    assert facts.files["mooncake/engine.so"] == digest(ENGINE)
    assert not any(name.endswith("/RECORD") for name in facts.files)


def write_broken(folder: Path, **entries: bytes) -> Path:
    path = folder / "broken.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"demo-1.0.dist-info/{name}", data)
    return path


def test_a_wheel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.whl: there is no such file; give a wheel's path or a version"):
        read_wheel(tmp_path / "none.whl")


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.whl"
    text.write_text("no archive")
    half = tmp_path / "half.whl"
    half.write_bytes(write_wheel(tmp_path, FILES).read_bytes()[:100])
    for path in (text, half, tmp_path):
        with pytest.raises(UsageError, match=r"this is not a wheel \(.+\)") as caught:
            read_wheel(path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"METADATA": b"Name: demo"},
        {"METADATA": b"\xff\xfe", "RECORD": b""},
        {"METADATA": b"Name: demo", "RECORD": b"too,few\n"},
        {"METADATA": b"Name: demo", "RECORD": b"a,sha256=x,1\n"},
    ],
    ids=["empty", "no RECORD", "binary METADATA", "short RECORD", "no digest"],
)
def test_an_archive_that_is_no_wheel_is_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    with pytest.raises(UsageError, match=r"this is not a wheel \(.+\)"):
        read_wheel(write_broken(tmp_path, **entries))


def test_the_wheels_own_files_are_right(tmp_path: Path) -> None:
    found = nodes([loaded()], [loaded("/other/node/overlay/mooncake/engine.so")])
    evidence = check(write_wheel(tmp_path, FILES), found)
    assert evidence["prefill"] == [{"path": "/overlay/mooncake/engine.so", "sha256": digest(ENGINE)}]
    assert evidence["version"] == "1.0"
    assert [service.kind for service in found.asked[0]["services"]] == ["prefill", "decode"]
    # On the second node it lies elsewhere: there it is compared, and not where it was unpacked to here.
    assert found.asked[1]["files"]["two"] == {"/other/node/overlay/mooncake/__init__.py": 102}


def test_a_changed_python_file_beside_the_right_libraries_is_refused(tmp_path: Path) -> None:
    found = nodes([loaded()], [loaded()], module=b"print('changed')")
    failure = refused(write_wheel(tmp_path, FILES), found)
    assert "/overlay/mooncake/__init__.py on one is not the file of that name in demo 1.0" in str(failure)
    seen_by = {"one": 101, "two": 102}
    assert found.asked[0]["files"] == {node: {"/overlay/mooncake/__init__.py": pid} for node, pid in seen_by.items()}


@pytest.mark.parametrize(
    "entry",
    [
        loaded(content=b"\x7fELF another build"),
        loaded(content=None),
        loaded("/site-packages/mooncake/store.so"),
        loaded("/overlay/xmooncake/engine.so"),
    ],
    ids=["other content", "replaced on disk", "not in the wheel", "a longer name"],
)
def test_a_library_of_another_wheel_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    failure = refused(write_wheel(tmp_path, FILES), nodes([loaded()], [loaded(), entry]))
    assert str(failure).startswith(f"decode on two has loaded {entry['path']}, which is not of demo 1.0")
    assert failure.class_ == "configuration"
    assert failure.evidence["decode"] == [entry]


def test_a_process_without_mooncake_is_refused(tmp_path: Path) -> None:
    failure = refused(write_wheel(tmp_path, FILES), nodes([loaded()], []))
    assert "no Mooncake in the processes of decode on two (pid 102)" in str(failure)
    assert "/var/log/decode.log" in failure.hint


def test_a_deployment_without_servers_is_refused(tmp_path: Path) -> None:
    router = make_service("router").model_dump()
    failure = refused(write_wheel(tmp_path, FILES), nodes([], []), services=[router])
    assert failure.class_ == "test"


def test_the_version_asked_for_is_compared(tmp_path: Path) -> None:
    wheel, found = write_wheel(tmp_path, FILES), nodes([loaded()], [loaded()])
    assert check(wheel, found, "1.0")
    failure = refused(wheel, found, "1.1")
    assert str(failure).startswith("--wheel 1.1 was asked for, and demo 1.0 (")


def test_the_file_asked_for_is_compared_by_content(tmp_path: Path) -> None:
    wheel, found = write_wheel(tmp_path, FILES), nodes([loaded()], [loaded()])
    for name in ("same", "other"):
        (tmp_path / name).mkdir()
    same = tmp_path / "same" / "renamed.whl"
    same.write_bytes(wheel.read_bytes())
    other = write_wheel(tmp_path / "other", {**FILES, "mooncake/engine.so": b"another build"})
    assert check(wheel, found, str(same))
    assert "was asked for, and demo 1.0" in str(refused(wheel, found, str(other)))
