"""What provisioning has learned of the nodes, kept for a run's further playbooks and for a run that goes on with it.

Ansible writes it. It holds variables as they are, secrets too, so it lies in the cache, in folders that only this user
can look into, and never among the results.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from pyharness import paths, redaction

if TYPE_CHECKING:
    from pathlib import Path

# Of runs that did not pass; who goes on with one does so soon.
_KEPT_RUNS = 20
_SECRETS = ".secrets.json"


def folder(run: str) -> Path:
    """Return where the facts of a run are.

    Args:
        run: the run id.
    """
    return paths.cache() / "facts" / run


def begin(run: str) -> Path:
    """Have the folder for the facts of a run, and forget those of long ago. Returns it.

    Raises:
        OSError: it cannot be made.
    """
    own = folder(run)
    own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own.mkdir(mode=0o700, exist_ok=True)
    for old in sorted(own.parent.iterdir())[:-_KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return own


def provisioned(run: str) -> Path:
    """Return the file in which provisioning leaves what a run's further playbooks go by.

    Args:
        run: the run id.
    """
    return folder(run) / "provisioned.json"


def are_known(run: str) -> bool:
    """Tell whether provisioning has left anything for a run's further playbooks."""
    return provisioned(run).exists()


def keep_secrets(run: str) -> None:
    """Keep what this process has learned to hide, for who takes the run's logs home after it (`learn_secrets`)."""
    with suppress(OSError):  # a full disk, or a run whose facts are forgotten
        descriptor = os.open(folder(run) / _SECRETS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(redaction.known(), stream)


def learn_secrets(run: str) -> None:
    """Learn to hide what the harness of a run had learned. A run that has left nothing of that is no error."""
    try:
        known = json.loads((folder(run) / _SECRETS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for value, name in known.items():
        redaction.learn(name, value)


def forget(run: str) -> None:
    """Forget the facts of a run. One that has none is no error."""
    with suppress(OSError):
        shutil.rmtree(folder(run))
