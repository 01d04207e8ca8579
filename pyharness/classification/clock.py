"""When a line of a log was written, in seconds since the epoch.

Logs write the time of their node or container, mostly without a zone, and glog without a year. The zone follows from
when the service was started, which the node's kernel says.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

# SGLang, the router, vLLM ("11-21 12:26:07"), the simulator, ISO 8601; and glog ("E1121 12:26:07.123456").
_TIME = re.compile(
    r"(?:(?P<year>\d{4})-)?(?P<month>\d\d)-(?P<day>\d\d)[ T](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(?:[.,](?P<part>\d{1,6}))?"
    r"|(?:^|\[)[IWEF](?P<month2>\d\d)(?P<day2>\d\d) (?P<hour2>\d\d):(?P<minute2>\d\d):(?P<second2>\d\d)"
    r"\.(?P<part2>\d{1,6})"
)
# dmesg --ctime.
_CTIME = re.compile(r"^\[\w{3} (?P<moment>\w{3} +\d+ \d\d:\d\d:\d\d \d{4})\]")
# Characters of a line in which its time stands, if it has one.
_HEAD = 100
# Zones are whole quarters of an hour apart.
_QUARTER = 15 * 60


def naive(line: str, year: int) -> float | None:
    """Return the time that a line begins with, read as UTC; None if it has none.

    Args:
        line: without ANSI's colours.
        year: of the run, where the line has none.
    """
    found = _TIME.search(line, 0, _HEAD)
    if found is None:
        ctime = _CTIME.match(line)
        if ctime is None:
            return None
        return datetime.strptime(ctime["moment"], "%b %d %H:%M:%S %Y").replace(tzinfo=UTC).timestamp()
    group = found.groupdict()
    second = "" if group["month"] else "2"
    month, day, hour, minute, seconds = (
        int(group[f"{key}{second}"]) for key in ("month", "day", "hour", "minute", "second")
    )
    part = group[f"part{second}"]
    try:
        moment = datetime(int(group["year"] or year), month, day, hour, minute, seconds, tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp() + (float(f"0.{part}") if part else 0.0)


def zone(first: float | None, started_at: float | None) -> float:
    """Return by how many seconds a log's clock is ahead of UTC.

    Args:
        first: the log's first time, read as UTC.
        started_at: when its service was started; None where that is not known, and the controller's zone is taken.
    """
    if first is None or started_at is None:
        offset = datetime.now().astimezone().utcoffset()
        return offset.total_seconds() if offset else 0.0
    return round((first - started_at) / _QUARTER) * float(_QUARTER)
