"""Have the Ansible collections that the project's own one depends on, without Galaxy.

    python -m pyharness.collections

Where Galaxy can be reached, `ansible-galaxy collection install -r requirements.yml` does the same. The package
`ansible` of the Python index bundles the same collections; of its pinned wheel only those are unpacked, beside
ansible-core, where Ansible looks for collections by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

# The release of the package `ansible` that pairs with ansible-core 2.19, and what is taken of it, with the versions
# that it bundles. The second is what the first depends on.
BUNDLE = "12.3.0"
COLLECTIONS = {"community.docker": "4.8.5", "community.library_inventory_filtering_v1": "1.1.5"}


def missing(site: Path) -> list[str]:
    """Return the collections that are not below `site` in the wanted version.

    Args:
        site: a folder that Python packages are installed in.
    """
    result = []
    for name, version in COLLECTIONS.items():
        manifest = site / "ansible_collections" / Path(*name.split(".")) / "MANIFEST.json"
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"]
        except (OSError, ValueError, KeyError):
            found = None
        if found != version:
            result.append(name)
    return result


def install(site: Path) -> None:
    """Unpack what is missing below `site`.

    Args:
        site: a folder that Python packages are installed in.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch the bundle; it has said why.
    """
    names = missing(site)
    if not names:
        return
    folders = tuple(f"ansible_collections/{name.replace('.', '/')}/" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--dest", folder, f"ansible=={BUNDLE}"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site, [entry for entry in archive.namelist() if entry.startswith(folders)])
    still = missing(site)
    if still:
        message = f"ansible {BUNDLE} does not bundle {', '.join(f'{name} {COLLECTIONS[name]}' for name in still)}"
        raise RuntimeError(message)


if __name__ == "__main__":
    install(Path(sysconfig.get_path("purelib")))
