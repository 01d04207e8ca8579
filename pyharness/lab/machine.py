"""What this machine knows of package sources, proxies and certificates, as files for an image.

Nothing of it is written into the project: an image gets what the machine that builds it has.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import ssl
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

SUITE = "bookworm"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
# Of apt's configuration only what decides whether a download works. Auto-detection calls a program of this machine.
_APT_SETTING = re.compile(r'^Acquire::(?:https?::|Check-Valid-Until|Check-Date)[^ ]* ".+";$')
_PIP_SETTING = re.compile(r"^(?:global|install)\.(index-url|extra-index-url|trusted-host)='(.+)'$")


@dataclass(frozen=True)
class Source:
    """One line of apt's sources: binary packages of Debian.

    Attributes:
        uri: the mirror.
        suite: such as bookworm-updates.
        components: such as main.
    """

    uri: str
    suite: str
    components: tuple[str, ...]

    def text(self) -> str:
        """Return it as apt reads it."""
        return f"deb [signed-by={_KEYRING}] {self.uri} {self.suite} {' '.join(self.components)}\n"


def debian_sources(root: Path = Path("/")) -> list[Source]:
    """Return this machine's sources of Debian itself, for the suite that the lab uses.

    Args:
        root: where the file system begins.

    Returns:
        none if this machine is no Debian. A machine of another Debian release has the same mirrors.
    """
    own = _codename(root)
    if not own:
        return []
    suites = {own + tail: SUITE + tail for tail in ("", "-updates", "-security")}
    files = [root / "etc/apt/sources.list", *sorted((root / "etc/apt/sources.list.d").glob("*.list"))]
    found = [source for file in files if file.is_file() for source in _one_line_style(file.read_text())]
    for file in sorted((root / "etc/apt/sources.list.d").glob("*.sources")):
        found += _deb822_style(file.read_text())
    return [Source(one.uri, suites[one.suite], one.components) for one in found if one.suite in suites]


def _codename(root: Path) -> str:
    try:
        lines = (root / "etc/os-release").read_text().splitlines()
    except OSError:
        return ""
    values = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return values.get("VERSION_CODENAME", "") if values.get("ID") == "debian" else ""


def _one_line_style(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        match = re.match(r"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if match and _is_debians(dict(_options(match[1] or "")).get("signed-by", "")):
            found.append(Source(match[2], match[3], tuple(match[4].split())))
    return [source for source in found if "main" in source.components]


def _options(text: str) -> list[tuple[str, str]]:
    return [(key.lower(), value) for key, _, value in (word.partition("=") for word in text.split())]


def _deb822_style(text: str) -> list[Source]:
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
                continue
            name, _, value = line.partition(":")
            key = name.strip().lower()
            fields[key] = value.strip()
        components = tuple(fields.get("components", "").split())
        wanted = "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no"
        if wanted and "main" in components and _is_debians(fields.get("signed-by", "")):
            found += [
                Source(uri, suite, components)
                for uri in fields.get("uris", "").split()
                for suite in fields.get("suites", "").split()
            ]
    return found


def _is_debians(signed_by: str) -> bool:
    """Tell whether a source is signed with Debian's own keys; where it says nothing, it is."""
    return not signed_by or "debian-archive" in signed_by


def apt_settings() -> str:
    """Return those of apt's settings on this machine that decide whether a download works."""
    lines = []
    if shutil.which("apt-config"):
        dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
        lines = [line for line in dump.splitlines() if _APT_SETTING.match(line) and "Auto-Detect" not in line]
    for scheme in ("http", "https"):
        proxy = proxies().get(f"{scheme}_proxy")
        if proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    # Descriptions in other languages are most of what an update downloads.
    return "\n".join([*lines, 'Acquire::Languages "none";', ""])


def proxies() -> dict[str, str]:
    """Return the proxies of this process's environment, by their names in lower case."""
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: value for name in names if (value := os.environ.get(name) or os.environ.get(name.upper()))}


def pip_configuration() -> str:
    """Return pip's configuration for an image: this machine's indexes, as far as they are not files of it."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = ["[global]", f"cert = /{_BUNDLE}"]
    for line in listed.splitlines():
        if match := _PIP_SETTING.match(line):
            words = [word for word in match[2].replace("\\n", " ").split() if not word.startswith(("/", "file:"))]
            lines += [f"{match[1]} = {' '.join(words)}"] if words else []
    return "\n".join([*lines, ""])


def named_hosts(hosts: Path = Path("/etc/hosts")) -> dict[str, str]:
    """Return the names that this machine knows by a file alone, address by name; containers do not see that file."""
    found: dict[str, str] = {}
    for line in hosts.read_text().splitlines() if hosts.is_file() else []:
        address, *names = line.partition("#")[0].split() or [""]
        try:
            local = ipaddress.ip_address(address).is_loopback or ipaddress.ip_address(address).is_multicast
        except ValueError:
            continue
        if not local and ":" not in address:
            found |= {name: address for name in names if name not in found}
    return found


def image_files() -> dict[str, bytes]:
    """Return the files that an image needs to install packages as this machine does, by their path in the image."""
    files = {
        "etc/apt/apt.conf.d/90lab": apt_settings().encode(),
        "etc/pip.conf": pip_configuration().encode(),
        # For sources over HTTPS, until the package ca-certificates is there and makes its own.
        _BUNDLE: _bundle(),
        "usr/local/share/ca-certificates/README": b"Certificates of the machine that built this image.\n",
    }
    files |= {str(file).lstrip("/"): file.read_bytes() for file in sorted(_CERTIFICATES.rglob("*.crt"))}
    if sources := debian_sources():
        files["etc/apt/sources.list"] = "".join(source.text() for source in sources).encode()
        files["etc/apt/sources.list.d/debian.sources"] = b""  # the one of a public image
    return files


def _bundle() -> bytes:
    chosen = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or f"/{_BUNDLE}"
    return Path(chosen).read_bytes() if Path(chosen).is_file() else b""


def routes(file: Path = Path("/proc/net/route")) -> list[tuple[str, IPv4Network]]:
    """Return where this machine sends packets: device and network, as the kernel lists them."""
    found = []
    for line in file.read_text().splitlines()[1:]:
        fields = line.split()
        # The kernel prints each address as one number in the machine's byte order.
        address, mask = (IPv4Address(int(fields[n], 16).to_bytes(4, sys.byteorder)) for n in (1, 7))
        found.append((fields[0], IPv4Network(f"{address}/{mask}")))
    return found


def mtu(file: Path = Path("/proc/net/route"), devices: Path = Path("/sys/class/net")) -> int:
    """Return the largest packet, in bytes, of this machine's way out: a network with larger ones loses them there."""
    ways_out = [device for device, network in routes(file) if network.prefixlen == 0]
    return int((devices / ways_out[0] / "mtu").read_text()) if ways_out else 1500
