"""The collections that this project stands on: one truth in three files, and what is missing is noticed."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
import yaml

from pyharness import collections, paths

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]


def test_galaxys_list_is_the_same() -> None:
    listed = yaml.safe_load((paths.PROJECT / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    assert {entry["name"]: entry["version"] for entry in listed} == collections.COLLECTIONS


def test_the_collection_says_what_it_depends_on() -> None:
    own = yaml.safe_load((paths.COLLECTION / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"]
    assert set(own) <= set(collections.COLLECTIONS)
    assert "community.docker" in own


def test_they_are_installed() -> None:
    assert collections.missing(Path(sysconfig.get_path("purelib"))) == []


def test_another_version_counts_as_missing(tmp_path: Path) -> None:
    folder = tmp_path / "ansible_collections" / "community" / "docker"
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").write_text('{"collection_info": {"version": "1.0.0"}}')
    assert collections.missing(tmp_path) == list(collections.COLLECTIONS)
