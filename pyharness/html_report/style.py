"""What the HTML pages have in common: templates, one style, and the policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup

from pyharness.html_report import logs


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("pyharness"), autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    made.globals |= {"style": _asset("style.css"), "script": _asset("report.js")}
    made.globals |= {"style_hash": _hash("style.css"), "script_hash": _hash("report.js")}
    return made


def template(name: str) -> Template:
    """Return a template of pyharness/templates; what it is given is escaped."""
    return _environment().get_template(name)


def _shown(value: object) -> object:
    """Show the control characters of whatever is put into a page, as in its logs."""
    return logs.readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> Markup:
    """Return a file of the project's own, as it stands."""
    return Markup(_text(name))  # noqa: S704 (a file of this package)


def _hash(name: str) -> str:
    """Return a file's digest as a policy has it (https://www.w3.org/TR/CSP3/#framework-directive-source-list)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(_text(name).encode()).digest()).decode()


def _text(name: str) -> str:
    return (resources.files("pyharness") / "templates" / name).read_text(encoding="utf-8")
