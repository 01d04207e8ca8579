"""What is written for supervisor is what supervisor's own parser reads."""

from __future__ import annotations

import shlex
import socket
from typing import TYPE_CHECKING, Any

import pytest
from supervisor.options import ServerOptions, UnhosedConfigParser

from ansible_collections.disagg.e2e.plugins.module_utils.supervisor import MAX_SOCKET_PATH, Supervisor, log_tail

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

WORDS = [
    "plain", "", "50%", "100%(x)s", "%(ENV_HOME)s", "a b", " at both ends ", "tab\there", "ü", "a,b=c", "it's",
    'say "hello" twice', '{"a": [1, 2]}', "back\\slash", "a;b", "a ;b", "a # b", "; first", "#", "$HOME `id` *",
    "/path/with space;and#more", "x" * 5000,
]  # fmt: skip


def read_back(folder: Path, spec: dict[str, Any]) -> Any:
    """Return what supervisor makes of a service's configuration."""
    supervisor = Supervisor(str(folder))
    supervisor.write_config()
    supervisor.write_program("decode", spec)
    parser = UnhosedConfigParser()
    parser.read(str(supervisor.programs / "decode.conf"))
    options = ServerOptions()
    options.here = str(folder)
    (config,) = options.processes_from_section(parser, "program:decode", "decode")
    return config


def spec(**changes: Any) -> dict[str, Any]:
    values = {
        "command": ["prog"],
        "environment": {},
        "directory": "/tmp",  # noqa: S108 (a directory that is there, for supervisor asks)
        "log": "/tmp/decode.log",  # noqa: S108
        "stop_signal": "INT",
        "stop_grace": 7,
    }
    return {**values, **changes}


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_every_word_comes_back(tmp_path: Path, word: str) -> None:
    environment = {"FIRST": "1", "VALUE": word, "WORD": "2"}
    config = read_back(tmp_path, spec(command=["prog", word, "--last"], environment=environment))
    assert config.environment == environment
    assert shlex.split(config.command) == ["prog", word, "--last"]


@pytest.mark.parametrize("value", ["two\nlines", "carriage\rreturn", "both ' and \"", '"', "'quoted'", 'ends with "'])
def test_a_variable_that_supervisor_cannot_take_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValueError, match="environment variable VALUE: supervisor cannot take"):
        read_back(tmp_path, spec(environment={"VALUE": value}))


def test_a_refused_value_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TOKEN") as caught:
        read_back(tmp_path, spec(environment={"TOKEN": "secret\n"}))
    assert "secret" not in str(caught.value)


def test_an_argument_with_a_line_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"command of decode: 'two\\nlines' holds a line break"):
        read_back(tmp_path, spec(command=["prog", "two\nlines"]))


def test_a_service_is_not_restarted_and_stops_as_asked(tmp_path: Path) -> None:
    folder = tmp_path / "50% folder"
    folder.mkdir()
    config = read_back(tmp_path, spec(log=str(folder / "50%.log"), directory=str(folder)))
    assert config.autorestart is False
    assert (config.stopsignal.name, config.stopwaitsecs, config.killasgroup) == ("SIGINT", 7, True)
    assert (config.stdout_logfile, config.directory) == (str(folder / "50%.log"), str(folder))
    assert config.redirect_stderr


def test_an_environment_is_for_its_owner_alone(tmp_path: Path) -> None:
    read_back(tmp_path, spec(environment={"TOKEN": "secret"}))
    assert (tmp_path / "services" / "decode.conf").stat().st_mode & 0o077 == 0


def test_a_folder_with_spaces_and_percents_holds_its_services(tmp_path: Path) -> None:
    folder = tmp_path / "a 50% folder"
    read_back(folder, spec(command=["found"]))
    options = ServerOptions()
    options.realize(["-c", str(folder / "supervisord.conf"), "-n"])
    (group,) = options.process_group_configs
    assert [config.command for config in group.process_configs] == ["found"]
    assert options.logfile == str(folder / "supervisord.log")


def test_nobody_answers_where_no_supervisord_is(tmp_path: Path) -> None:
    supervisor = Supervisor(str(tmp_path))
    assert not supervisor.is_up()
    assert not supervisor.wait_up(0.0)
    with pytest.raises(OSError, match="No such file"):
        supervisor.status("decode")


def test_the_limit_of_a_sockets_path_is_the_systems() -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            probe.connect("x" * (MAX_SOCKET_PATH + 1))
        with pytest.raises(FileNotFoundError):
            probe.connect("x" * MAX_SOCKET_PATH)


def test_the_tail_of_a_log_is_its_last_lines_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n" * 50_000 + b"\n  \none\xff\n\n" + b"y" * 1000 + b"\n")
    tail = log_tail(str(log), lines=2, width=100)
    assert tail == ["one\ufffd", "y" * 100]


def test_the_tail_of_no_log_says_so(tmp_path: Path) -> None:
    assert log_tail(str(tmp_path / "log")) == [f"(no log: No such file or directory: {tmp_path / 'log'})"]


def test_the_shared_memory_that_was_noted_is_found_by_service(tmp_path: Path) -> None:
    one = Supervisor(str(tmp_path))
    one.write_config()
    (one.programs / "prefill.ready").write_text('{"shared_memory": ["/shared/a", "/shared/b"]}')
    (one.programs / "decode.ready").write_text('{"shared_memory": ["/shared/c"]}')
    (one.programs / "router.ready").write_text("half a rec")
    assert one.noted_shared_memory() == {"/shared/a", "/shared/b", "/shared/c"}
    assert one.noted_shared_memory("decode") == {"/shared/c"}
    assert one.noted_shared_memory("router") == set()
