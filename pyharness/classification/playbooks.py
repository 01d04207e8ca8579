"""What a failed playbook means: whose failure it is, the evidence, and what to do next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyharness import unreachable
from pyharness.classification.rules import UNKNOWN, load
from pyharness.playbook import error_line
from pyharness.results import Failure

if TYPE_CHECKING:
    from pyharness.playbook import Outcome, TaskFailure
    from pyharness.results import FailureClass

# What Ansible calls a failed task although none could begin.
_CANNOT_START = re.compile(r"\bsudo\b|module interpreter '|Failed to create temporary directory")
# What the inventory says, or fails to, whatever role meets it first: words of ansible-core 2.19's templar, of its
# validation of arguments, and of role node's preflight.
_VARIABLE = re.compile(
    r"' is undefined|Syntax error in template|Error rendering template|Error while resolving value|Recursive loop|"
    r"unable to convert|[Vv]alidation of arguments failed|missing required arguments|value of .+ must be one of|"
    r"object of type '[^']+' has no attribute|is no address of this node"
)
_SEE_VARIABLES = "see the inventory's variables in inventories/README.md"
_UNSUPPORTED = "unsupported: "
BY_ROLE: dict[str, tuple[FailureClass, str]] = {
    "": ("configuration", _SEE_VARIABLES),  # a playbook's own tasks
    "service": ("infrastructure", "see what the node lacks to start a service"),
    "node": ("infrastructure", "the node cannot take the run as it is"),
    "docker_engine": ("infrastructure", "see the README of role docker_engine"),
    "image": ("infrastructure", "see disagg_image and the registry's variables in inventories/README.md"),
    "erdma": ("infrastructure", "see what the node has: python -m pyharness doctor"),
    "gpu": ("infrastructure", "see who uses the GPUs on the node: nvidia-smi"),
    "engine_env": ("infrastructure", "see whether the node reaches its package index and has room"),
    "wheel": ("configuration", "see docs/ci.md, Where --wheel can be"),
    "model": ("configuration", "see disagg_models of the inventory"),
}


def explain(outcome: Outcome, phase: str, trial: str | None) -> list[Failure]:
    """Return the failures that a playbook's end tells of, the first cause first; empty when it went well."""
    if outcome.ok:
        return []
    if outcome.status == "timeout":
        return [
            Failure(
                class_="infrastructure",
                check=phase,
                evidence=f"the playbook did not end within its time and was stopped after {outcome.seconds:.0f} s",
                hint=f"the task it was at is the last one in logs/ansible/{phase}*.log",
                trial=trial,
                rule="ansible.timeout",
            )
        ]
    if not outcome.failures:
        return [
            Failure(
                class_="configuration",
                check=phase,
                evidence=error_line(outcome.output),
                hint="the inventory or the playbook is wrong; Ansible's whole output is in logs/ansible/",
                trial=trial,
                rule="ansible.not_begun",
            )
        ]
    return [_task(failure, phase, trial) for failure in outcome.failures]


def _task(failure: TaskFailure, phase: str, trial: str | None) -> Failure:
    if failure.unreachable or _CANNOT_START.search(failure.message):
        cause, remedy = unreachable.explain(failure.message)
        told = "cannot be reached" if failure.unreachable else "cannot be worked on"
        evidence = f"{failure.node} {told}: {cause}"
        return Failure(
            class_="infrastructure",
            check=phase,
            evidence=evidence,
            hint=remedy.replace("NODE", failure.node),
            trial=trial,
            unfit_node=failure.node,
            rule="ansible.unreachable",
        )
    if failure.details:
        return _service(failure, trial)
    if _UNSUPPORTED in failure.message:
        told = failure.message.partition(_UNSUPPORTED)[2]
        hint = "this cannot run here so far: see docs/troubleshooting.md"
        return Failure(
            class_="unsupported",
            check=phase,
            evidence=" ".join(told.split()),
            hint=hint,
            trial=trial,
            rule="ansible.unsupported",
        )
    prefix = "" if failure.message.startswith(failure.node) else f"{failure.node}: "
    if _VARIABLE.search(failure.message):
        return Failure(
            class_="configuration",
            check=phase,
            evidence=prefix + " ".join(failure.message.split()),
            hint=_SEE_VARIABLES,
            trial=trial,
            rule="ansible.variable",
        )
    class_, hint = BY_ROLE.get(failure.role, ("unknown", f"Ansible's whole output is in logs/ansible/{phase}*.log"))
    return Failure(
        class_=class_,
        check=phase,
        evidence=prefix + " ".join(failure.message.split()),
        hint=hint,
        trial=trial,
        rule=_rule(failure.role),
    )


def _rule(role: str) -> str:
    if not role:
        return "ansible.playbook"
    return f"ansible.role.{role}" if role in BY_ROLE else UNKNOWN


def _service(failure: TaskFailure, trial: str | None) -> Failure:
    """Explain a service that did not become ready (module service_ready), by its last words."""
    details = failure.details
    class_: FailureClass = "product"
    rule = f"service.{details['kind']}"
    hint = f"the whole log is {details['log']} on {failure.node}; a copy is in the results' logs folder"
    known = [found for line in details["tail"] if (found := load().match(line, "services"))]
    of_node = next((found for found in known if found.class_ != "product" and found.severity == "fatal"), None)
    if of_node:
        class_, hint, rule = of_node.class_, of_node.hint, of_node.id
    tail = "\n".join(details["tail"])
    return Failure(
        class_=class_,
        check="services_ready",
        evidence=f"service {details['service']} on {failure.node} {details['kind']}: {details['detail']}; "
        f"last lines of {details['log']}:\n{tail}",
        hint=hint,
        trial=trial,
        rule=rule,
    )
