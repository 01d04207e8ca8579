"""Images of the lab: made once of the same things, with what each step of a failed build said."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import APIError

from pyharness.errors import UsageError
from pyharness.lab import base_image, environment, host_image, images, machine, registry, service_image
from pyharness.lab.model import Lab
from tests.unit.fake_docker import FakeDocker

if TYPE_CHECKING:
    from pathlib import Path

    from docker import DockerClient

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

RECIPE = images.Recipe("it", "parent", "FROM scratch", {"a": b"1"}, executable=("a",), depends_on=("x",))


@pytest.fixture(autouse=True)
def _no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "proxies", lambda: {"http_proxy": "http://proxy.example"})
    monkeypatch.setattr(machine, "named_hosts", lambda: {"mirror.example": "192.0.2.7"})
    monkeypatch.setattr(machine, "image_files", lambda: {"etc/some": b"thing"})


def client(engine: FakeDocker) -> DockerClient:
    """Return the fake where the SDK's class is declared."""
    fake: Any = engine
    return fake


def context(options: dict[str, Any]) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(options["fileobj"].getvalue()))


@pytest.mark.parametrize(
    "changed",
    [
        {"parent": "other"},
        {"dockerfile": "FROM other"},
        {"files": {"a": b"2"}},
        {"files": {"b": b"1"}},
        {"executable": ()},
        {"depends_on": ("y",)},
    ],
)
def test_another_ingredient_makes_another_image(changed: dict[str, Any]) -> None:
    assert dataclasses.replace(RECIPE, **changed).tag != RECIPE.tag


def test_an_image_of_the_same_is_not_built_again() -> None:
    engine = FakeDocker()
    first = images.build(client(engine), RECIPE)
    assert images.build(client(engine), RECIPE) == first
    assert len(engine.built) == 1
    assert engine.built[0]["buildargs"] == {"parent": "parent", "http_proxy": "http://proxy.example"}
    assert engine.built[0]["extra_hosts"] == {"mirror.example": "192.0.2.7"}


def test_what_an_earlier_recipe_made_goes() -> None:
    engine = FakeDocker(tags={"it:latest": "new", "it:older": "old", "item:1": "another"})
    images.build(client(engine), RECIPE)
    assert engine.removed == ["it:older"]


def test_a_context_has_programs_and_folders_of_root(tmp_path: Path) -> None:
    (tmp_path / "package/__pycache__").mkdir(parents=True)
    (tmp_path / "package/module.py").touch()
    (tmp_path / "package/__pycache__/module.pyc").touch()
    engine = FakeDocker()
    images.build(client(engine), dataclasses.replace(RECIPE, trees={"lib": tmp_path}))
    with context(engine.built[0]) as tar:
        assert set(tar.getnames()) == {"Dockerfile", "a", "lib", "lib/package", "lib/package/module.py"}
        assert tar.getmember("a").mode == 0o755
        assert tar.getmember("Dockerfile").mode == 0o644
        assert {(entry.uid, entry.gid) for entry in tar} == {(0, 0)}


def test_a_failed_build_says_what_its_step_said() -> None:
    engine = FakeDocker(build_events=[{"stream": "Step 2/2 : RUN false\n\n"}, {"stream": "E: no such package\n"}])
    engine.build_events.append({"error": "returned a non-zero code: 100"})
    with pytest.raises(UsageError, match=r"image it: .*E: no such package: returned a non-zero code: 100"):
        images.build(client(engine), RECIPE)


def test_the_base_is_the_public_image_where_that_can_be_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeDocker()

    def pull(**_options: Any) -> FakeDocker:
        engine.tags[base_image.PUBLIC] = "public"
        return engine

    monkeypatch.setattr("docker.from_env", pull)
    base_image.have(client(engine), lambda _text: None)
    assert engine.built[0]["buildargs"]["parent"] == "public"


def test_the_base_is_made_where_nothing_can_be_pulled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = FakeDocker(pull_events=[{"error": "no such host"}])
    monkeypatch.setattr("docker.from_env", lambda **_options: engine)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    sources = [machine.Source("http://mirror.example", suite, ("main",)) for suite in ("bookworm-updates", "bookworm")]
    monkeypatch.setattr(machine, "debian_sources", lambda: sources)
    program = tmp_path / "debootstrap"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nmkdir -p "$4/usr/share/doc/x" "$4/etc"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    told: list[str] = []
    base_image.have(client(engine), told.append)
    assert engine.built[0]["buildargs"]["parent"] == "imported"
    assert (tmp_path / "asked").read_text().split()[2] == "bookworm"
    assert (tmp_path / "asked").read_text().split()[-1] == "http://mirror.example"
    assert "cannot be pulled" in told[0]
    base_image.have(client(engine), told.append)
    assert len(engine.built) == 1


