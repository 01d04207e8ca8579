"""Make an apt repository laid out like the vendor's, signed with a key made here: /srv/erdma.

Its packages carry the vendor's names and next to nothing. The headers' package stands in for the distribution's own,
which has none for the kernel that containers run on; with the argument `headers` it is left out. Made again, it keeps
its key.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SITE = Path("/srv/erdma")
RELEASE = "bookworm"
SUITE = SITE / "apt" / "debian" / "dists" / RELEASE / "erdma"
POOL = SITE / "apt" / "debian" / "pool"
# What DKMS says when it cannot build, and how the vendor's package then ends.
BROKEN = """#!/bin/sh
echo 'Error! Bad return status for module build on kernel: 6.1.0 (x86_64)' >&2
echo 'Consult /var/lib/dkms/erdma/1.0.2/build/make.log for more information.' >&2
exit 10
"""
# What ibv_devinfo prints of a device, if the container was given its nodes.
DEVINFO = """#!/bin/sh
nodes=/srv/node/dev/infiniband
[ -c $nodes/uverbs0 ] && [ -c $nodes/rdma_cm ] || { echo 'No IB devices found'; exit 255; }
[ "$1 $2" = "-d erdma_0" ] || { echo "IB device '$2' wasn't found"; exit 255; }
printf 'hca_id:\\terdma_0\\n\\ttransport:\\t\\t\\teRDMA (0)\\n\\tfw_ver:\\t\\t\\t\\t0.2.0\\n'
printf '\\t\\tport:\\t1\\n\\t\\t\\tstate:\\t\\t\\tPORT_ACTIVE (4)\\n\\t\\t\\tlink_layer:\\t\\tEthernet\\n'
"""


def package(name: str, files: dict[str, str]) -> Path:
    """Make one package and return its file."""
    root = Path("/srv/packages") / name
    shutil.rmtree(root, ignore_errors=True)
    control = f"Package: {name}\nVersion: 99.0-1\nArchitecture: all\nMaintainer: test\nDescription: a double\n"
    for path, text in {"DEBIAN/control": control, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o644 if path == "DEBIAN/control" else 0o755)
    made = POOL / f"{name}_99.0-1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, made], check=True, capture_output=True)
    return made


def main() -> None:
    """Make the repository."""
    POOL.mkdir(parents=True, exist_ok=True)
    index = SUITE / "main" / f"binary-{subprocess.check_output(['dpkg', '--print-architecture'], text=True).strip()}"
    index.mkdir(parents=True, exist_ok=True)
    names = ["erdma", "libibverbs1", "ibverbs-providers", "librdmacm1", f"linux-headers-{os.uname().release}"]
    made = [package(name, {}) for name in names if "headers" not in name or "headers" not in sys.argv]
    made.append(package("ibverbs-utils", {"usr/bin/ibv_devinfo": DEVINFO}))
    made.append(package("erdma-broken", {"DEBIAN/postinst": BROKEN}))
    entries = []
    for file in made:
        control = subprocess.check_output(["dpkg-deb", "--field", file], text=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        entries.append(f"{control}Filename: pool/{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n")
    (index / "Packages").write_text("\n".join(entries))
    content = (index / "Packages").read_bytes()
    (SUITE / "Release").write_text(
        f"Origin: test\nSuite: {RELEASE}/erdma\nCodename: {RELEASE}/erdma\nComponents: main\n"
        f"Date: {subprocess.check_output(['date', '-Ru'], text=True)}"
        f"SHA256:\n {hashlib.sha256(content).hexdigest()} {len(content)} main/{index.name}/Packages\n"
    )
    gpg = ["gpg", "--homedir", "/srv/gnupg", "--batch", "--yes", "--quiet"]
    if not Path("/srv/gnupg").exists():
        Path("/srv/gnupg").mkdir(mode=0o700)
        quick = [
            "--passphrase",
            "",
            "--quick-generate-key",
            "erdma <erdma@repository.example>",
            "ed25519",
            "sign",
            "never",
        ]
        subprocess.run([*gpg, *quick], check=True, capture_output=True)
    subprocess.run([*gpg, "--clearsign", "--output", SUITE / "InRelease", SUITE / "Release"], check=True)
    subprocess.run([*gpg, "--armor", "--output", SITE / "GPGKEY", "--export"], check=True)
    told = subprocess.check_output([*gpg, "--list-keys", "--with-colons"], text=True)
    (SITE / "fingerprint").write_text(next(line for line in told.splitlines() if line.startswith("fpr")).split(":")[9])


if __name__ == "__main__":
    main()
