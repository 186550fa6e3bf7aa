"""Plain text to learn words or a language from: docstrings, text files, columns of tables. Notebooks 01, 02, 07."""

import ast
import contextlib
import json
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from helpers import InputError, tables
from helpers.files import cache_folder, without_password, write_json

DOCUMENTED = ("python", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "sklearn", "keras")
PLAIN, LIBRARIES = (".txt", ".md"), (*DOCUMENTED, "keras_hub", "tensorflow")
_NO_DOCUMENTATION = {"test", "tests", "site-packages", "idlelib", "_vendor", "externals"}
_PROMPT = re.compile(r"^([ \t]*)(?:>>>|\.\.\.)(?: |$)", re.MULTILINE)


def python_docs() -> list[str]:
    """Returns real text that is here already: docstrings of the standard library and the packages :data:`DOCUMENTED`.

    About 27,000 different ones, 2.5 million words, by package, file and line. They are read with ``ast`` from the
    installed files, which are not imported, and kept in the cache by package and version.
    """
    return list(dict.fromkeys(text for package in DOCUMENTED for text in _package_docs(package)))


def library_docs() -> dict[str, list[str]]:
    """Returns the docstrings of each of :data:`LIBRARIES` that is installed, by package; about 43,000, some in two."""
    return {package: found for package in LIBRARIES if (found := _package_docs(package))}


def _package_docs(package: str) -> list[str]:
    """The different docstrings of a package, by file and line."""
    if (root := _root(package)) is None:
        return []
    project = "scikit-learn" if package == "sklearn" else package
    version = platform.python_version() if package == "python" else metadata.version(project)
    kept = cache_folder() / f"docs-{package}-{version}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(kept.read_text("utf-8"))
    from joblib import Parallel, delayed

    files = [f for f in sorted(root.rglob("*.py")) if not _NO_DOCUMENTATION & {*f.relative_to(root).parts[:-1]}]
    found = Parallel(n_jobs=2)(delayed(_docstrings)(files[i : i + 100]) for i in range(0, len(files), 100))
    documents = list(dict.fromkeys(text for part in found for text in part))
    with contextlib.suppress(OSError):  # a cache that cannot be written costs seconds, not the result
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, documents)
    return documents


def _root(package: str) -> Path | None:
    if package == "python":
        return Path(sysconfig.get_path("stdlib"))
    return Path(spec.submodule_search_locations[0]) if (spec := find_spec(package)) else None


def _docstrings(files: list[Path]) -> list[str]:
    """Returns the docstrings of some files, in order, without doctest prompts; a file that is no Python has none."""
    found = []
    for raw in filter(lambda raw: b'"""' in raw, map(Path.read_bytes, files)):
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(SyntaxError, ValueError):
            found += [ast.get_docstring(node) or "" for node in _documented(ast.parse(raw))]
    return [plain for text in found if (plain := _PROMPT.sub(r"\1", text).strip())]


def _documented(node: ast.AST) -> Iterator[ast.AST]:
    """Yields a module, its classes and functions, and theirs; a walk over all nodes takes three times as long."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for child in getattr(node, "body", ()) if isinstance(node, ast.mod | ast.stmt) else ():
        yield from _documented(child)


def read_text(source: str) -> tuple[str, list[str]]:
    """Returns what a file or an address of one of the kinds :data:`PLAIN` holds, and a note on its encoding."""
    remote = source.lower().startswith(("http://", "https://"))
    raw = tables.download(source) if remote else tables.find_file(source).read_bytes()
    return tables.decode(raw, without_password(source))


def read_corpus(source: str, text_column: str = "text") -> tuple[list[str], list[str]]:
    """Returns plain documents, stripped and without empty ones, and notes on how they were read.

    ``source`` is ``python_docs``; a .txt or .md file or address, whose documents are separated by blank lines, or are
    its lines where it has no blank ones; or any table of :func:`helpers.tables.read_table`, of which a column is read.
    An InputError tells that there is no such file or column, or nothing to read in it.
    """
    if source == "python_docs":
        return python_docs(), []
    if source.lower().endswith(PLAIN):
        content, notes = read_text(source)
        parts = re.split(r"\n\s*\n", content.strip())
        documents = parts if len(parts) > 1 else content.splitlines()
    else:
        table, notes = tables.read_table(source)
        documents = tables.column(table, text_column, source, "set TEXT_COLUMN").dropna().astype(str).tolist()
    kept = [text for document in documents if (text := document.strip())]
    if not kept:
        raise InputError(f"{without_password(source)} holds no text: a corpus needs documents with words in them.")
    return kept, notes
