"""Run a module of the collection as Ansible does, in this process."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.testing import patch_module_args

if TYPE_CHECKING:
    from types import ModuleType


def run(module: ModuleType, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a module. Returns its result, `failed` included."""
    told = io.StringIO()
    given = {**arguments, "_ansible_check_mode": check}
    with patch_module_args(given), contextlib.redirect_stdout(told), pytest.raises(SystemExit):
        module.main()
    result = json.loads(told.getvalue())
    assert isinstance(result, dict)
    return result
