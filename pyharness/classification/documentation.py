"""The rules as Markdown, for docs/failures.md: python -m pyharness.classification.documentation."""

from __future__ import annotations

import sys

from pyharness.classification.rules import load


def tables() -> str:
    """Return all rules as tables: what texts are looked for, what is harmless, and what code gives."""
    rules = load()
    rows = ["| Rule | Class | Severity | Read in | What to do |", "| --- | --- | --- | --- | --- |"]
    rows += [
        f"| `{rule.id}` | {rule.class_} | {rule.severity} | {', '.join(rule.where)} | {_cell(rule.hint)} |"
        for rule in rules.rules
    ]
    rows += ["", "| Harmless | Why |", "| --- | --- |"]
    rows += [f"| `{text.id}` | {_cell(text.why)} |" for text in rules.harmless]
    rows += ["", "| Given by code | Class | Meaning |", "| --- | --- | --- |"]
    rows += [f"| `{entry.id}` | {entry.class_ or 'as it is'} | {_cell(entry.means)} |" for entry in rules.made]
    rows += [
        "| `check.<check>` | the check's | A check failed, and no rule knows more; docs/architecture.md lists them. |"
    ]
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(tables() + "\n")
