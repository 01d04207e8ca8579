"""The simulator's command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pyharness.simulator import text
from pyharness.simulator.files import json_bytes, write_file
from pyharness.simulator.misbehaviour import ROLES, UsageError, listing, parse
from pyharness.simulator.model import ARCHITECTURES, Model, ModelError, write_model


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name.

    Returns:
        0, or 1 when the command failed. ``serve`` never returns: it ends the process.

    Raises:
        SystemExit: With code 2 on a usage error.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "serve":
            _serve(options)
        elif options.command == "model":
            written = write_model(options.architecture, options.seed, options.out)
            _say(f"{'written' if written else 'unchanged'}: {options.out}")
        elif options.command == "reference":
            _reference(options)
        else:
            _say(listing())
    except UsageError as error:
        parser.error(str(error))
    except (ModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pyharness.simulator",
        description="An engine for tests of the harness itself; it judges no product.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="serve a model", allow_abbrev=False)
    serve.add_argument("--role", choices=ROLES, required=True)
    serve.add_argument("--model-path", required=True, metavar="DIR")
    serve.add_argument("--served-model-name", required=True, metavar="NAME")
    serve.add_argument("--host", required=True, metavar="IP", help="listened on, and announced to Mooncake's peers")
    serve.add_argument("--port", type=int, required=True)
    serve.add_argument("--bootstrap-port", type=int, default=8998, help="used by prefill only (default 8998)")
    serve.add_argument("--transport", choices=("tcp", "rdma"), default="tcp")
    serve.add_argument(
        "--misbehave",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="see 'misbehaviours'; repeatable",
    )

    model = commands.add_parser("model", help="write a tiny model", allow_abbrev=False)
    model.add_argument("--architecture", choices=ARCHITECTURES, required=True)
    model.add_argument("--out", type=Path, required=True, metavar="DIR")
    model.add_argument("--seed", type=int, default=0)

    reference = commands.add_parser("reference", help="what one engine alone answers", allow_abbrev=False)
    reference.add_argument("--model-path", required=True, metavar="DIR")
    reference.add_argument("--prompt", required=True, metavar="TEXT")
    reference.add_argument("--max-new-tokens", type=int, default=128, metavar="N")
    reference.add_argument("--out", type=Path, required=True, metavar="FILE")

    commands.add_parser("misbehaviours", help="list what --misbehave takes, as a Markdown table")
    return parser


def _serve(options: argparse.Namespace) -> None:
    misbehaving = parse(options.misbehave, options.role)
    # Only here: the other commands do not need the servers.
    from pyharness.simulator.server import Options, leave, serve  # noqa: PLC0415

    leave(
        serve(
            Options(
                role=options.role,
                model_path=options.model_path,
                served_model_name=options.served_model_name,
                host=options.host,
                port=options.port,
                bootstrap_port=options.bootstrap_port,
                transport=options.transport,
                misbehaving=misbehaving,
            )
        )
    )


def _reference(options: argparse.Namespace) -> None:
    model = Model.load(options.model_path)
    prompt = text.encode(options.prompt)
    ids = text.answer_ids(model.prefill(prompt), options.max_new_tokens)
    content = {
        "text": text.decode(ids),
        "output_ids": ids,
        "prompt_tokens": len(prompt),
        "completion_tokens": len(ids),
        "kv_cache_bytes": model.kv_bytes(len(prompt)),
        "simulator": True,
    }
    write_file(options.out, json_bytes(content))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
