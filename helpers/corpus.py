"""Plain text to learn words or a language from: installed docstrings, text files, columns of tables.

Used by ``01_embeddings_and_similarity`` and ``02_language_modeling``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers import InputError, data
from helpers.files import cache_folder, write_json

DOCUMENTED = ("numpy", "scipy", "pandas", "matplotlib", "seaborn", "sklearn", "keras")
_NO_DOCUMENTATION = {"test", "tests", "site-packages", "idlelib", "_vendor", "externals"}
_PROMPT = re.compile(r"^([ \t]*)(?:>>>|\.\.\.)(?: |$)", re.MULTILINE)


def python_docs() -> list[str]:
    """The real text that every installation carries: docstrings of the standard library and of :data:`DOCUMENTED`.

    They are read with ``ast`` from the installed files, which are not imported, by two processes, and kept in the
    cache under a digest of the versions read. Doctest prompts are taken away, their code stays.

    Returns:
        About 27,000 different docstrings in a stable order: by package, file and line; some 2.5 million words.
    """
    import hashlib
    import json
    import sys
    from importlib import metadata

    roots = _documented_roots()
    names = {"sklearn": "scikit-learn"}
    read = [sys.version, *(f"{p} {metadata.version(names.get(p, p))}" for p in list(roots)[1:])]
    file = cache_folder() / f"python_docs-{hashlib.sha256(json.dumps(read).encode()).hexdigest()[:12]}.json"
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        documents = _read_docstrings(list(roots.values()))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, documents)
    except OSError:
        pass  # a cache that cannot be written costs seconds, not the result
    return documents


def _documented_roots() -> dict[str, Path]:
    import sysconfig
    from importlib.util import find_spec

    roots = {"python": Path(sysconfig.get_path("stdlib"))}
    for package in DOCUMENTED:
        if spec := find_spec(package):
            roots[package] = Path(spec.submodule_search_locations[0])
    return roots


def _read_docstrings(roots: list[Path]) -> list[str]:
    from joblib import Parallel, delayed

    files = [
        file
        for root in roots
        for file in sorted(root.rglob("*.py"))
        if not _NO_DOCUMENTATION.intersection(file.relative_to(root).parts[:-1])
    ]
    chunks = [files[i : i + 100] for i in range(0, len(files), 100)]
    found = Parallel(n_jobs=2)(delayed(_docstrings)(chunk) for chunk in chunks)
    return list(dict.fromkeys(text for part in found for text in part))


def _docstrings(files: list[Path]) -> list[str]:
    """The docstrings of some files, in order; a file that cannot be parsed has none."""
    import ast
    import warnings

    found = []
    for file in files:
        raw = file.read_bytes()
        if b'"""' not in raw:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escape sequences in other people's code
            try:
                tree = ast.parse(raw)
            except (SyntaxError, ValueError):
                continue
        texts = (_PROMPT.sub(r"\1", text).strip() for node in _documented(tree) if (text := ast.get_docstring(node)))
        found += [text for text in texts if text]
    return found


def _documented(node: Any) -> Iterator[Any]:
    """A module, its classes and functions, and theirs; a walk over all nodes takes three times as long."""
    import ast

    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node
    for child in getattr(node, "body", ()) if isinstance(node, (ast.mod, ast.stmt)) else ():
        yield from _documented(child)


def read_corpus(source: str, text_column: str = "text") -> tuple[list[str], list[str]]:
    """Reads plain documents to learn words or a language from, in English or Chinese.

    Args:
        source: ``python_docs``; a shipped name; a .txt file, whose documents are separated by blank lines, or are its
            lines where it has no blank ones; or any table of :func:`helpers.data.read_table`.
        text_column: the column of a table that holds the documents.

    Returns:
        The documents, white space around them taken away and empty ones left out, and notes on how they were read.

    Raises:
        InputError: no such file or column, or nothing to read in it.
    """
    if source == "python_docs":
        return python_docs(), []
    if source.lower().endswith(".txt"):
        raw, notes = data.decode(data.find_file(source).read_bytes(), source), []
        notes += [] if raw[1] == "utf-8" else [f"{source} was decoded as {raw[1]}."]
        parts = re.split(r"\n\s*\n", raw[0].strip())
        documents = parts if len(parts) > 1 else raw[0].splitlines()
    else:
        table, notes = data.read_table(source)
        documents = data.column(table, text_column, source, "set TEXT_COLUMN").dropna().astype(str).tolist()
    kept = [text for document in documents if (text := document.strip())]
    if not kept:
        raise InputError(f"{source} holds no text: a corpus needs documents with words in them.")
    if len(kept) < len(documents):
        notes.append(f"{len(documents) - len(kept)} empty documents of {source} were left out.")
    return kept, notes
