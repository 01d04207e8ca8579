"""No secret gets out, in whatever form; and texts stay readable."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from pyharness import redaction
from pyharness.options import Options
from pyharness.redaction import Redactor, names, streams
from pyharness.results_dir import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SECRET = "Canary'7\"x/y+z \N{LATIN SMALL LETTER E WITH ACUTE}$1"  # noqa: S105 (not one)
PLAIN = "c4n4ry-6d1f0a9b"


@pytest.fixture
def redactor() -> Redactor:
    known = Redactor()
    known.learn("HF_TOKEN", SECRET)
    known.learn("db", PLAIN)
    return known


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "GITHUB_TOKEN", "password", "x-api-key", "disagg_registry_password", "AWS_SECRET_ACCESS_KEY"),
        *(
            "apiKey",
            "dbPassword",
            "PGPASSWORD",
            "MYSQL_PWD",
            "ansible_ssh_pass",
            "--api-key",
            "client_secret",
            "Cookie",
        ),
        *("ghtoken", "private_key", "AWS_ACCESS_KEY_ID", "Proxy-Authorization", "ansible_become_pass", "credentials"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert names.is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("max_tokens", "token_count", "tokenizer_path", "eos_token", "pad_token_id", "max_new_tokens", "num_tokens"),
        *("PWD", "OLDPWD", "SSH_AUTH_SOCK", "host_key_checking", "public_key", "key", "pass", "token_url", "keyboard"),
        *("password_file", "disagg_erdma_key_fingerprint", "secret_name", "prompt_tokens", "token usage", "passed", ""),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not names.is_secret(name)


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(lambda text: text, id="plain"),
        pytest.param(json.dumps, id="json"),
        pytest.param(lambda text: json.dumps(text, ensure_ascii=False).replace("/", "\\/"), id="json with slashes"),
        pytest.param(lambda text: json.dumps(json.dumps({"a": text})), id="json in json"),
        pytest.param(repr, id="python"),
        pytest.param(shlex.quote, id="shell"),
        pytest.param(lambda text: text.replace("'", "'\\''"), id="another shell"),
        pytest.param(lambda text: quote(text, safe=""), id="url"),
        pytest.param(quote_plus, id="form"),
        pytest.param(lambda text: quote(text, safe="").lower() if text == PLAIN else quote(text), id="url path"),
        pytest.param(html.escape, id="html"),
        pytest.param(lambda text: base64.b64encode(text.encode()).decode(), id="base64"),
        pytest.param(lambda text: base64.b64encode(f"user:{text}".encode()).decode(), id="basic"),
        pytest.param(lambda text: base64.b64encode(f"me:{text}|1700".encode()).decode(), id="in the middle of base64"),
        pytest.param(lambda text: base64.urlsafe_b64encode(f"u:{text}".encode()).decode(), id="base64 of URLs"),
        pytest.param(lambda text: f"{text[:5]}\r\n    {text[5:]}", id="wrapped"),
        pytest.param(lambda text: f"{text[:9]}\n{text[9:]}", id="wrapped at another place"),
    ],
)
def test_a_known_secret_is_found_in_each_encoding(redactor: Redactor, secret: str, coded: Callable[[str], str]) -> None:
    form = coded(secret)
    clean = redactor.redact(f"before {form} after")
    assert form.strip("'\"") not in clean
    assert "<redacted: " in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    assert not any(part in clean for part in (secret[:6], secret[-6:]))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer <redacted: authorization>"),
        ("'authorization': 'Basic dXNlcjpw'", "'authorization': 'Basic <redacted: authorization>'"),
        ("< Set-Cookie: a=b; path=/", "< Set-Cookie: <redacted: cookie>"),
        ("X-Api-Key: abc123def", "X-Api-Key: <redacted: X-Api-Key>"),
        ("https://me:pw@h/x", "https://me:<redacted: url_password>@h/x"),
        ("https://0123456789abcdef0123@h/x", "https://<redacted: url_user>@h/x"),
        ("https://h/x?a=1&X-Amz-Signature=0a1b&b=2", "https://h/x?a=1&X-Amz-Signature=<redacted: X-Amz-Signature>&b=2"),
        ("https://h/x?sig=0a1b", "https://h/x?sig=<redacted: sig>"),
        ("https://h/?token=hunter22", "https://h/?token=<redacted: token>"),
        ("--api-key sekret12 --max-tokens 12", "--api-key <redacted: api-key> --max-tokens 12"),
        ('["--api-key", "x12"]', '["--api-key", "<redacted: api-key>"]'),
        ("DB_PASSWORD=hunter2 MAX_TOKENS=16", "DB_PASSWORD=<redacted: DB_PASSWORD> MAX_TOKENS=16"),
        ('{\\"password\\": \\"a b c\\"}', '{\\"password\\": \\"<redacted: password>\\"}'),
        ("api_key=None, admin_api_key='abc'", "api_key=None, admin_api_key='<redacted: admin_api_key>'"),
        ("ghp_0123456789abcdefABCDEF0123456789abcd!", "<redacted: token>!"),
        ("github_pat_11ABC_0123456789abcdef", "<redacted: token>"),
        ("hf_abcdefghijklmnopqrst", "<redacted: token>"),
        ("AKIAIOSFODNN7EXAMPLE", "<redacted: token>"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2ln", "<redacted: token>"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\nabc\n-----END RSA PRIVATE KEY-----\nnext",
            "<redacted: private_key>\nnext",
        ),
    ],
)
def test_a_secret_is_known_by_its_shape(text: str, clean: str) -> None:
    assert Redactor().redact(text) == clean
    assert Redactor().redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Decode batch. #running-req: 1, #token: 533, token usage: 0.00, gen throughput (token/s): 12.31",
        "max_total_num_tokens=12345678, skip_tokenizer_init=False, tokenizer_path='/models/q'",
        '{"eos_token": "<|end|>", "token": 5, "password": null, "usage": {"prompt_tokens": 12}}',
        "SyntaxError: unexpected token: expected a colon",
        "http://127.0.0.1:8000/generate?max_tokens=16 me@example.org git clone ssh://git@github.com/a/b",
        "task-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bearer authentication is on",
        "sha256:0f4dd3c9b0f1a8f0e0d2f2f4a8f8e6a1d8c7b6a5948372615049382716f5e4d3",
        'VALUE_SPECIFIED_IN_NO_LOG_PARAMETER password: \'{{ lookup("env", "X") }}\' PASSWORD=$PASSWORD',
    ],
)
def test_texts_stay_as_they_are(redactor: Redactor, text: str) -> None:
    assert redactor.redact(text) == text


@pytest.mark.parametrize(
    "value", ["true", "1", "none", "", "abc", "aaaaaaaa", "8000", "password", "/home/me/key", "main"]
)
def test_a_plain_value_is_hidden_beside_its_name_only(value: str) -> None:
    redactor = Redactor()
    redactor.learn_variables({"my_password": value})
    text = f"the {value} of it, {value}"
    assert redactor.redact(text) == text


def test_a_short_secret_in_a_longer_word_is_chance() -> None:
    redactor = Redactor()
    redactor.learn("password", "abc123")
    assert redactor.redact("0abc1234 abc123, x/abc123") == "0abc1234 <redacted: password>, x/<redacted: password>"


def test_variables_are_learned_at_any_depth() -> None:
    redactor = Redactor()
    redactor.learn_variables(
        {
            "services": [
                {"environment": {"OPENAI_API_KEY": "v4lue-one"}},
                {"command": ["x", "--api-key", "v4lue-two"]},
            ],
            "credentials": {"login": "v4lue-three", "rest": ["v4lue-four"]},
            "index": "https://u:v4lue%2Dfive@h/x?token=v4lue-six",
            "disagg_wheel": "https://h/x.whl?whatever=v4lue-seven#sha256=00",
            "max_tokens": "v4lue-not",
        }
    )
    words = ["one", "two", "three", "four", "five", "six", "seven", "not"]
    clean = redactor.redact(" ".join(f"v4lue-{word}" for word in words[:6]) + " whatever=v4lue-seven v4lue-not")
    assert [word for word in words if f"v4lue-{word}" in clean] == ["not"]


def test_a_document_stays_a_document(redactor: Redactor, tmp_path: Path) -> None:
    document = {
        "environment": {"API_KEY": "x12", "PORT": 8000},
        "args": ["--token", "ab1", "--port", "1"],
        "text": SECRET,
    }
    clean = json.loads(redactor.redact_json(json.dumps(document, indent=2)))
    assert clean == {
        "environment": {"API_KEY": "<redacted: API_KEY>", "PORT": 8000},
        "args": ["--token", "<redacted: token>", "--port", "1"],
        "text": "<redacted: HF_TOKEN>",
    }
    redaction.learn("pin", "123456789012")
    write_atomically(tmp_path / "a.json", '{"a": 123456789012}\n')
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": "<redacted: pin>"}
    write_atomically(tmp_path / "a.xml", "<a>123456789012</a>")
    assert (tmp_path / "a.xml").read_text() == "<a>&lt;redacted: pin&gt;</a>"


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_none_is_missed_across_blocks(redactor: Redactor, monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    monkeypatch.setattr(redaction, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(redaction, "_OVERLAP_BYTES", 200)
    pad = b"line of a log\n" * 70
    data = (
        pad[: len(pad) - shift]
        + b"k "
        + PLAIN.encode()
        + b" DB_PASSWORD=hunter2 "
        + pad
        + SECRET.encode()
        + b"\n"
        + pad
    )
    result = io.BytesIO()
    redactor.copy(io.BytesIO(data), result)
    assert result.getvalue() == redactor.redact_bytes(data)
    assert result.getvalue().count(b"<redacted: ") == 3


def test_what_is_no_text_passes_as_it_is(redactor: Redactor) -> None:
    data = bytes(range(256)) * 4
    assert redactor.redact_bytes(data) is data
    assert redactor.redact("lone \ud800 surrogate " + PLAIN) == "lone \ud800 surrogate <redacted: db>"


def test_a_key_of_several_lines_is_known_by_each_long_line() -> None:
    redactor = Redactor()
    redactor.learn("DEPLOY_KEY", "begin\nMIIEpAIBAAKCAQEAvvvv0\nend")
    assert redactor.redact("12:00 MIIEpAIBAAKCAQEAvvvv0") == "12:00 <redacted: DEPLOY_KEY>"


def test_streams_are_clean(redactor: Redactor, capsys: pytest.CaptureFixture[str]) -> None:
    with streams.guarded(redactor.redact):
        sys.stdout.write(f"one {PLAIN[:5]}")
        sys.stdout.write(f"{PLAIN[5:]}\ntwo {PLAIN}")
        sys.stderr.write(f"three {PLAIN}")
        sys.stderr.flush()
        assert capsys.readouterr() == ("one <redacted: db>\n", "three <redacted: db>")
        sys.stdout.write("\n")
    assert capsys.readouterr().out == "two <redacted: db>\n"


def test_the_inventory_is_known_before_ansible_reads_it(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts").write_text("[all]\nnode ansible_password=c4nary-ini\n")
    (tmp_path / "group_vars/all.yml").write_text(
        "a_password: c4nary-yaml\nb: !vault |\n  0123\nc: [{api_key: c4nary-deep}]\n"
    )
    (tmp_path / "group_vars/bad.yml").write_text("broken_token: c4nary-broken\n  - [\n")
    redactor = Redactor()
    redactor.learn_inventory(tmp_path)
    redactor.learn_inventory(tmp_path / "none")
    assert "c4nary" not in redactor.redact("c4nary-ini c4nary-yaml c4nary-deep c4nary-broken")


def test_an_error_that_nobody_catches_is_told_without_secrets() -> None:
    code = (
        "import os\nfrom pyharness import redaction\nredaction.learn_environment(os.environ)\n"
        "with redaction.guarded_streams():\n    raise ValueError('no good: ' + os.environ['A_TOKEN'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "A_TOKEN": PLAIN}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ValueError: no good: <redacted: A_TOKEN>" in done.stderr
    assert PLAIN not in done.stderr


def test_who_calls_the_harness_from_python_is_told_no_secret_either() -> None:
    told: list[str] = []
    options = Options(test_case="test_x", extra_vars={"my_password": PLAIN}, tell=told.append)
    replace(options, test_case="test_y").tell(f"it is {PLAIN}")
    assert told == ["it is <redacted: my_password>"]


@pytest.mark.parametrize("moment", ["learn", "redact"])
def test_a_signal_in_the_middle_does_not_block(redactor: Redactor, moment: str) -> None:
    """Its handler writes to the guarded standard error, in the thread that may be in the redaction already."""
    with redactor._lock:
        if moment == "learn":
            redactor.learn("another", "c4n4ry-2")
        assert redactor.redact(PLAIN) == "<redacted: db>"
