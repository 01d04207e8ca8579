"""One test case as T-One runs it: behind tone_tests/scripts/test_*.sh, which sets the environment.

Everything is said by environment variables, as tone-cli does (see tone_tests/README.md). An inventory is made of the
two addresses, the harness runs with its results in tone_tests/run, and the result is put where both of T-One's layouts
look for it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pyharness import case as cases
from pyharness import cli, paths, results
from pyharness.errors import UsageError
from pyharness.results_dir import ResultsDir, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEMPLATE = paths.INVENTORIES / "a10"
RESULT = "test_results.json"


class ToneCase:
    """One run of one test case.

    Args:
        environment: test_case_name, TEST_TYPE, LOCAL_IP, REMOTE_IP, ARTIFACT_ID, GIT_REPO, TONE_TESTS_DIR and, if need
            be, TEST_CASE_RESULT_PATH, DISAGG_INVENTORY, DISAGG_SSH_USER and DISAGG_SSH_KEY.

    Raises:
        UsageError: there is no such test case.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.case = cases.load(environment.get("test_case_name", ""))
        self.name = self.case.test_case
        tests = Path(environment["TONE_TESTS_DIR"]).resolve()
        self.base = tests / "run"
        self.folder = self.base / self.name
        self._later = self.base / "logs" / self.name
        named = environment.get("TEST_CASE_RESULT_PATH") or f"run/logs/{self.name}"
        # Folders that get the result, the harness's own aside.
        self._copies = {self._later, (tests / named).resolve()} - {self.folder}

    def run(self, arguments: Sequence[str]) -> int:
        """Run it. Returns the exit code of the harness: 0 pass, 1 fail, 2 error.

        Args:
            arguments: further arguments of the harness.
        """
        self._forget()
        try:
            wanted = ["--inventory", str(self._inventory()), *self._wheel()]
        except (UsageError, OSError) as error:
            return self._refuse(str(error))
        try:
            return cli.main([self.name, "--results", str(self.base), *wanted, *arguments])
        finally:
            self._publish()

    def _get(self, name: str) -> str:
        return self._environment.get(name, "").strip()

    def _forget(self) -> None:
        """Leave no earlier Pass beside the harness's own folder, and nothing that stands in the harness's way."""
        shutil.rmtree(self._later, ignore_errors=True)
        for folder in self._copies:
            self._fail(folder)
        # The wrapper leaves a lone Fail until here; the harness would take it for somebody else's file.
        if self.folder.is_dir() and [entry.name for entry in self.folder.iterdir()] == [RESULT]:
            shutil.rmtree(self.folder)

    def _fail(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        result = {"test_case": self.name, "status": "Fail", "timestamp": moment}
        write_atomically(folder / RESULT, json.dumps(result) + "\n")

    def _publish(self) -> None:
        """Put the logs where the later layout has them, and the result last."""
        if not (self.folder / RESULT).exists():
            self._fail(self.folder)  # the harness did not get as far: wrong arguments
            return
        shutil.copytree(self.folder / "logs", self._later, dirs_exist_ok=True)
        for folder in self._copies:
            write_atomically(folder / RESULT, (self.folder / RESULT).read_text(encoding="utf-8"))

    def _refuse(self, told: str) -> int:
        """Leave an error result, as the harness does where it is asked for something impossible."""
        told = " ".join(told.split())
        report = results.Report(
            test_case=self.name,
            run_id=f"{datetime.now(UTC):%Y%m%d-%H%M%S}-tone",
            started_at=results.now(),
            finished_at=results.now(),
            inventory=self._get("DISAGG_INVENTORY"),
            engine={"name": self.case.engine},
            transport=results.TransportUse(declared=self.case.transport),
            models=[results.ModelResult(name=trial.model, variant=trial.variant) for trial in self.case.trials()],
        )
        failure = {"class": "configuration", "check": "usage", "evidence": told, "hint": "see tone_tests/README.md"}
        report.failures.append(results.Failure.model_validate({**failure, "spoils_judgement": True}))
        report.judge()
        folder = ResultsDir(self.base, self.name)
        folder.write(report)
        folder.write_environment({"test_case_name": self.name})
        self._publish()
        sys.stderr.write(f"error: {told}\n")
        return 2

    def _wheel(self) -> list[str]:
        number, repository = self._get("ARTIFACT_ID"), self._get("GIT_REPO")
        if not number:
            return []  # the inventory's
        if not repository:
            raise UsageError(f"ARTIFACT_ID is {number} and GIT_REPO is empty; set GIT_REPO to owner/name")
        return ["--wheel", f"artifact:{number}"]

    def _inventory(self) -> Path:
        """Return the inventory: the one that is named, or one made of the addresses."""
        named = self._get("DISAGG_INVENTORY")
        if named:
            return Path(named).resolve()
        hosts = self._hosts()
        target = self.base / "inventories" / self.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(TEMPLATE, target)
        write_atomically(target / "hosts.yml", yaml.safe_dump(hosts, sort_keys=False))
        return target

    def _hosts(self) -> dict[str, Any]:
        """Return the hosts: this machine first, which T-One runs the script on, then the other one by ssh."""
        kind = self._get("TEST_TYPE")
        if kind not in {"single", "double"}:
            raise UsageError(f"TEST_TYPE is {kind!r} and has to be single or double")
        local = {"ansible_host": self._address("LOCAL_IP"), "ansible_connection": "local"}
        first, *others = self.case.nodes
        groups: dict[str, Any] = {first: {"hosts": {"local": local}}}
        if kind == "single":
            groups |= {group: {"hosts": {"local": {}}} for group in others}
        else:
            remote = {"ansible_host": self._address("REMOTE_IP"), **self._ssh()}
            if remote["ansible_host"] == local["ansible_host"]:
                raise UsageError(
                    f"LOCAL_IP and REMOTE_IP are both {local['ansible_host']}; a double test takes two hosts"
                )
            groups |= {group: {"hosts": {"remote": remote}} for group in others}
        template = yaml.safe_load((TEMPLATE / "hosts.yml").read_text(encoding="utf-8"))
        return {"all": {"vars": template["all"].get("vars", {}), "children": groups}}

    def _address(self, name: str) -> str:
        text = self._get(name)
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise UsageError(
                f"{name} is {text!r} and has to be the address of a host; TEST_TYPE is {self._get('TEST_TYPE')}"
            ) from None

    def _ssh(self) -> dict[str, str]:
        """Return how the other host is reached, where the template's way is not it."""
        user, key = self._get("DISAGG_SSH_USER"), self._get("DISAGG_SSH_KEY")
        if key and not Path(key).expanduser().is_file():
            raise UsageError(f"DISAGG_SSH_KEY is {key}, and there is no such file; name the private key's file")
        chosen = {
            "ansible_user": user,
            "ansible_ssh_private_key_file": str(Path(key).expanduser().resolve()) if key else "",
        }
        return {name: value for name, value in chosen.items() if value}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the environment says.

    Args:
        arguments: further arguments of the harness; default is the process's own.

    Returns:
        the exit code.
    """
    try:
        tone_case = ToneCase(os.environ)
    except UsageError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return tone_case.run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
