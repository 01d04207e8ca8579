"""Ask the nodes, as long as everything is up, what a person would ask them after a failure."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from pyharness import redaction, temporary
from pyharness.results_dir import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyharness.playbook import PlaybookRunner

# All nodes are asked side by side, and each command has 10 seconds: what takes longer than this is not waited for.
SECONDS = 60
_PLAYBOOK = "collect.yml"


def collect(
    playbooks: PlaybookRunner, variables: dict[str, Any], folder: Path, tell: Callable[[str], None] = lambda _text: None
) -> None:
    """Ask every node that can be reached, and write the answers to `<folder>/<node>/<question>.txt`.

    Nothing that goes wrong here is more than a line: the run has failed already, and is to be taken down whatever
    becomes of its diagnosis.

    Args:
        playbooks: runs the playbook. It is patient: neither an unreachable node nor a signal ends it.
        variables: the run's variables, as every playbook gets them.
        folder: logs/diagnosis of the results.
        tell: told of what was found, and of each node that gave nothing.
    """
    started = time.monotonic()
    with temporary.folder("collect") as found:
        given = {**variables, "collect_dir": str(found)}
        try:
            outcome = playbooks.run(_PLAYBOOK, given, label="collect", timeout=SECONDS, patient=True)
        except Exception as error:  # noqa: BLE001 (teardown is next, whatever becomes of this)
            tell(f"  no diagnosis of the nodes: {type(error).__name__}: {error}")
            return
        for failure in outcome.failures:
            words = " ".join(failure.message.split())[:200]
            tell(f"  no diagnosis of {failure.node}: {'cannot be reached: ' if failure.unreachable else ''}{words}")
        if outcome.status == "timeout":
            tell(f"  the diagnosis took more than {SECONDS} s and was ended; what had come by then is there")
        nodes = [_keep(file, folder, tell) for file in sorted(found.glob("*.json"))]
    answers = sum(nodes)
    if answers:
        tell(f"  {answers} answers of {len(nodes)} nodes in {folder}, {time.monotonic() - started:.1f} s")


def _keep(file: Path, folder: Path, tell: Callable[[str], None]) -> int:
    """Write one node's answers. Returns how many."""
    target = folder / _plain(file.stem)
    try:
        texts: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            # What docker inspect says is JSON after its first line: names of keys tell what is secret there.
            first, _break, rest = text.partition("\n")
            document, mark, ended = rest.rpartition("\n# ")
            if document.startswith(("[", "{")):
                rest = redaction.redact_json(document) + mark + ended
            write_atomically(target / f"{_plain(name)}.txt", f"{first}\n{rest}")
    except (OSError, ValueError) as error:
        tell(f"  the diagnosis of {file.stem} cannot be kept: {error}")
        return 0
    return len(texts)


def _plain(name: str) -> str:
    """Return a name that is one file's in any folder."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "_"
