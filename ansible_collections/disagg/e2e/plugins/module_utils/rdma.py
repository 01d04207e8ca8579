"""RDMA devices of a machine as the kernel shows them below /sys, and what they lack to carry a KV cache.

Standard library only, and changes nothing. Both roots can be given, so that recorded trees are read by the same code.

Sources: the kernel's Documentation/ABI/stable/sysfs-class-infiniband (states, GIDs, node types). In upstream mode the
eRDMA driver registers its device as an RNIC, that is iWARP; with its parameter compat_mode it registers a CA with
RoCE v2 GIDs (Alibaba's elastic-rdma-drivers, kernel/src/erdma_main.c and erdma_verbs.c). Its PCI function is 1ded:107f,
beside that of the network interface (the same project's kernel/README.md).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ansible_collections.disagg.e2e.plugins.module_utils import traffic

ERDMA_DRIVER = "erdma"
_ERDMA_PCI = ("0x1ded", "0x107f")
_ACTIVE = "ACTIVE"
# What a device has to be for Mooncake's queue pairs is the caller's to say; these are the words for it.
MODES = ("roce", "iwarp", "infiniband")
_MODE_NAMES = {"roce": "RoCE", "iwarp": "iWARP", "infiniband": "InfiniBand", None: "of an unknown kind"}


def _mode(node_type: str | None, link_layer: str | None) -> str | None:
    """Tell RoCE, iWARP and InfiniBand apart, as the kernel's rdma_node_get_transport does."""
    kind = (node_type or "").partition(":")[2].strip()
    if kind == "RNIC":
        return "iwarp"
    if kind == "CA":
        return {"Ethernet": "roce", "InfiniBand": "infiniband"}.get(link_layer or "")
    return None


def _link_name(path: Path) -> str | None:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None


def _gids(port: Path) -> list[dict[str, Any]]:
    """List a port's GIDs. An entry that is not in use is all zero, and has neither type nor network device."""
    result = []
    for entry in sorted((port / "gids").glob("*"), key=lambda path: int(path.name)):
        gid = traffic.read_text(entry)
        if gid is not None:
            result.append(
                {
                    "index": int(entry.name),
                    "gid": gid,
                    "type": traffic.read_text(port / "gid_attrs" / "types" / entry.name),
                    "netdev": traffic.read_text(port / "gid_attrs" / "ndevs" / entry.name),
                    "usable": bool(gid.replace(":", "").strip("0")),
                }
            )
    return result


def _node(path: Path) -> dict[str, Any]:
    """Describe a device node: its path, and whether the caller can use it."""
    try:
        is_device = stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        is_device = False
    return {"path": str(path), "present": is_device, "usable": is_device and os.access(path, os.R_OK | os.W_OK)}


def _netdevs(device: Path, ports: list[dict[str, Any]]) -> list[str]:
    """List a device's network interfaces. An eRDMA interface's PCI function has none: its GIDs name it."""
    own = {entry.name for entry in (device / "device" / "net").glob("*")}
    return sorted(own | {gid["netdev"] for port in ports for gid in port["gids"] if gid["netdev"]})


def _uverbs(classes: Path, dev: Path, device: str) -> list[dict[str, Any]]:
    found = sorted(classes.glob("infiniband_verbs/uverbs*"))
    return [_node(dev / "infiniband" / path.name) for path in found if traffic.read_text(path / "ibdev") == device]


