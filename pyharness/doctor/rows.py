"""What a survey says about nodes, row by row: what, its state, what was seen, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyharness import unreachable
from pyharness.from_collection import preflight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyharness.doctor.survey import Survey
    from pyharness.playbook import TaskFailure

State = Literal["ok", "missing", "wrong", "unknown"]

# Tasks of playbooks/doctor.yml, by what they ask.
_SUBJECTS = {"Reach the node": "ssh", "Run Python there": "python"}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        node: its name in the inventory.
        what: the subject.
        state: ok, missing (not there), wrong (there, and not as it has to be) or unknown.
        said: what was seen.
        remedy: what to do; empty when all is well.
    """

    node: str
    what: str
    state: State
    said: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the row for a program."""
        return asdict(self)


def rows(survey: Survey) -> list[Row]:
    """Return all rows of all nodes, node by node."""
    peers = [document["facts"] for document in survey.documents.values()]
    result = [failed(failure) for failure in survey.failures]
    for node, document in survey.documents.items():
        found = preflight.findings(document["facts"], peers)
        result += [Row(node, "ssh", "ok", "reached")]
        result += [Row(node, entry["what"], entry["state"], entry["said"], entry["remedy"]) for entry in found]
        for look in (_docker, _endpoints, _models, _rdma):
            result += [Row(node, *entry) for entry in look(document)]
    return sorted(result, key=lambda row: row.node)


def failed(failure: TaskFailure) -> Row:
    """Return the row of a node that could not be looked at, or not to the end."""
    cause, remedy = unreachable.explain(failure.message)
    if failure.unreachable:
        return Row(failure.node, "ssh", "wrong", f"cannot be reached: {cause}", remedy.replace("NODE", failure.node))
    if "sudo" in cause:
        return Row(failure.node, "sudo", "missing", cause, remedy)
    if failure.task in _SUBJECTS:
        return Row(failure.node, _SUBJECTS[failure.task], "missing", cause, remedy.replace("NODE", failure.node))
    said = f"'{failure.task}' failed: {cause}"
    return Row(failure.node, "inventory", "unknown", said, "see the inventory's variables in inventories/README.md")


_Entry = tuple[str, State, str, str]


def _docker(document: dict[str, Any]) -> Iterator[_Entry]:
    found = document["facts"]["docker"]
    if found is None:
        return
    if found["error"]:
        if found["installed"]:
            yield (
                "docker",
                "wrong",
                found["error"],
                "start the engine: systemctl start docker; journalctl -u docker -n 20",
            )
        else:
            yield "docker", "missing", "there is no Docker engine", "a run installs it (role docker_engine)"
    else:
        yield "docker", "ok", found["version"], ""
    if document["platform"] == "cuda":
        if "nvidia" in found["runtimes"] or any(name.startswith("nvidia.com/gpu") for name in found["cdi_devices"]):
            yield "nvidia toolkit", "ok", "the engine gives GPUs to containers", ""
        else:
            said = "the Docker engine does not know the runtime nvidia"
            remedy = "a run installs NVIDIA's container toolkit (role docker_engine)"
            yield "nvidia toolkit", "missing", said, remedy
    if document["image"]:
        if found["has_image"]:
            yield "image", "ok", document["image"], ""
        else:
            yield "image", "missing", f"{document['image']} is not on the node", "a run pulls it (role image)"


def _endpoints(document: dict[str, Any]) -> Iterator[_Entry]:
    facts = document["facts"]
    what = "package index" if facts["docker"] is None else "registry"
    for entry in facts["endpoints"]:
        if entry["error"] is None:
            yield what, "ok", f"{entry['url']} answers", ""
        elif (facts["docker"] or {}).get("has_image"):
            yield what, "ok", f"{entry['url']} does not answer ({entry['error']}); not needed, the image is there", ""
        else:
            said = f"{entry['url']} does not answer: {entry['error']}"
            remedy = (
                "set a mirror (pip: index-url in /etc/pip.conf; Docker: disagg_registry_mirrors) or a proxy; what is "
            )
            yield what, "missing", said, remedy + "on the node already is not fetched again"


def _models(document: dict[str, Any]) -> Iterator[_Entry]:
    for name, found in document["models"].items():
        if found["cached"]:
            yield "model", "ok", f"{name} is complete in the node's cache", ""
        else:
            said = f"{name} is not complete in the node's cache"
            remedy = "fetch it beforehand (hf download, or modelscope download), or leave it to the first run: see "
            yield "model", "missing", said, f"{remedy}disagg_ready_timeout"


def _rdma(document: dict[str, Any]) -> Iterator[_Entry]:
    found = document["rdma"]
    if found is None:
        return
    if found["problem"]:
        yield "rdma", "missing" if not found["devices"] else "wrong", found["problem"], found["remedy"]
    else:
        yield "rdma", "ok", f"usable: {', '.join(found['usable'])}", ""
