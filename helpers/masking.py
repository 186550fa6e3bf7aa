"""Secrets: parameters whose values no file of a run shows."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

MASK = "(secret)"


def forms(secret: str) -> list[str]:
    """How a text may be spelled in the files of a run, longest first."""
    forms = {secret, repr(secret)[1:-1], secret.encode("unicode_escape").decode(), secret.replace('"', '""')}
    forms |= {quote(secret), quote(secret, safe="")}
    for _ in range(2):  # JSON in a cell's output is spelled as JSON once more in the notebook's file
        forms |= {json.dumps(f, ensure_ascii=ascii)[1:-1] for f in forms for ascii in (True, False)}
        forms |= {html.escape(f) for f in forms}
    return sorted(forms, key=len, reverse=True)