def devices(sysfs: str = "/sys", dev: str = "/dev") -> list[dict[str, Any]]:
    """List the RDMA devices of this machine.

    Args:
        sysfs: where sysfs is mounted.
        dev: where the device nodes are.

    Returns:
        for each: name, driver, vendor (PCI), node_type, mode (one of MODES; None if it is none of them), firmware,
        netdevs, uverbs (device nodes: path, present, usable), ports (port, state, phys_state, link_layer, rate, gids,
        and sent and received in bytes as traffic.rdma_ports has them).
    """
    classes = Path(sysfs) / "class"
    root = classes / "infiniband"
    counted = {(entry["device"], entry["port"]): entry for entry in traffic.rdma_ports(str(root))}
    result = []
    for path in sorted(root.glob("*")):
        ports = []
        for number in sorted(port for name, port in counted if name == path.name):
            folder = path / "ports" / str(number)
            entry = {key: value for key, value in counted[path.name, number].items() if key != "device"}
            entry.update({key: traffic.read_text(folder / key) for key in ("phys_state", "link_layer", "rate")})
            entry["gids"] = _gids(folder)
            ports.append(entry)
        node_type = traffic.read_text(path / "node_type")
        result.append(
            {
                "name": path.name,
                "driver": _link_name(path / "device" / "driver"),
                "vendor": traffic.read_text(path / "device" / "vendor"),
                "node_type": node_type,
                "mode": _mode(node_type, ports[0]["link_layer"] if ports else None),
                "firmware": traffic.read_text(path / "fw_ver"),
                "netdevs": _netdevs(path, ports),
                "uverbs": _uverbs(classes, Path(dev), path.name),
                "ports": ports,
            }
        )
    return result


def kernel_module(sysfs: str = "/sys", name: str = ERDMA_DRIVER) -> dict[str, Any]:
    """Describe a kernel module: name, loaded, version, compat_mode (None: no such parameter, or not loaded)."""
    path = Path(sysfs) / "module" / name
    mode = traffic.read_text(path / "parameters" / "compat_mode")
    return {
        "name": name,
        "loaded": path.is_dir(),
        "version": traffic.read_text(path / "version"),
        "compat_mode": None if mode is None else mode in ("Y", "1"),
    }


def connection_manager(dev: str = "/dev") -> dict[str, Any]:
    """Describe the device node of RDMA's connection manager, as `devices` describes uverbs nodes."""
    return _node(Path(dev) / "infiniband" / "rdma_cm")


def erdma_functions(sysfs: str = "/sys") -> list[str]:
    """List the addresses of the PCI functions that are eRDMA interfaces, with a driver or without."""
    functions = sorted(Path(sysfs).glob("bus/pci/devices/*"))
    return [
        path.name
        for path in functions
        if (traffic.read_text(path / "vendor"), traffic.read_text(path / "device")) == _ERDMA_PCI
    ]


def lacks(device: dict[str, Any], mode: str | None = None) -> list[dict[str, str]]:
    """Say what a device lacks to be used.

    Args:
        device: as `devices` has it.
        mode: what it has to be, one of MODES; None for any.

    Returns:
        for each lack: what (a statement about the device) and remedy. Empty when nothing is missing.
    """
    name = device["name"]
    found = []
    if mode is not None and device["mode"] != mode:
        remedy = f"choose a device that is {_MODE_NAMES[mode]} (erdma_devices), or another erdma_mode"
        if device["driver"] == ERDMA_DRIVER:
            wanted = "Y" if mode == "roce" else "N"
            remedy = (
                f"load its driver with compat_mode={wanted}: modprobe -r erdma, modprobe erdma compat_mode={wanted}"
            )
        what = f"{name} is {_MODE_NAMES[device['mode']]} (node type {device['node_type']}), not {_MODE_NAMES[mode]}"
        found.append({"what": what, "remedy": remedy})
    active = [port for port in device["ports"] if (port["state"] or "").endswith(_ACTIVE)]
    netdev = next(iter(device["netdevs"]), None)
    interface = f"its network interface {netdev}" if netdev else "its network interface"
    if not active:
        states = ", ".join(f"port {port['port']} is {port['state']}" for port in device["ports"]) or "it has no port"
        remedy = f"bring {interface} up (ip link set … up)"
        found.append({"what": f"{name} is not ACTIVE ({states})", "remedy": remedy})
    elif not any(gid["usable"] for port in active for gid in port["gids"]):
        remedy = f"give {interface} an address; ip address tells which it has"
        found.append({"what": f"{name} is ACTIVE, but all its GIDs are zero", "remedy": remedy})
    nodes = device["uverbs"]
    if not any(node["present"] for node in nodes):
        remedy = "load the kernel module ib_uverbs: modprobe ib_uverbs"
        where = ", ".join(node["path"] for node in nodes) or "/dev/infiniband/uverbs*"
        found.append({"what": f"{name} has no device node ({where})", "remedy": remedy})
    elif not any(node["usable"] for node in nodes):
        path = nodes[0]["path"]
        found.append({"what": f"{path} of {name} cannot be read and written", "remedy": f"mend the rights of {path}"})
    return found


