"""Errors that a person has to do something about."""

from __future__ import annotations


class UsageError(Exception):
    """What the caller asked for cannot be done. Its text is one line: what, where, what to do. Exit code 2."""