@pytest.mark.parametrize(
    ("program", "user", "said"),
    [
        (None, 0, "debootstrap, which makes it, is missing; install it"),
        ("#!/bin/sh\nexit 0\n", 1000, "takes root"),
        ("#!/bin/sh\necho 'E: mirror gone' >&2; exit 1\n", 0, "debootstrap failed: E: mirror gone"),
    ],
)
def test_a_base_that_cannot_be_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str | None, user: int, said: str
) -> None:
    if program:
        (tmp_path / "debootstrap").write_text(program)
        (tmp_path / "debootstrap").chmod(0o755)
    found = str(tmp_path / "debootstrap") if program else None
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_options: found)
    monkeypatch.setattr("os.geteuid", lambda: user)
    engine = FakeDocker(pull_events=[{"error": "no such host"}])
    monkeypatch.setattr("docker.from_env", lambda **_options: engine)
    with pytest.raises(UsageError, match=said):
        base_image.have(client(engine), lambda _text: None)


def test_the_image_of_a_host_has_no_key_and_no_docker_engine_of_its_own() -> None:
    engine = FakeDocker()
    host_image.have(client(engine), "base", lambda _text: None)
    with context(engine.built[0]) as tar:
        assert set(tar.getnames()) == {"Dockerfile", "etc/sudoers.d/disagg", "etc/ssh/sshd_config.d/lab.conf"}
        dockerfile = tar.extractfile("Dockerfile")
        assert dockerfile is not None
        lines = dockerfile.read().decode().splitlines()
    assert [line for line in lines if "docker.io" in line and "--download-only" not in line] == []
    assert engine.tags["disagg-lab-host:latest"] == engine.tags[engine.built[0]["tag"]]


def test_the_simulators_image_has_its_packages_and_sources(tmp_path: Path) -> None:
    found = environment.Environment(tmp_path / "simulator-1", None)
    found.packages.mkdir(parents=True)
    (found.packages / "sglang_router.py").touch()
    engine = FakeDocker()
    service = service_image.have(client(engine), Lab(cache=tmp_path), "base", "simulator", found)
    with context(engine.built[0]) as tar:
        names = set(tar.getnames())
    assert {
        "packages/sglang_router.py",
        "packages/pyharness/__init__.py",
        "packages/pyharness/simulator/cli.py",
    } <= names
    assert not [name for name in names if name.startswith("packages/pyharness/lab")]
    assert (service.platform, service.mounts, service.pythonpath) == ("simulator", (), ())
    assert f"{service.repository}:{service.tag}" == engine.built[0]["tag"]


def test_the_real_engines_image_finds_its_packages_in_the_mount(tmp_path: Path) -> None:
    lab = Lab(cache=tmp_path)
    found = environment.Environment(lab.environments / "sglang-cpu-1", lab.environments / "sglang-cpu-path-2")
    engine = FakeDocker()
    service = service_image.have(client(engine), lab, "base", "sglang", found)
    with context(engine.built[0]) as tar:
        line = tar.extractfile("packages/disagg-environment.pth")
        assert line is not None
        assert b"addsitedir('/opt/disagg/envs/sglang-cpu-1/lib/python3.11/site-packages')" in line.read()
        assert len(tar.getnames()) == 2
    assert service.mounts == ("/opt/disagg/envs:/opt/disagg/envs:ro",)
    assert service.pythonpath == ("/opt/disagg/envs/sglang-cpu-path-2",)


def test_the_registrys_image_has_a_configuration_without_a_password() -> None:
    engine = FakeDocker()
    registry.have_image(client(engine), "base")
    with context(engine.built[0]) as tar:
        configuration = tar.extractfile("config.yml")
        assert configuration is not None
        assert b"auth" not in configuration.read()


def test_only_images_that_are_in_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeDocker()
    monkeypatch.setattr(FakeDocker, "images", property(lambda self: Refusing(self.removed)))
    images.remove(client(engine), ["used", "gone", "free"])
    assert engine.removed == ["free"]
    with pytest.raises(APIError):
        images.remove(client(engine), ["broken"])


class Refusing:
    """Images that the engine does not remove."""

    def __init__(self, removed: list[str]) -> None:
        self._removed = removed

    def remove(self, reference: str) -> None:
        statuses = {"used": 409, "gone": 404, "broken": 500}
        if reference in statuses:
            raise APIError("no", response=Answer(statuses[reference]))
        self._removed.append(reference)


class Answer:
    """An HTTP answer with a status."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
