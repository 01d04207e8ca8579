"""The verb `lab` of the command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from pyharness.errors import UsageError
from pyharness.lab.model import Lab

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
exit codes: 0 done (status: all is up), 1 status: not all is up, 2 error or usage
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see: python -m pyharness lab --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pyharness lab",
        description="Two hosts made of containers, with systemd, sshd and room for a Docker engine, and a registry.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="bring it up; what is up is left alone", allow_abbrev=False)
    up.add_argument(
        "--engine", choices=("simulator", "sglang"), help="whose service image; default: the one there is, or simulator"
    )
    down = verbs.add_parser("down", help="remove all of it, added hosts included", allow_abbrev=False)
    down.add_argument("--images", action="store_true", help="the images, too: the next up takes minutes")
    status = verbs.add_parser("status", help="say what is up", allow_abbrev=False)
    status.add_argument("--json", action="store_true", help="for a program")
    host = verbs.add_parser("host", help="a further host of the same image", allow_abbrev=False)
    verbs_of_host = host.add_subparsers(dest="host_verb", required=True, metavar="VERB")
    for verb, words in (("up", "have a host"), ("down", "remove it")):
        one = verbs_of_host.add_parser(verb, help=words, allow_abbrev=False)
        one.add_argument("name", metavar="NAME", help="name of its container")
        if verb == "up":
            one.add_argument("address", metavar="ADDRESS", help="an address of the lab's network")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb.

    Args:
        arguments: what stands after `lab`; default is the process's own arguments.

    Returns:
        the exit code.
    """
    try:
        return _run(_parser().parse_args(arguments), Lab())
    except UsageError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2


def _run(options: argparse.Namespace, lab: Lab) -> int:
    from pyharness.lab import description, engine, hosts, up  # noqa: PLC0415 (a wrong command line should not wait for libraries)

    started = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {text}\n")
            sys.stderr.flush()

    client = engine.connect()
    if options.verb == "up":
        wanted = options.engine or description.read(lab).get("engine") or "simulator"
        content = up.up(client, lab, wanted, tell)
        tell("up")
        sys.stdout.write(_how_to(content))
    elif options.verb == "down":
        up.down(client, lab, with_images=options.images)
        tell("down: containers, volumes, network and keys are gone")
    elif options.verb == "status":
        return _status(client, lab, as_json=options.json)
    elif options.host_verb == "up":
        made = hosts.start_host(client, lab, options.name, options.address)
        tell(f"{options.name}: answers ssh on {options.address}{'' if made else ', as before'}")
    else:
        hosts.remove_host(client, lab, options.name)
        tell(f"{options.name}: gone")
    return 0


def _status(client: Any, lab: Lab, *, as_json: bool) -> int:
    from pyharness.lab import status  # noqa: PLC0415 (as above)

    found = status.status(client, lab)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if as_json else status.table(found))
    return 0 if found["up"] else 1


def _how_to(content: dict[str, Any]) -> str:
    hosts = ", ".join(f"{name} {address}" for name, address in content["hosts"].items())
    return (
        f"lab: {hosts}; registry {content['registry']}; engine {content['engine']}\n"
        "run a test case: python -m pyharness test_1p1d_erdma -i inventories/lab\n"
        "look:            python -m pyharness lab status\n"
        "log in:          ansible-console -i inventories/lab, or ssh as docs/lab.md says\n"
        "remove it:       python -m pyharness lab down\n"
    )
