"""What a run is before it starts: a notebook, a name, and parameters and data that are checked."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers import InputError, masking, parameters, runs
from helpers.files import project_root, runs_root

REMOTE = ("http://", "https://", "hf:")


def find_notebook(name: str) -> Path:
    """The notebook file of a name, number or path.

    Raises:
        InputError: no such notebook, with a near miss.
    """
    folder = project_root() / "notebooks"
    with contextlib.suppress(OSError):  # a name can be too long for a file
        if name.endswith(".ipynb") and Path(name).is_file():
            return Path(name).resolve()
    known = {p.stem: p for p in sorted(folder.glob("[0-9]*.ipynb"))}
    stem = Path(name).stem if name.endswith(".ipynb") else name
    matches = [s for s in known if s == stem or s.split("_")[0] == stem]
    if matches:
        return known[matches[0]]
    hint = parameters.near(stem, known, 0.4).replace("it has", "there are")
    raise InputError(f"There is no notebook {name[:80]}: {hint}")


@dataclass(frozen=True)
class Plan:
    """A run that is checked and may start.

    Attributes:
        notebook: the file.
        name: the run's name.
        given, values: the parameters that differ from the defaults, and all of them.
        secrets: names of parameters whose values are written nowhere.
        mark: a digest of what decides the result.
        final: the run's folder.
    """

    notebook: Path
    name: str
    given: dict[str, Any]
    values: dict[str, Any]
    secrets: tuple[str, ...]
    mark: str
    final: Path

    @property
    def failed(self) -> Path:
        """Where a failed attempt is kept; a run's own name cannot have a dot."""
        return self.final.with_name(f"{self.name}.failed")

    def partial(self) -> list[Path]:
        """The hidden folders in which the run is being built, or was when it was killed."""
        return list(self.final.parent.glob(f".{self.name}.*.partial"))

    def record(self) -> dict[str, Any]:
        """The beginnings of ``metrics.json``."""
        return {
            "notebook": self.notebook.stem,
            "name": self.name,
            "status": "completed",
            "parameters": self.values | dict.fromkeys(self.secrets, masking.MASK),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "fingerprint": self.mark,
        }

    @property
    def hidden(self) -> list[str]:
        """The values of secret parameters."""
        return [self.values[name] for name in self.secrets if self.values[name]]

    def mask(self, text: str) -> str:
        """The text without the values of secret parameters."""
        return masking.hide(text, self.hidden)


def plan(notebook: Path, given: dict[str, Any], name: str = "default", secrets: Sequence[str] = ()) -> Plan:
    """Checks everything that can be checked before a kernel starts.

    Raises:
        InputError: name, parameters or the data they name are not as they should be.
    """
    if not re.fullmatch(r"\w[\w-]{0,80}", name) or name == "interactive" or name.startswith("sweep-"):
        raise InputError(
            f"{name[:80]!r} cannot name a run: use letters, digits, - and _, not interactive or sweep-...."
        )
    declared = parameters.read(notebook)
    values = parameters.resolve(declared, given, notebook.stem)
    parameters.refuse_overwritten(notebook, given)
    for secret in secrets:
        if secret not in values:
            raise InputError(f"{notebook.stem} has no parameter {secret}: {parameters.near(secret, values)}")
        if not isinstance(values[secret], str) or 0 < len(values[secret]) < masking.SHORTEST:
            raise InputError(
                f"{secret} cannot be kept secret: a secret is a text of {masking.SHORTEST} characters or more."
            )
    _check_inputs(values)
    final = runs_root() / notebook.stem / name
    used = {n: values[n] for n in given}
    return Plan(notebook, name, used, values, tuple(secrets), fingerprint(notebook, values, secrets), final)


def _check_inputs(values: dict[str, Any]) -> None:
    """Reads DATA and TEST once before a kernel starts, where they are files, so that mistakes show at once."""
    source, test = values.get("DATA"), values.get("TEST", "")
    if source and not source.startswith(REMOTE):
        test = "" if test.startswith(REMOTE) else test
        _check_data(source, test, values.get("TEXT_COLUMN", "text"), values.get("LABEL_COLUMN", "label"))
    for folder in values.get("RUNS", []):
        runs.load(folder)


@functools.lru_cache(maxsize=4)  # the runs of a sweep read the same files
def _check_data(*arguments: str) -> None:
    from helpers import data

    if not len(data.load(*arguments).validation):
        raise InputError(f"{arguments[0]} has too few texts to choose a model by: give every class three or more.")


def fingerprint(notebook: Path, values: dict[str, Any], secrets: Sequence[str] = ()) -> str:
    """A digest of what decides a run: cells, helpers, parameters, and the content of the data they name."""
    values = {name: value for name, value in values.items() if name not in secrets}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    digest.update("\0".join("".join(c["source"]) for c in cells).encode())
    package = Path(__file__).parent.parent
    files = sorted(package.rglob("*.py")) + sorted(p for p in package.glob("report/*") if p.is_file())
    for value in values.values():
        files += [file for item in (value if isinstance(value, list) else [value]) for file in named_files(item)]
    if values.get("RUNS") == []:
        files += sorted((project_root() / "data" / "recorded").rglob("*.*"))
    for path in files:
        state = path.stat()
        digest.update(_digest(path, state.st_mtime_ns, state.st_size))
    return digest.hexdigest()[:32]


@functools.lru_cache(maxsize=1000)  # the runs of a sweep share nearly all files
def _digest(path: Path, changed: int, size: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def named_files(value: Any) -> list[Path]:
    """The files that a parameter's value names: a path, a shipped name, or what lies in a folder that it names.

    Of a run, these are its record and its tables; of another folder, such as a corpus or pretrained weights, all.
    """
    if not isinstance(value, str) or not value:
        return []
    for base in (Path.cwd(), project_root(), project_root() / "data"):
        for path in (base / value, base / f"{value}.csv"):
            with contextlib.suppress(OSError, ValueError):
                if path.is_file():
                    return [path]
                if (path / "metrics.json").is_file():
                    return [path / "metrics.json", *sorted(path.glob("*.csv"))]
                if path.is_dir():
                    found = [*path.glob("*"), *path.glob("assets/**/*")]
                    return sorted(p for p in found if p.is_file() and not p.name.startswith("."))
    return []
