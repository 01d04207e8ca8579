"""Everything that the simulator can be told to do wrong: one table, its parser, and its listing."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

PREFILL, DECODE, SINGLE = "prefill", "decode", "single"
ROLES: Final = (PREFILL, DECODE, SINGLE)


class Value(Enum):
    """What a misbehaviour takes after its ``=``."""

    NOTHING = ""
    SECONDS = "SECONDS"
    COUNT = "N"
    CHOICE = "CHOICE"
    TEXT = "TEXT"


@dataclass(frozen=True)
class Misbehaviour:
    """One way to misbehave.

    Attributes:
        key: Its name on the command line.
        effect: What it does; the text of the documentation.
        value: What it takes after ``=``.
        default: The value when none is given; None when one must be given (or none is taken).
        choices: The allowed values of a `Value.CHOICE`.
        roles: The roles in which it has an effect; elsewhere it is a usage error, since a sabotaged run that
            sabotages nothing would be a test that cannot fail.
    """

    key: str
    effect: str
    value: Value = Value.NOTHING
    default: str | None = None
    choices: tuple[str, ...] = ()
    roles: tuple[str, ...] = ROLES

    @property
    def usage(self) -> str:
        """How it is written, as in ``exit-after-start[=SECONDS]``."""
        name = "|".join(self.choices) or self.value.value
        if not name:
            return self.key
        return f"{self.key}={name}" if self.default is None else f"{self.key}[={name}]"


MISBEHAVIOURS: Final[tuple[Misbehaviour, ...]] = (
    # Wrong answers to inference requests.
    Misbehaviour("http-500", "Answers 500, with a JSON or an HTML body.", Value.CHOICE, "json", ("json", "html")),
    Misbehaviour("error-object", 'Answers 200 with {"error": {...}}, in streams as the only event before [DONE].'),
    Misbehaviour("empty-text", "Answers 200 with an empty text."),
    Misbehaviour("wrong-text", "Answers 200 with readable words that are not the model's answer."),
    Misbehaviour("not-json", "Answers 200 with an HTML page, as a captive portal or a wrong server would."),
    Misbehaviour("garbage-bytes", "Answers 200 with random bytes that claim to be JSON or an event stream."),
    Misbehaviour(
        "truncated-stream",
        "Sends half of the answer's stream (or body), and closes the connection half a second later.",
    ),
    Misbehaviour("error-after", "Answers N requests well, and each later one with 500.", Value.COUNT),
    Misbehaviour("wrong-model", "Names another model in every answer, in /v1/models, /model_info and /metrics."),
    # Late or no answers.
    Misbehaviour("slow", "Delays each answer to an inference request.", Value.SECONDS),
    Misbehaviour("paced", "Waits so long before each event of a stream but the first.", Value.SECONDS),
    Misbehaviour("hang-on-request", "Accepts inference requests and never answers them."),
    Misbehaviour("health-hangs", "Accepts /health and /health_generate and never answers them."),
    Misbehaviour("never-ready", "Listens, but answers 503 to /health and /health_generate for ever."),
    # Life and death of the process.
    Misbehaviour("die-before-ready", "Exits 1 with a traceback in the log before it listens."),
    Misbehaviour("ready-but-dead", "Prints the readiness line and exits 1 without ever listening."),
    Misbehaviour("exit-after-start", "Serves for so long, then exits 1.", Value.SECONDS, "1"),
    Misbehaviour("die-on-request", "Kills itself (SIGKILL) when an inference request arrives."),
    Misbehaviour("die-after-ready", "Kills itself (SIGKILL) once it has answered N inference requests.", Value.COUNT),
    Misbehaviour("ignore-sigterm", "Ignores SIGTERM and SIGINT; only SIGKILL ends it."),
    Misbehaviour(
        "leave-child",
        "Starts a process in a session of its own that ignores SIGTERM, SIGINT and SIGHUP and outlives the "
        "server; it ends by itself after 10 minutes.",
    ),
    # Words of other programs in its log.
    Misbehaviour("say", "Writes a line of this text to its log when it is ready, and serves on.", Value.TEXT),
    Misbehaviour("last-words", "Writes a line of this text to its log and exits 1 before it listens.", Value.TEXT),
    # Lies about the transfer of the KV cache.
    Misbehaviour(
        "recompute",
        "Computes the prompt itself and has prefill move no byte: the right text, and counters of decode "
        "that show the computation.",
        roles=(DECODE,),
    ),
    Misbehaviour(
        "no-transfer-but-lies",
        "On decode: computes the prompt itself and has prefill move no byte, with clean counters; the text "
        "is right, and an honest prefill counts no transfer. On prefill: moves no byte but counts and "
        "reports all; an honest decode then says wrong words. On both: only the bytes between the processes "
        "tell.",
        roles=(PREFILL, DECODE),
    ),
    Misbehaviour(
        "short-transfer",
        "Half of the bytes move. On decode: computes the other half itself, so that the text is right; an "
        "honest prefill counts the half. On prefill: counts and reports all; an honest decode then says "
        "wrong words. On both: only the bytes between the processes tell.",
        roles=(PREFILL, DECODE),
    ),
    Misbehaviour("late-counters", "Updates /metrics so long after the answer.", Value.SECONDS),
)
_BY_KEY: Final = MappingProxyType({entry.key: entry for entry in MISBEHAVIOURS})


class UsageError(ValueError):
    """A ``--misbehave`` argument means nothing; the message says what would."""


@dataclass(frozen=True)
class Misbehaving:
    """The misbehaviours that one server was told.

    Attributes:
        values: The value by key, in the form of the command line ("" where there is none).
    """

    values: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        """Whether this misbehaviour was asked for.

        Raises:
            KeyError: There is no such misbehaviour: a typo in this package.
        """
        return _BY_KEY[key].key in self.values

    def seconds(self, key: str) -> float:
        """Give the value of a misbehaviour that takes seconds; 0 when it was not asked for."""
        return float(self.values.get(_BY_KEY[key].key, 0))

    def count(self, key: str) -> int | None:
        """Give the value of a misbehaviour that takes a count; None when it was not asked for."""
        value = self.values.get(_BY_KEY[key].key)
        return None if value is None else int(value)

    def choice(self, key: str) -> str:
        """Give the value of a misbehaviour that takes a word."""
        return self.values[_BY_KEY[key].key]

    def text(self, key: str) -> str | None:
        """Give the value of a misbehaviour that takes a text; None when it was not asked for."""
        return self.values.get(_BY_KEY[key].key)

    def __str__(self) -> str:
        """List them as on the command line, but for texts: in a log they would read like what they imitate."""
        shown = {key: "..." if _BY_KEY[key].value is Value.TEXT else value for key, value in self.values.items()}
        return ", ".join(f"{key}={value}" if value else key for key, value in shown.items())


def parse(arguments: Iterable[str], role: str) -> Misbehaving:
    """Read the values of ``--misbehave``.

    Args:
        arguments: Each ``KEY`` or ``KEY=VALUE``.
        role: The server's role, one of `ROLES`.

    Raises:
        UsageError: A key is unknown, given twice or without effect in this role, or a value is missing,
            superfluous or of the wrong kind.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        entry = _BY_KEY.get(key)
        if entry is None:
            nearest = difflib.get_close_matches(key, _BY_KEY, n=1, cutoff=0)[0]
            message = f"unknown misbehaviour {key!r}: the nearest is {nearest!r} ('misbehaviours' lists all)"
            raise UsageError(message)
        if key in values:
            message = f"misbehaviour {key!r} is given twice"
            raise UsageError(message)
        if role not in entry.roles:
            message = f"misbehaviour {key!r} has no effect in role {role}, only in {' and '.join(entry.roles)}"
            raise UsageError(message)
        values[key] = _checked(entry, value if equals else entry.default, given=bool(equals))
    return Misbehaving(MappingProxyType(values))


