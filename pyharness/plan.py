"""What a run would start on which node, told without touching any: python -m pyharness plan TEST_CASE -i INVENTORY.

The playbooks of a run write the plan: the same roles with the same variables, only that nothing is started. What can be
known only on a node or after a download stands as a word in capitals (KEY, RUN_ID).
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from pyharness import arguments as common
from pyharness import case as cases
from pyharness import deployment as deployments
from pyharness import temporary
from pyharness.classification.playbooks import explain as explain_playbook
from pyharness.errors import UsageError
from pyharness.playbook import PlaybookRunner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pyharness.case import TestCase, TrialName
    from pyharness.deployment import Deployment, Service

RUN_ID = "RUN_ID"
_SECONDS = 120
# Options of `docker run` that take their value as a word of its own, wide enough for a line each.
_INDENT = "      "


def main(arguments: Sequence[str]) -> int:
    """Print a plan.

    Args:
        arguments: what stands after the verb.

    Returns:
        the exit code.

    Raises:
        UsageError: there is no such test case or inventory, or the inventory does not say all that is needed.
    """
    parser = common.parser("plan", "Print what a run would start on which node, without touching any.")
    parser.add_argument("test_case", metavar="TEST_CASE")
    common.add_inventory(parser)
    common.add_choice_of_trials(parser)
    common.add_extra_vars(parser)
    parser.add_argument("--wheel", metavar="SOURCE", help="the wheel to test; default: the inventory's")
    parser.add_argument("--json", action="store_true", help="print the deployments instead of text")
    options = parser.parse_args(arguments)
    case = cases.load(options.test_case)
    common.check_inventory(options.inventory)
    variables = common.extra_vars(options.extra_vars)
    if options.wheel is not None:
        variables["disagg_wheel"] = options.wheel
    plan = planned(case, options.inventory, common.trials(case, options.model, options.variant), variables)
    if options.json:
        sys.stdout.write(json.dumps([entry.model_dump(mode="json") for entry in plan], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(case, options.inventory, plan)) + "\n")
    return 0


def planned(
    case: TestCase, inventory: Path, trials: Sequence[TrialName], variables: dict[str, Any]
) -> list[Deployment]:
    """Return the deployments that a run would make, in its order.

    Args:
        case: the test case.
        inventory: the inventory's path.
        trials: which of its trials.
        variables: further variables for the playbooks.

    Returns:
        per trial the one under test; before a model's first, the one engine alone that it is compared with, where there
        is one.

    Raises:
        UsageError: the inventory does not say all that is needed.
    """
    result = []
    models = {trial.model for trial in trials}
    with temporary.folder("plan") as folder:
        runner = PlaybookRunner(inventory, folder, lambda: False)
        compared = set()
        for trial in trials:
            wanted: dict[str, Any] = {"disagg_model": trial.model or ""} if case.models else {}
            wanted |= {"models": [name for name in case.models if name in models], **variables}
            chosen = {"disagg_variant": trial.variant} if trial.variant else {}
            chosen["disagg_run"] = RUN_ID
            tested = _plan_one(runner, f"{case.test_case}.yml", case, inventory, {**wanted, **chosen})
            if tested.reference.method == "single_engine" and trial.model not in compared:
                compared.add(trial.model)
                alone = {**wanted, "disagg_run": f"{RUN_ID}-single"}
                result.append(_plan_one(runner, "single_engine.yml", case, inventory, alone))
            result.append(tested)
    return result


def _plan_one(
    runner: PlaybookRunner, playbook: str, case: TestCase, inventory: Path, variables: dict[str, Any]
) -> Deployment:
    with temporary.folder("plan") as folder:
        file = folder / "deployment.json"
        always = {
            "test_case": case.test_case,
            "disagg_plan": True,
            "disagg_hosts": ":".join(case.nodes),
            "disagg_deployment_file": str(file),
        }
        outcome = runner.run(playbook, {**variables, **always}, label="plan", tags="plan,deploy", timeout=_SECONDS)
        if not outcome.ok:
            first = explain_playbook(outcome, "plan", None)[0]
            raise UsageError(f"-i {inventory}: {first.evidence}")
        return deployments.read(file)


def _lines(case: TestCase, inventory: Path, plan: Sequence[Deployment]) -> Iterator[str]:
    first = plan[-1]
    yield f"plan of {case.test_case} on {inventory}; no host was touched"
    yield f"engine     {first.engine.name} on {first.engine.platform}, services as {first.runtime}"
    if first.image is not None:
        yield f"image      {first.image.ref} (each node records the digest that it has pulled)"
    yield f"wheel      {first.wheel.package} {first.wheel.version}, unpacked at {first.wheel.directory}"
    asked = first.transport.requested
    yield f"transport  {asked}{'' if asked == first.transport.declared else f' ({first.transport.declared} declared)'}"
    ports = ", ".join(f"{name} {port}" for name, port in case.fixed_ports.items())
    if ports:
        yield f"ports      free on every node: {ports}"
    leased = ", ".join(name for name in case.ports if name not in case.fixed_ports)
    if leased:
        yield f"ports      leased when it is deployed, here numbered from 20000: {leased}"
    # What serves no model is not asked.
    serving = next((deployment for deployment in reversed(plan) if deployment.model is not None), None)
    if case.request is not None and serving is not None:
        yield f"request    POST {serving.entry}{case.request.path} {json.dumps(case.request.body)}"
        pattern = f" /{case.request.pattern}/" if serving.reference.method == "pattern" else ""
        yield f"answer     compared with {serving.reference.method}{pattern}"
    if first.workload:
        yield f"workload   {json.dumps(first.workload)}"
    for deployment in plan:
        yield ""
        # The engine alone is compared with nothing; a case that asks nothing has no such engine.
        is_alone = deployment.reference.method == "none" and case.request is not None and deployment.model is not None
        alone = ", one engine alone, to compare with; then it is ended" if is_alone else ""
        yield f"{_title(deployment)}{alone}"
        for node in deployment.nodes:
            for service in (entry for entry in deployment.services if entry.node == node):
                yield f"  {node} ({service.address}): {service.name}, port {service.port}, ready at {service.ready_url}"
                yield from (_INDENT + line for line in _command_lines(service))


def _title(deployment: Deployment) -> str:
    model = deployment.model
    parts = [f"model {model.name} ({model.path})" if model else "", f"variant {deployment.variant}"]
    return ", ".join(part for part in (parts if deployment.variant else parts[:1]) if part) or "services"


def _command_lines(service: Service) -> Iterator[str]:
    """Yield what starts a service, an option a line, as a shell would take it."""
    if service.container is None:
        words = [f"{name}={shlex.quote(str(value))}" for name, value in sorted(service.environment.items())]
        yield from (f"{word} \\" for word in words)
        yield from _broken(service.command)
        return
    yield "docker run --detach --init --restart no \\"
    yield from (f"  {option} \\" for option in docker_options(service.container))
    program, *rest = service.command
    yield f"  --entrypoint {shlex.quote(program)} {service.container['image']} \\"
    yield from (f"  {line}" for line in _broken(rest))


def docker_options(container: dict[str, Any]) -> list[str]:
    """Return the options of `docker run` that make a container as role `service` does.

    Args:
        container: the container as the deployment has it.
    """
    options = [f"--name {container['name']}", f"--network {container['network']}"]
    if container["privileged"]:
        options.append("--privileged")
    options += ["--gpus all" for _request in container["device_requests"]]
    options += [f"--device {device}" for device in container["devices"]]
    options += [f"--ulimit {limit.replace(':', '=', 1)}" for limit in container["ulimits"]]
    options += [f"--shm-size {container['shm_size']}"] if container["shm_size"] else []
    options += [
        f"--volume {mount['source']}:{mount['target']}{':ro' if mount['read_only'] else ''}"
        for mount in container["mounts"]
    ]
    options += [f"--volume {volume}" for volume in container["volumes"]]
    options.append(f"--log-driver {container['log_driver']}")
    options += [f"--log-opt {name}={value}" for name, value in container["log_options"].items()]
    options += [f"--label {name}={shlex.quote(str(value))}" for name, value in sorted(container["labels"].items())]
    options += [f"--env {name}={shlex.quote(str(value))}" for name, value in sorted(container["environment"].items())]
    return options


def _broken(words: Sequence[str]) -> Iterator[str]:
    """Yield a command with each option and its values on a line of their own."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(shlex.quote(word))
    for line in lines[:-1]:
        yield f"{' '.join(line)} \\"
    yield " ".join(lines[-1])
