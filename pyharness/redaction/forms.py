"""How a secret looks on its way out: plain, or in the encodings of the texts that it may stand in."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from urllib.parse import quote, quote_plus, unquote

# A part of base64 that is the same wherever the secret lies in what was encoded. Shorter ones may be chance:
# 64 ** 7 is 4e12.
_SHORTEST_CORE = 7


def plain(value: str) -> set[str]:
    """Return a value as texts write it: as it is, and escaped for JSON, Python, YAML, shells, URLs and markup."""
    json_form = json.dumps(value)[1:-1]
    wide_form = json.dumps(value, ensure_ascii=False)[1:-1]
    result = {value, json_form, wide_form, wide_form.replace("/", "\\/")}
    result |= {json.dumps(form)[1:-1] for form in (json_form, wide_form)}  # JSON in a string of JSON
    result |= {repr(value)[1:-1], value.replace("\\", "\\\\"), value.replace("'", "''")}
    result |= {value.replace("'", form) for form in ("'\"'\"'", "'\\''", "\\'")}
    result |= {value.replace('"', '\\"'), shlex.quote(value).strip("'"), re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)}
    for coded in (quote(value, safe=""), quote(value), quote_plus(value), quote(quote(value, safe=""), safe="")):
        result |= {coded, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), coded)}
    result.add(unquote(value))
    for form in tuple(result):
        escaped = html.escape(form, quote=False)
        result |= {
            escaped,
            html.escape(form),
            html.escape(form).replace("&#x27;", "&#39;"),
            html.escape(form).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),  # as markupsafe writes it
            escaped.replace('"', "&quot;"),
        }
    return {form for form in result if form}


def cores(value: str) -> set[str]:
    """Return the parts of base64 that are there wherever the value lies in what was encoded, such as `user:value`.

    A letter of base64 has six bits, so there are three ways to begin. Both alphabets are told (RFC 4648, 4 and 5).
    """
    raw = value.encode("utf-8", "replace")
    result = set()
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + raw).rstrip(b"=").decode()
        first = -(-offset * 8 // 6)
        core = coded[first : (offset + len(raw)) * 8 // 6]
        if len(core) >= _SHORTEST_CORE:
            result |= {core, core.replace("+", "-").replace("/", "_")}
    return result


def parts(value: str) -> list[str]:
    """Return what of a value may stand alone: the value, and each long line of one with several lines."""
    lines = [line.strip() for line in value.splitlines()]
    return [value.strip(), *(line for line in lines if len(line) >= 20)] if len(lines) > 1 else [value.strip()]