def _checked(entry: Misbehaviour, value: str | None, *, given: bool) -> str:
    """Check one value against its kind; return it in the form that `Misbehaving` reads."""
    if entry.value is Value.NOTHING:
        if given:
            message = f"misbehaviour {entry.key!r} takes no value"
            raise UsageError(message)
        return ""
    right = value is not None and (
        value in entry.choices
        or (entry.value is Value.SECONDS and _is_seconds(value))
        or (entry.value is Value.COUNT and value.isdecimal() and int(value) > 0)
        or (entry.value is Value.TEXT and value.strip() != "")
    )
    if value is None or not right:
        kinds = {
            Value.SECONDS: "a positive number of seconds",
            Value.COUNT: "a whole number above 0",
            Value.TEXT: "a text",
        }
        expected = kinds.get(entry.value) or " or ".join(entry.choices)
        message = f"misbehaviour {entry.usage!r} takes {expected}, not {value!r}"
        raise UsageError(message)
    return value


def _is_seconds(value: str) -> bool:
    try:
        seconds = float(value)
    except ValueError:
        return False
    return math.isfinite(seconds) and seconds > 0


def listing() -> str:
    """Render the table as Markdown, for ``misbehaviours`` and for the documentation."""
    rows = (
        f"| `{entry.usage.replace('|', chr(92) + '|')}` | {', '.join(entry.roles)} | {entry.effect} |"
        for entry in MISBEHAVIOURS
    )
    return "\n".join(("| Misbehaviour | Roles | Effect |", "| --- | --- | --- |", *rows))
