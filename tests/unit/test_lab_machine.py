"""What images take over from the machine that builds them: its package sources, proxies and certificates."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest

from pyharness.lab import machine
from pyharness.lab.machine import Source

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

MIRROR = "http://mirror.example/debian"
DEB822 = f"""\
# a comment
Types: deb
URIs: {MIRROR}
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://vendor.example/debian
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/vendor.gpg

Types: deb
URIs: http://other.example/debian
Suites: bookworm
Components: stable
"""
ONE_LINE = f"""\
# deb http://commented.example/debian bookworm main
deb-src {MIRROR} bookworm main
deb {MIRROR} bookworm main contrib # a comment
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {MIRROR} bookworm-updates main
deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.example/debian bookworm main
deb http://vendor.example/debian vendor-bookworm main
deb http://other.example/debian bookworm stable
"""


def debian(root: Path, codename: str = "bookworm", identity: str = "debian") -> Path:
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text(f'ID={identity}\nVERSION_CODENAME="{codename}"\n')
    return root


def test_sources_in_stanzas_are_debians_own(tmp_path: Path) -> None:
    (debian(tmp_path) / "etc/apt/sources.list.d/debian.sources").write_text(DEB822)
    assert machine.debian_sources(tmp_path) == [
        Source(MIRROR, "bookworm", ("main", "contrib")),
        Source(MIRROR, "bookworm-updates", ("main", "contrib")),
        Source("http://security.example/debian-security", "bookworm-security", ("main",)),
    ]


def test_sources_in_lines_are_debians_own(tmp_path: Path) -> None:
    (debian(tmp_path) / "etc/apt/sources.list").write_text(ONE_LINE)
    (tmp_path / "etc/apt/sources.list.d/more.list").write_text(f"deb {MIRROR} bookworm-security main\n")
    assert machine.debian_sources(tmp_path) == [
        Source(MIRROR, "bookworm", ("main", "contrib")),
        Source(MIRROR, "bookworm-updates", ("main",)),
        Source(MIRROR, "bookworm-security", ("main",)),
    ]


def test_another_release_of_debian_has_the_same_mirrors(tmp_path: Path) -> None:
    lines = f"deb {MIRROR} trixie main\ndeb {MIRROR} trixie-updates main\n"
    (debian(tmp_path, "trixie") / "etc/apt/sources.list").write_text(lines)
    assert [source.suite for source in machine.debian_sources(tmp_path)] == ["bookworm", "bookworm-updates"]


def test_another_system_has_no_sources_of_debian(tmp_path: Path) -> None:
    assert machine.debian_sources(tmp_path) == []
    (debian(tmp_path, "noble", "ubuntu") / "etc/apt/sources.list").write_text("deb http://ubuntu.example noble main\n")
    assert machine.debian_sources(tmp_path) == []


def test_a_source_is_written_as_apt_reads_it() -> None:
    line = Source(MIRROR, "bookworm", ("main", "contrib")).text()
    assert line == (f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {MIRROR} bookworm main contrib\n")


def program(folder: Path, name: str, output: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\n")
    (folder / name).chmod(0o755)


def test_apts_settings_are_those_that_decide_about_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(
        tmp_path,
        "apt-config",
        'Acquire "";\nAcquire::Languages "de";\nAcquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";\nAcquire::https "";\n'
        'Acquire::https::CAInfo "/etc/ssl/own.pem";\nAcquire::Check-Date "false";\n',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("http_proxy", "http://ignored.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://secure.example")
    assert machine.apt_settings().splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::CAInfo "/etc/ssl/own.pem";',
        'Acquire::Check-Date "false";',
        'Acquire::https::Proxy "http://secure.example";',
        'Acquire::Languages "none";',
    ]


def test_pips_indexes_are_handed_on_and_files_of_this_machine_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path,
        "python",
        "global.cert='/etc/ssl/own.pem'\nglobal.index-url='https://index.example/simple'\n"
        "global.find-links='/opt/somewhere'\nglobal.extra-index-url='file:///opt/simple https://more.example'\n"
        "global.trusted-host='file:///only'\n",
    )
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert machine.pip_configuration().splitlines() == [
        "[global]",
        "cert = /etc/ssl/certs/ca-certificates.crt",
        "index-url = https://index.example/simple",
        "extra-index-url = https://more.example",
    ]


def test_names_from_a_file_are_handed_on_unless_they_are_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(
        "127.0.0.1 localhost\n127.0.1.1 me\n::1 localhost\nff02::1 all\nnonsense here\n\n"
        "192.0.2.7 mirror.example mirror # the mirror\n192.0.2.8 mirror\n2001:db8::7 six.example\n"
    )
    assert machine.named_hosts(file) == {"mirror.example": "192.0.2.7", "mirror": "192.0.2.7"}
    assert machine.named_hosts(tmp_path / "none") == {}


# As on a little-endian machine: the numbers are bytes from the last to the first.
ROUTES = """\
Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0
eth7 00000000 010200C0 0003 0 0 0 00000000 0 0 0
"""


def test_where_this_machine_sends_packets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.byteorder", "little")
    (tmp_path / "route").write_text(ROUTES)
    assert machine.routes(tmp_path / "route") == [
        ("docker0", IPv4Network("172.17.0.0/16")),
        ("eth7", IPv4Network("0.0.0.0/0")),
    ]


def test_the_largest_packet_is_that_of_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "eth7").mkdir()
    (tmp_path / "eth7/mtu").write_text("1400\n")
    routes = tmp_path / "route"
    routes.write_text(ROUTES)
    assert machine.mtu(routes, tmp_path) == 1400
    routes.write_text(ROUTES.splitlines()[0])
    assert machine.mtu(routes, tmp_path) == 1500


def test_an_image_gets_certificates_and_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.crt").write_text("own")
    (tmp_path / "bundle.pem").write_text("bundle")
    monkeypatch.setattr(machine, "_CERTIFICATES", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.setattr(machine, "debian_sources", lambda: [Source(MIRROR, "bookworm", ("main",))])
    files = machine.image_files()
    assert files[f"{str(tmp_path).lstrip('/')}/own.crt"] == b"own"
    assert files["etc/ssl/certs/ca-certificates.crt"] == b"bundle"
    assert MIRROR.encode() in files["etc/apt/sources.list"]
    assert files["etc/apt/sources.list.d/debian.sources"] == b""


def test_without_sources_of_its_own_an_image_keeps_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "debian_sources", list)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    files = machine.image_files()
    assert not [name for name in files if "sources" in name]
    assert files["etc/ssl/certs/ca-certificates.crt"] == b""
