"""Plumbing for the notebooks: data, text, training, evaluation, plots, runs and reports.

The lesson stays in the notebooks; what two of them need lives here, once. Importing this package does nothing visible
and does not import TensorFlow.
"""

import re
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


class InputError(ValueError):
    """A mistake in what the user gave, told in one sentence that names the thing and the way out.

    The command line prints it and exits with status 2. A notebook shows the sentence alone, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"InputError: {self}"]


def printable(text: object) -> str:
    """Returns a text in one line, without the commands of a terminal that data may hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def without_password(source: Any) -> Any:
    """Returns a source as it may be shown: an address without its password and what follows a question mark."""
    if not isinstance(source, str) or not re.match(r"https?://", source, re.IGNORECASE):
        return source
    return re.sub(r"(://)[^/]*@", r"\1", source.split("?")[0])


def without_folders(value: Any) -> Any:
    """Returns a value for a page that is shared: an absolute path from the current folder on, or its last part."""
    value = without_password(value)
    if not isinstance(value, str) or not (path := Path(value)).is_absolute():
        return value
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name
