#!/usr/bin/python
"""Have a repository's signing key as a keyring, only if it is the one that was named by its fingerprint."""

from __future__ import annotations

DOCUMENTATION = r"""
module: signing_key
short_description: Have a repository's signing key, pinned by its fingerprint
description:
  - Fetches a key, compares its fingerprint, and only then writes it as a keyring for C(Signed-By).
  - A file with more than one primary key is refused, because apt would trust each of them.
  - When the keyring is there with that fingerprint, nothing is fetched.
options:
  url:
    description: Where the key is.
    type: str
    required: true
  fingerprint:
    description: The fingerprint of its primary key, 40 hexadecimal digits; spaces and case do not count.
    type: str
    required: true
  path:
    description: The keyring to write. Its directory is made when it is missing.
    type: path
    required: true
  timeout:
    description: Seconds for the download.
    type: int
    default: 30
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Have the vendor's key
  disagg.e2e.signing_key:
    url: https://repository.example/GPGKEY
    fingerprint: 0123 4567 89AB CDEF 0123 4567 89AB CDEF 0123 4567
    path: /etc/apt/keyrings/vendor.gpg
"""

RETURN = r"""
fingerprint:
  description: The fingerprint of the key in the keyring.
  returned: success
  type: str
"""

import os
import re
import tempfile
from http.client import HTTPException

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.disagg.e2e.plugins.module_utils import openpgp

_LARGEST_KEY_FILE = 1 << 20


def _present(path: str) -> list[str]:
    """Return the fingerprints in the keyring that is there."""
    try:
        with open(path, "rb") as stream:
            return openpgp.fingerprints(stream.read())
    except (OSError, openpgp.KeyFileError):
        return []


def _checked(module: AnsibleModule, wanted: str) -> bytes:
    """Fetch the key and return it, or end the module when it is not the wanted one."""
    url = module.params["url"]
    try:
        with open_url(url, timeout=module.params["timeout"]) as response:
            content = response.read(_LARGEST_KEY_FILE)
    except (OSError, HTTPException, ValueError) as error:
        module.fail_json(msg=f"the signing key cannot be fetched from {url}: {error}; check the URL and the network")
    try:
        found = openpgp.fingerprints(content)
    except openpgp.KeyFileError as error:
        module.fail_json(msg=f"{url} is no signing key: {error}; check the URL")
    if found != [wanted]:
        module.fail_json(
            msg=f"the signing key at {url} has the fingerprint {' and '.join(found)}, not {wanted}: it is not trusted "
            "and nothing was installed; ask the vendor over a second way before you change the fingerprint",
            found=found,
        )
    return openpgp.binary(content)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "fingerprint": {"type": "str", "required": True, "no_log": False},
            "path": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    wanted = re.sub(r"\s", "", module.params["fingerprint"]).upper()
    if not re.fullmatch(r"[0-9A-F]{40}", wanted):
        module.fail_json(msg=f"{module.params['fingerprint']!r} is no fingerprint: 40 hexadecimal digits are needed")
    if _present(path) == [wanted]:
        module.exit_json(changed=False, fingerprint=wanted)
    key = _checked(module, wanted)
    if not module.check_mode:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=module.tmpdir, delete=False) as stream:
            stream.write(key)
        module.atomic_move(stream.name, path)
        module.set_mode_if_different(path, 0o644, changed=True)
    module.exit_json(changed=True, fingerprint=wanted)


if __name__ == "__main__":
    main()
