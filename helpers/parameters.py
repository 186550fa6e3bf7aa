"""The parameters cell of a notebook: read with ``ast``, checked before a kernel starts.

Contract: exactly one code cell tagged ``parameters`` with lines ``NAME: type = literal  # meaning, allowed values``.
Types are int, float, bool, str, ``list[...]`` of these, and ``Literal[...]``. Allowed numbers are read from the
comment: ``1 to 100``, ``at least 1``, ``above 0``, ``at most 9``, ``below 1``.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import operator
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers import InputError

SCALARS = {"int": int, "float": float, "bool": bool, "str": str}
NEEDED = ("DATA", "CORPUS", "TEXTS", "PRESET")  # never empty
MAX_INT = 2**32 - 1  # the largest seed that numpy and TensorFlow both take
_UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, SyntaxError, MemoryError, RecursionError, StopIteration)
_NUMBER = r"(?<![\w.])(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w])"
_LIMITS = {"at least": operator.ge, "above": operator.gt, "at most": operator.le, "below": operator.lt}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: name, type as written, default value, meaning."""

    name: str
    type: str
    default: Any
    meaning: str

    def accept(self, value: Any) -> Any:
        """Returns the value in the declared type, converted from text; raises InputError where it is not allowed."""
        try:
            value = _convert(value, self.type)
        except _UNREADABLE:
            said = f"of the type {self.type}" + f" ({self.meaning})" * bool(self.meaning)
            said = f"one of {self.type[8:-1]}" if self.type.startswith("Literal") else said
            raise InputError(f"{self.name}={_short(value)} is not {said}.") from None
        for item in value if isinstance(value, list) else [value]:
            if self.name in NEEDED and not str(item).strip():
                raise InputError(f"{self.name} is empty: give {self.meaning or 'a value'}.")
            if type(item) is int and abs(item) > MAX_INT:
                raise InputError(f"{self.name}={_short(item)} is out of range: whole numbers end at {MAX_INT}.")
            if type(item) in (int, float) and not self._in_range(item):
                raise InputError(f"{self.name}={_short(value)} is out of range: {self.meaning}.")
        return value

    def _in_range(self, value: float) -> bool:
        meaning = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", self.meaning)  # 10,000 and 10_000
        limits = re.findall(rf"\b({'|'.join(_LIMITS)}) {_NUMBER}", meaning)
        for low, high in re.findall(f"{_NUMBER} to {_NUMBER}", meaning):
            limits += [("at least", low), ("at most", high)]
        return all(_LIMITS[kind](value, float(limit)) for kind, limit in limits)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value and value.isprintable() else reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _convert(value: Any, kind: str) -> Any:
    """Returns ``value`` in a declared type; raises one of ``_UNREADABLE`` where it does not fit."""
    if kind.startswith("Literal"):
        return next(choice for choice in ast.literal_eval(f"[{kind[8:-1]}]") if str(value) == str(choice))
    if kind in SCALARS:
        return _scalar(value, SCALARS[kind])
    items = list(value) if isinstance(value, list | tuple) else [value]
    lists = [ast.literal_eval(i.strip()) if isinstance(i, str) and i.lstrip()[:1] == "[" else [i] for i in items]
    return [_scalar(item, SCALARS[kind[5:-1]]) for part in lists for item in part]


def _scalar(value: Any, kind: type) -> Any:
    if kind is bool:
        return {"true": True, "false": False}[str(value).lower()]
    if isinstance(value, bool) or not isinstance(value, str if kind is str else int | float | str):
        raise TypeError
    found = kind(value)
    fits = not re.search("[\0\ud800-\udfff]", value) if kind is str else math.isfinite(found)
    if not fits or (isinstance(value, float) and value != found):
        raise ValueError
    return found


