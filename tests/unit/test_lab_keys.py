"""Keys of the lab: strict checking stays on, and one host's key never hides another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyharness import paths
from pyharness.errors import UsageError
from pyharness.lab import keys, model
from pyharness.lab.model import Lab

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Return a lab in an empty home, where keys are made without ssh-keygen."""
    monkeypatch.setattr(model, "home", lambda: tmp_path)

    def generate(file: Path, comment: str) -> None:
        number = len(list(tmp_path.iterdir()))
        file.write_text(f"private {number}")
        Path(f"{file}.pub").write_text(f"ssh-ed25519 public{number} {comment}\n")

    monkeypatch.setattr(keys, "_generate", generate)
    return Lab(cache=tmp_path / "cache")


def test_the_key_is_made_once(lab: Lab) -> None:
    public = keys.have(lab)
    assert public.startswith("ssh-ed25519 ")
    assert keys.have(lab) == public
    assert lab.key.parent.stat().st_mode & 0o777 == 0o700


def test_half_a_key_is_made_anew_and_its_hosts_are_forgotten(lab: Lab) -> None:
    keys.have(lab)
    keys.record(lab, "192.0.2.1", "ssh-ed25519 one")
    Path(f"{lab.key}.pub").unlink()
    keys.have(lab)
    assert not keys.knows(lab, "192.0.2.1")


def test_a_hosts_key_takes_the_place_of_the_one_before(lab: Lab) -> None:
    keys.have(lab)
    keys.record(lab, "192.0.2.1", "ssh-ed25519 one")
    keys.record(lab, "192.0.2.11", "ssh-ed25519 eleven")
    keys.record(lab, "192.0.2.1", "ssh-ed25519 other")
    assert lab.known_hosts.read_text() == "192.0.2.11 ssh-ed25519 eleven\n192.0.2.1 ssh-ed25519 other\n"
    keys.record(lab, "192.0.2.1", None)
    assert lab.known_hosts.read_text() == "192.0.2.11 ssh-ed25519 eleven\n"
    assert keys.knows(lab, "192.0.2.11")
    assert not keys.knows(lab, "192.0.2.1")


def test_nothing_is_left(lab: Lab) -> None:
    keys.have(lab)
    keys.record(lab, "192.0.2.1", "ssh-ed25519 one")
    keys.remove(lab)
    keys.remove(lab)
    assert list(lab.key.parent.iterdir()) == []


def test_ssh_checks_keys_strictly_and_reads_no_configuration(lab: Lab) -> None:
    line = " ".join(keys.ssh_command(lab, "192.0.2.1"))
    assert "StrictHostKeyChecking=yes" in line
    assert "GlobalKnownHostsFile=/dev/null" in line
    assert f"UserKnownHostsFile={lab.known_hosts}" in line
    assert line.startswith("ssh -F none ")
    assert line.endswith("disagg@192.0.2.1")


def test_a_machine_without_ssh_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(model, "home", lambda: tmp_path)
    with pytest.raises(UsageError, match="apt-get install openssh-client"):
        keys.have(Lab(cache=tmp_path / "cache"))


def test_the_home_is_that_of_ssh_and_the_cache_that_of_the_inventories(monkeypatch: pytest.MonkeyPatch) -> None:
    real = model.home()
    monkeypatch.setenv("HOME", "/elsewhere")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DISAGG_E2E_CACHE", raising=False)
    assert model.home() == real
    assert paths.cache() == Path("/elsewhere/.cache/disagg-e2e")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert paths.cache() == Path("/xdg/disagg-e2e")
    monkeypatch.setenv("DISAGG_E2E_CACHE", "/chosen")
    assert paths.cache() == Path("/chosen")
