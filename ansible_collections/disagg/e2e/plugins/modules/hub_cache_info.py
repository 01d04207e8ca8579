#!/usr/bin/python
"""Read which models of a hub lie complete in a cache on this node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hub_cache_info
short_description: Read which models of a hub lie complete in a cache on this node, without changing anything
description:
  - A model that is complete can be served without the hub (C(HF_HUB_OFFLINE=1)), and its configuration tells how much
    KV cache a token has.
  - Knows the caches of the Hugging Face hub (U(https://huggingface.co/docs/huggingface_hub/guides/manage-cache)) and of
    ModelScope.
options:
  cache_dir:
    description: The cache of caches, such as C(/root/.cache), with C(huggingface/hub) or C(modelscope/hub) in it.
    type: path
    required: true
  models:
    description: For each model its C(path), the hub's name or a directory, and its C(revision) (default C(main)).
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The hub's name, or a directory of the node.
        type: str
        required: true
      revision:
        description: A branch, tag or commit.
        type: str
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: See what need not be downloaded
  disagg.e2e.hub_cache_info:
    cache_dir: /root/.cache
    models: [{path: Qwen/Qwen3-8B}]
"""

RETURN = r"""
models:
  description: >-
    For each model, in order, C(cached) (complete on this node), C(revision) (the commit, or null) and C(config) (its
    config.json, or null).
  returned: success
  type: list
  elements: dict
"""

import json
from pathlib import Path
from typing import Any, Iterator

from ansible.module_utils.basic import AnsibleModule


def _folders(cache: Path, name: str, revision: str) -> Iterator[tuple[Path, str | None]]:
    """Yield where a model may lie, with the commit that it is where the cache tells."""
    if name.startswith("/"):
        yield Path(name), None
        return
    hugging_face = cache / "huggingface" / "hub" / f"models--{name.replace('/', '--')}"
    try:
        commit = (hugging_face / "refs" / revision).read_text().strip()
    except OSError:
        commit = revision
    yield hugging_face / "snapshots" / commit, commit
    # ModelScope writes dots of a name as three underscores, and has moved its models one level down once.
    for part in (Path("models"), Path()):
        yield cache / "modelscope" / "hub" / part / name.replace(".", "___"), None


def _is_complete(folder: Path) -> bool:
    """Tell whether a model's weights are all there."""
    index = folder / "model.safetensors.index.json"
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if shards:
        return all((folder / shard).exists() for shard in shards)
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def _look(cache: Path, model: dict[str, Any]) -> dict[str, Any]:
    for folder, commit in _folders(cache, model["path"], model["revision"] or "main"):
        try:
            config = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError):
            continue
        return {"cached": _is_complete(folder), "revision": commit, "config": config}
    return {"cached": False, "revision": None, "config": None}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "cache_dir": {"type": "path", "required": True},
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"path": {"type": "str", "required": True}, "revision": {"type": "str"}},
            },
        },
        supports_check_mode=True,
    )
    cache = Path(module.params["cache_dir"])
    module.exit_json(changed=False, models=[_look(cache, model) for model in module.params["models"]])


if __name__ == "__main__":
    main()
