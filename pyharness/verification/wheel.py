"""The Mooncake in the running processes is the wheel that was asked for."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import wheel_source
from pyharness.errors import UsageError
from pyharness.verification.base import CheckFailed, Evidence
from pyharness.verification.node_probe import MOONCAKE_LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pyharness.verification.base import Trial

# The services that move the KV cache; the router does not load Mooncake.
MOVES_KV_CACHE = ("prefill", "decode")


@dataclass(frozen=True)
class WheelFacts:
    """What a wheel says of itself.

    Attributes:
        name: the distribution's name.
        version: its version.
        sha256: digest of the wheel.
        files: digests (hexadecimal) of the files in it, by path, from its RECORD.
    """

    name: str
    version: str
    sha256: str
    files: dict[str, str]


def read_wheel(path: Path) -> WheelFacts:
    """Read a wheel (format: PyPA's binary distribution format and recording installed projects).

    Raises:
        UsageError: it is not there or is no wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folder = next(name.split("/")[0] for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
            record = archive.read(f"{folder}/RECORD").decode()
        files = dict(_digests(record))
    except FileNotFoundError as error:
        raise UsageError(f"--wheel {path}: there is no such file; give a wheel's path or a version") from error
    except (OSError, zipfile.BadZipFile, StopIteration, KeyError, ValueError) as error:
        reason = str(error) or "it has no METADATA"
        raise UsageError(f"--wheel {path}: this is not a wheel ({reason})") from error
    return WheelFacts(metadata["Name"], metadata["Version"], hashlib.sha256(path.read_bytes()).hexdigest(), files)


def _digests(record: str) -> Iterator[tuple[str, str]]:
    for name, digest, _size in csv.reader(io.StringIO(record)):
        algorithm, _, value = digest.partition("=")
        if algorithm == "sha256":
            yield name, base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()


def wheel_in_use(trial: Trial, kinds: Collection[str] = MOVES_KV_CACHE) -> Evidence:
    """Check version, digest and the native libraries that the processes have loaded.

    Args:
        trial: whose services.
        kinds: the kinds of services that load Mooncake.
    """
    deployment = trial.deployment
    facts = read_wheel(Path(deployment.wheel.file))
    evidence: dict[str, Any] = {"wheel": Path(deployment.wheel.file).name, "version": facts.version}
    _is_the_one_asked_for(trial, facts)
    services = [service for service in deployment.services if service.kind in kinds]
    if not services:
        raise CheckFailed(
            f"none of the deployed services loads Mooncake (kinds: {', '.join(kinds)})",
            evidence,
            hint="the test case's playbook has to deploy them",
            class_="test",
            spoils_judgement=True,
        )
    # Asked for where they were unpacked to, in the same go: whether that is what is loaded is seen then.
    modules = [name for name in facts.files if name.endswith(".py")]
    expected: dict[str, dict[str, int]] = {}
    for service in services:
        paths = {f"{deployment.wheel.directory}/{name}": service.pid for name in modules}
        expected.setdefault(service.node, {}).update(paths)
    found = trial.nodes.probe(services, libraries=MOONCAKE_LIBRARIES, files=expected)
    sources: dict[str, dict[str, int]] = {}
    for service in services:
        loaded = found[service.node]["services"][service.name]["libraries"]
        if not loaded:
            raise CheckFailed(
                f"no Mooncake in the processes of {service.name} on {service.node} (pid {service.pid}): they have "
                "loaded none of its libraries",
                evidence,
                hint=f"see in {service.log} whether the server disaggregates at all, and with which transfer backend",
                class_="configuration",
                spoils_judgement=True,
            )
        wrong = [entry for entry in loaded if not _in_wheel(entry, facts)]
        if wrong:
            raise CheckFailed(
                f"{service.name} on {service.node} has loaded {wrong[0]['path']}, which is not of {facts.name} "
                f"{facts.version} ({Path(deployment.wheel.file).name})",
                {**evidence, service.name: wrong},
                hint="another Mooncake comes first in the service's PYTHONPATH or environment: see deployment.json",
                class_="configuration",
                spoils_judgement=True,
            )
        evidence[service.name] = [{"path": entry["path"], "sha256": entry["sha256"]} for entry in loaded]
        files = {f"{_root(loaded[0], facts)}/{name}": service.pid for name in modules}
        sources.setdefault(service.node, {}).update(files)
    if sources != expected:
        found = trial.nodes.probe([], files=sources)
    _sources_are_the_wheels(facts, {node: found[node]["files"] for node, paths in sources.items() if paths})
    evidence["python_files_compared"] = sum(len(paths) for paths in sources.values())
    return evidence


def _root(entry: dict[str, Any], facts: WheelFacts) -> str:
    """Return the folder that a loaded file of the wheel lies in as the wheel was unpacked there."""
    name = next(name for name in facts.files if entry["path"].endswith(f"/{name}"))
    return str(entry["path"]).removesuffix(f"/{name}")


def _sources_are_the_wheels(facts: WheelFacts, digests: dict[str, dict[str, str | None]]) -> None:
    """Compare the Python files beside the loaded libraries, which no memory map shows."""
    for node, files in digests.items():
        for path, digest in files.items():
            if not any(path.endswith(f"/{name}") and digest == wanted for name, wanted in facts.files.items()):
                raise CheckFailed(
                    f"{path} on {node} is not the file of that name in {facts.name} {facts.version}",
                    {"node": node, "path": path, "sha256": digest},
                    hint="somebody changed what the wheel was unpacked to; remove that folder from the cache",
                    class_="configuration",
                    spoils_judgement=True,
                )


def _is_the_one_asked_for(trial: Trial, facts: WheelFacts) -> None:
    """Compare what was provisioned with what the caller asked for."""
    if trial.requested_wheel is None:
        return
    deployed, asked = trial.deployment.wheel, wheel_source.parse(trial.requested_wheel)
    if not asked.is_deployed(sha256=facts.sha256, version=facts.version, origin=deployed.origin):
        raise CheckFailed(
            f"--wheel {asked.told} was asked for, and {facts.name} {facts.version} ({facts.sha256[:12]}…) was deployed",
            {"asked": asked.told, "deployed": deployed.file},
            hint="an extra variable or the inventory overrides disagg_wheel",
            class_="configuration",
            spoils_judgement=True,
        )


def _in_wheel(entry: dict[str, Any], facts: WheelFacts) -> bool:
    """Tell whether a loaded file is one of the wheel's: by the end of its path and by its content."""
    return any(entry["path"].endswith(f"/{name}") and entry["sha256"] == digest for name, digest in facts.files.items())