def read(notebook: Path) -> dict[str, Parameter]:
    """Returns the parameters of a notebook file, in order, or raises InputError where it breaks the contract."""
    try:
        cells = [c for c in json.loads(notebook.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
        tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    except (OSError, *_UNREADABLE, AttributeError):
        raise InputError(f"{notebook.name} is not a notebook that can be read: restore the file.") from None
    if len(tagged) != 1:
        raise InputError(f"{notebook.name} has {len(tagged)} cells tagged parameters: it needs exactly one.")
    return parse("".join(tagged[0]["source"]), notebook.name)


def parse(source: str, where: str = "the notebook") -> dict[str, Parameter]:
    """Returns the parameters that a cell's source declares; see the module's contract."""
    try:
        body = ast.parse(source).body
    except _UNREADABLE:
        raise InputError(f"The parameters cell of {where} is not valid Python: mend it.") from None
    lines = re.split(r"\r\n?|\n", source)
    nodes = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return {parameter.name: parameter for parameter in (_declared(node, lines, where) for node in nodes)}


def _declared(node: ast.stmt, lines: Sequence[str], where: str) -> Parameter:
    """Returns one line of the cell, with a type that can be checked and a default that passes its own check."""
    rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    meaning = rest.partition("#")[2].strip("# ")
    try:
        kind = ast.unparse(node.annotation)
        if not kind.startswith("Literal[") and re.sub(r"^list\[(.*)\]$", r"\1", kind) not in SCALARS:
            raise TypeError
        parameter = Parameter(node.target.id, kind, ast.literal_eval(node.value), meaning)
        return replace(parameter, default=parameter.accept(parameter.default))
    except InputError as error:
        raise InputError(f"In {where} the default {str(error)[:-1]}: mend the parameters cell.") from None
    except (*_UNREADABLE, AttributeError):
        said = f"Line {node.lineno} of the parameters cell of {where} is not of the form NAME: type = literal"
        raise InputError(f"{said}, of the type int, float, bool, str, list or Literal.") from None


def resolve(notebook: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Returns all parameters of a run, the given values put in; raises InputError where one does not fit."""
    declared = read(notebook)
    for name in given:
        if name not in declared:
            raise InputError(f"{notebook.stem} has no parameter {_short(name)}: {near(name, declared)}")
    return {name: p.accept(given[name]) if name in given else p.default for name, p in declared.items()}


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns the end of a sentence on an unknown name: the known one that is most like it, else all."""
    known = {k.upper(): k for k in known}
    close = difflib.get_close_matches(name[:80].upper(), known, 1, cutoff)
    return f"did you mean {known[close[0]]}?" if close else f"it has {', '.join(known.values()) or 'none'}."


def from_pairs(declared: dict[str, Parameter], pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Returns parameters from a command line; a name that is a list may be given many times, any other once."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        is_list = name in declared and declared[name].type.startswith("list")
        if name in given and not is_list:
            raise InputError(f"{_short(name)} is given twice: keep one value.")
        given[name] = [*given.get(name, []), value] if is_list else value
    return given


def load_file(path: Path, kinds: type | tuple[type, ...] = dict) -> Any:
    """Returns what a JSON or YAML file holds; ``-`` reads standard input.

    YAML's own types are not used (it takes ``1e-3`` for text and ``no`` for false): scalars stay text, and the
    declared types decide. Raises InputError where the file is not well formed or gives a name twice.
    """
    import yaml

    twice = []

    def once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        twice.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return dict(pairs)

    class Loader(yaml.BaseLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            return once(self.construct_pairs(node, deep))

    try:
        content = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8-sig")
        try:
            found = json.loads(content, object_pairs_hook=once)
        except json.JSONDecodeError:
            found = yaml.load(content, Loader=Loader)
    except OSError:
        raise InputError(f"The parameter file {path} cannot be read: check the path.") from None
    except (*_UNREADABLE, AttributeError, yaml.YAMLError):  # AttributeError: there is no standard input
        raise InputError(f"The parameter file {path} is not well-formed YAML or JSON: mend it.") from None
    if twice:
        raise InputError(f"The parameter file {path} gives {_short(twice[0])} twice: keep one value.")
    if not isinstance(found, kinds):
        raise InputError(f"The parameter file {path} is not a mapping of names to values.")
    return found


def describe(notebook: Path) -> str:
    """Returns a notebook's parameters as a text table."""
    rows = [("name", "type", "default", "meaning, allowed values")]
    for p in read(notebook).values():
        rows.append((p.name, p.type, json.dumps(p.default, ensure_ascii=False), p.meaning))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as a text table, its columns as wide as they need.

    Examples:
        >>> aligned([("model", "validation"), ("tfidf", "0.8")])
        'model  validation\\ntfidf  0.8'
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
