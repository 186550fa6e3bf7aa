"""Files that are whole or not there: written under a temporary name, synced and renamed; locks; folders of runs."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from helpers import InputError

WAIT = "HELPERS_WAIT"  # the variable that makes a process wait for a lock


def project_root() -> Path:
    """Returns the folder with ``data/`` and ``notebooks/``: above this package, else above the current directory."""
    typed = Path(os.environ.get("HELPERS_CWD", "."))
    for start in (Path(__file__).resolve().parent.parent, Path.cwd(), *Path.cwd().parents, typed, *typed.parents):
        if (start / "data" / "news_en.csv").exists():
            return start
    raise InputError("The project's folder data/ was not found: start from inside the project, as `make lab` does.")


def bases() -> list[Path]:
    """Returns where a relative path is looked up: where the command was typed, here, in the project."""
    return [Path(os.environ.get("HELPERS_CWD", ".")), Path.cwd(), project_root()]


def cache_folder() -> Path:
    """Returns where weights are kept: ``$HELPERS_CACHE``, else ``~/.cache/helpers-notebooks``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HELPERS_CACHE") or Path(base) / "helpers-notebooks")


def runs_root() -> Path:
    """Returns the folder of all runs: ``$HELPERS_RUNS``, which may lie in the project, else ``runs/`` there."""
    return (project_root() / Path(os.environ.get("HELPERS_RUNS") or "runs").expanduser()).resolve()


def shown(path: Path) -> str:
    """Returns a path without what lies above the project or above ``runs/``."""
    return os.path.relpath(path, project_root() if path.is_relative_to(project_root()) else runs_root().parent)


def without_password(source: Any) -> Any:
    """Returns a source as it may be shown: an address without its password and what follows a question mark."""
    if not isinstance(source, str) or not re.match(r"https?://", source, re.IGNORECASE):
        return source
    return re.sub(r"(://)[^/]*@", r"\1", source.split("?")[0])


def without_folders(value: Any) -> Any:
    """Returns a value for a page that is shared: an absolute path from the current folder on, or its last part."""
    value = [*map(without_folders, value)] if isinstance(value, list) else without_password(value)
    if not isinstance(value, str) or not (path := Path(value)).is_absolute():
        return value
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file under a temporary name, syncs and renames it at the end: it is whole or not there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file that is whole or not there."""
    with whole(path) as file:
        file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON atomically; a number that is not finite becomes null, one of numpy a plain one."""
    plain = json.loads(json.dumps(value, default=lambda number: number.item()), parse_constant=lambda _: None)
    write_atomic(path, json.dumps(plain, ensure_ascii=False, indent=1) + "\n")


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """A lock in a folder of runs, which is made; one process has it at a time, and one that dies lets go of it.

    An InputError tells that another process has it, or that the disk of the folder is full or read-only.
    """
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path, timeout=-1 if WAIT in os.environ else 0):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # filelock sees that the name is gone, and makes it anew
    except filelock.Timeout:
        raise InputError(f"Another process is building {what}: wait for it, or choose another name.") from None
    except BrokenPipeError:  # of ``| head``, not of the disk
        raise
    except OSError as error:
        told = f"The run folder {shown(path.parent)} cannot be written ({error.strerror or error})"
        raise InputError(f"{told}: free space, or set HELPERS_RUNS.") from None


def recover(target: Path) -> None:
    """Brings back the folder that a process killed in :func:`replace_folder` had just moved away."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a hidden folder to fill, which gets its name at the end; one that had it is gone only then."""
    part = path.with_name(f".{path.name}.part")
    recover(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        replace_folder(part, path)
    finally:
        recover(path)
        shutil.rmtree(part, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Gives a finished folder its name; one that had it is gone only then."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
        if (given := old / "corrections.csv").exists():  # by people, to serve
            shutil.copy2(given, source)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)
