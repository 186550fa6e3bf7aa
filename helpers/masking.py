"""Secrets: parameters whose values no file of a run shows.

Texts inside a notebook and a record are masked one by one, so that a secret which is also the name of a field damages
nothing; all other files are masked as bytes. A file that is no text and holds a secret is removed.
"""

from __future__ import annotations

import copy
import html
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from helpers.files import write_atomic

MASK = "(secret)"
SHORTEST = 6  # characters; a shorter text would be masked all over the place


def forms(secret: str) -> list[str]:
    """How a text, or a line of it, may be spelled in a run: in Python, JSON, CSV or HTML; the longest first."""
    plain = {secret, *(line for line in secret.splitlines() if len(line) >= SHORTEST)}
    found = {form for s in plain for form in (s, repr(s)[1:-1], s.encode("unicode_escape").decode(), quote(s))}
    found |= {s.replace('"', '""') for s in plain} | {quote(s, safe="") for s in plain}
    for _ in range(2):  # JSON in a cell's output is spelled as JSON once more in the notebook's file
        found |= {json.dumps(f, ensure_ascii=ascii)[1:-1] for f in found for ascii in (True, False)}
        found |= {html.escape(f) for f in found}
    return sorted(found - {""}, key=len, reverse=True)


def hide(text: str, secrets: Sequence[str]) -> str:
    """The text without the secrets."""
    for secret in secrets:
        for form in forms(secret):
            text = text.replace(form, MASK)
    return text


def hide_tree(value: Any, secrets: Sequence[str]) -> Any:
    """A copy of nested lists and dictionaries in which every text, keys aside, is masked."""
    if isinstance(value, dict):
        return type(value)({key: hide_tree(item, secrets) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return [hide_tree(item, secrets) for item in value]
    return hide(value, secrets) if isinstance(value, str) else value


def hide_notebook(book: Any, secrets: Sequence[str]) -> Any:
    """A copy of a notebook whose cells, outputs and parameters are masked."""
    book = copy.deepcopy(book)
    for cell in book.cells:
        cell.source = hide(cell.source, secrets)
        for output in cell.get("outputs", []):
            shown = {name: value for name, value in output.items() if name not in ("output_type", "name")}
            output.update(hide_tree(shown, secrets))
    record = book.metadata.get("papermill", {})
    record.update(hide_tree({name: record[name] for name in ("parameters",) if name in record}, secrets))
    return book


def hide_file(path: Path, secrets: Sequence[str]) -> None:
    """Masks a file of any kind; one that is no text and holds a secret is removed, and that is said."""
    content = masked = path.read_bytes()
    for secret in secrets:
        for form in forms(secret):
            masked = masked.replace(form.encode("utf-8", "replace"), MASK.encode())
    if masked == content:
        return
    if b"\0" in content:
        path.unlink()
        print(f"{path.name} held a secret and was removed: do not write it into {path.suffix} files.", file=sys.stderr)
    else:
        write_atomic(path, masked)