def _nothing_there(sysfs: str) -> dict[str, str]:
    """Say why there is no RDMA device at all."""
    module = kernel_module(sysfs)
    functions = erdma_functions(sysfs)
    if not module["loaded"]:
        what = "there is no RDMA device, so only TCP is there; the kernel module erdma is not loaded"
        remedy = "run role erdma on the node, or set disagg_transport to tcp"
        if functions:
            what += f", though the machine has an eRDMA interface (PCI {functions[0]})"
        return {"what": what, "remedy": remedy}
    version = f" {module['version']}" if module["version"] else ""
    what = f"the kernel module erdma{version} is loaded, but no RDMA device appeared: a module alone carries nothing"
    if functions:
        remedy = f"see what it says of PCI {functions[0]}: dmesg | grep -i erdma"
        return {"what": f"{what}; the eRDMA interface at PCI {functions[0]} was not taken by it", "remedy": remedy}
    remedy = "attach a network interface with eRDMA (ERI) to the instance; lspci -d 1ded:107f has to list it"
    return {"what": f"{what}; no eRDMA interface (PCI 1ded:107f) is attached", "remedy": remedy}


def judge(
    found: list[dict[str, Any]], wanted: list[str], mode: str | None = None, sysfs: str = "/sys"
) -> dict[str, Any]:
    """Judge whether the devices of a machine are what is wanted.

    Args:
        found: as `devices` has it.
        wanted: the devices that have to be usable, by name; empty when any one will do.
        mode: what they have to be, one of MODES; None for any.
        sysfs: where sysfs is mounted, to tell why nothing is there.

    Returns:
        usable (names), missing (by name, statements), problem and remedy (both empty when all is well), driver_helps
        (whether installing or loading the eRDMA driver anew can make it well).
    """
    missing = {device["name"]: lacks(device, mode) for device in found}
    usable = [name for name, lacking in missing.items() if not lacking]
    lines: list[dict[str, str]] = []
    driver_helps = False
    absent = [name for name in wanted if name not in missing]
    if not found:
        lines = [_nothing_there(sysfs)]
        driver_helps = True
    elif absent:
        what = f"no RDMA device {', '.join(absent)}; there are: {', '.join(missing)}"
        lines = [{"what": what, "remedy": "correct erdma_devices, or attach the network interface that is missing"}]
    elif wanted or not usable:
        asked = [device for device in found if device["name"] in wanted or not wanted]
        lines = [lack for device in asked for lack in missing[device["name"]]]
        driver_helps = mode is not None and any(
            device["driver"] == ERDMA_DRIVER and device["mode"] != mode for device in asked
        )
        if driver_helps and mode == "roce" and kernel_module(sysfs)["compat_mode"] is None:
            what = "the erdma module that is loaded has no compat_mode: it is the kernel's own, not the vendor's"
            remedy = "install the vendor's (role erdma); if it is installed: dkms status erdma, then modprobe -r erdma"
            lines.insert(0, {"what": what, "remedy": remedy})
    return {
        "usable": usable,
        "missing": {name: [lack["what"] for lack in lacking] for name, lacking in missing.items()},
        "problem": "; ".join(line["what"] for line in lines),
        "remedy": lines[0]["remedy"] if lines else "",
        "driver_helps": driver_helps,
    }
