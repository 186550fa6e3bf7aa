"""The parameters cell of a notebook: read with ``ast``, checked before a kernel starts.

Contract: exactly one code cell tagged ``parameters`` with lines ``NAME: type = literal  # meaning, allowed values``.
Types are int, float, bool, str, ``list[...]`` of these, ``Literal[...]``, and any of them with ``| None``. Allowed
numbers are read from the comment: ``1 to 100``, ``at least 1``, ``above 0``, ``at most 9``, ``below 1``.
"""

from __future__ import annotations

import ast
import difflib
import functools
import io
import json
import keyword
import math
import operator
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import InputError

SCALARS = {"int": int, "float": float, "bool": bool, "str": str}
MAX_TEXT = 100_000
_UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, SyntaxError, MemoryError, RecursionError)
_NUMBER = r"(?<![\w.])(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w])"
_RANGE = re.compile(rf"{_NUMBER} to {_NUMBER}")
_LIMITS = {"at least": operator.ge, "above": operator.gt, "at most": operator.le, "below": operator.lt}
_LIMIT = re.compile(rf"\b({'|'.join(_LIMITS)}) {_NUMBER}")


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: name, type as written, default value, meaning."""

    name: str
    type: str
    default: Any
    meaning: str

    def accept(self, value: Any) -> Any:
        """The value in the declared type; text (from a command line or file) is converted.

        Raises:
            InputError: not of the type, not among the choices, out of range, or not finite.
        """
        try:
            value = _convert(value, ast.parse(self.type, mode="eval").body)
        except _UNREADABLE:
            raise InputError(f"{self.name}={_short(value)} is not {self._expected()}.") from None
        for number in value if isinstance(value, list) else [value]:
            if not self._in_range(number):
                raise InputError(f"{self.name}={_short(value)} is out of range: {self.meaning}.")
        return value

    def _expected(self) -> str:
        if self.type.startswith("Literal"):
            return "one of " + self.type[8:-1]
        return f"of the type {self.type} ({self.meaning})" if self.meaning else f"of the type {self.type}"

    def _in_range(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        meaning = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", self.meaning)  # 10,000 and 10_000
        between = [float(low) <= value <= float(high) for low, high in _RANGE.findall(meaning)]
        limits = [_LIMITS[kind](value, float(limit)) for kind, limit in _LIMIT.findall(meaning)]
        return all(between + limits)


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) and value and value.isprintable() else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _convert(value: Any, kind: ast.expr) -> Any:
    """``value`` in the type that the annotation ``kind`` names; raises ValueError or TypeError otherwise."""
    if isinstance(kind, ast.BinOp):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            return None
        return _convert(value, kind.left)
    if isinstance(kind, ast.Subscript) and kind.value.id == "Literal":
        return _choose(value, ast.literal_eval(kind.slice))
    if isinstance(kind, ast.Subscript):
        return [_convert(item, kind.slice) for item in _as_list(value)]
    return _scalar(value, SCALARS[kind.id])


def _choose(value: Any, choices: Any) -> Any:
    for choice in choices if isinstance(choices, tuple) else (choices,):
        if (value == choice and isinstance(value, bool) == isinstance(choice, bool)) or value == str(choice):
            return choice
    raise ValueError


def _as_list(value: Any) -> list:
    if isinstance(value, str):
        value = ast.literal_eval(value.strip()) if value.strip().startswith("[") else [value]
    if not isinstance(value, list | tuple):
        raise TypeError
    return list(value)


def _scalar(value: Any, kind: type) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif hasattr(value, "item"):
        value = value.item()  # a number of numpy
    if kind is str:
        return _text(value)
    if kind is bool:
        return _truth(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if kind is int and isinstance(value, float) and value != int(value):
        raise ValueError
    number = kind(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode("utf-8")  # raises a ValueError for bytes that were no text
    if len(value) > MAX_TEXT or "\0" in value:
        raise ValueError
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool | str) or str(value).lower() not in ("true", "false"):
        raise ValueError
    return str(value).lower() == "true"


def _cells(notebook: Path) -> list[tuple[list[str], str]]:
    """Tags and source of each code cell.

    Raises:
        InputError: the file is no notebook that can be read.
    """
    try:
        cells = [c for c in json.loads(notebook.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
        return [(list(c.get("metadata", {}).get("tags", [])), "".join(c["source"])) for c in cells]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{notebook.name} is not a notebook that can be read: restore the file.") from None


def read(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook file, in order.

    Raises:
        InputError: the file is no notebook, or its parameters cell breaks the contract.
    """
    sources = [source for tags, source in _cells(notebook) if "parameters" in tags]
    if len(sources) != 1:
        raise InputError(f"{notebook.name} has {len(sources)} cells tagged parameters: it needs exactly one.")
    return parse(sources[0], notebook.name)


def parse(source: str, where: str = "the notebook") -> dict[str, Parameter]:
    """The parameters that a cell's source declares; see the module's contract."""
    try:
        body = ast.parse(source).body
        comments = _comments(source)
    except (*_UNREADABLE, tokenize.TokenError):
        raise InputError(f"The parameters cell of {where} is not valid Python: mend it.") from None
    found: dict[str, Parameter] = {}
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        parameter = _declared(node, comments, where)
        if parameter.name in found:
            raise InputError(f"The parameters cell of {where} sets {parameter.name} twice: remove one line.")
        found[parameter.name] = parameter
    return found


def _declared(node: ast.stmt, comments: dict[int, str], where: str) -> Parameter:
    """One line of the cell, with a type that can be checked and a default that passes its own check."""
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value):
        raise InputError(
            f"Line {node.lineno} of the parameters cell of {where} is not of the form NAME: type = literal."
        )
    name, kind = node.target.id, ast.unparse(node.annotation)
    if not _known(node.annotation):
        raise InputError(f"{name} in {where} has the type {kind}: use int, float, bool, str, list or Literal.")
    try:
        default = ast.literal_eval(node.value)
    except _UNREADABLE:
        raise InputError(f"{name} in {where} is not a literal: parameters hold no derived value.") from None
    parameter = Parameter(name, kind, default, comments.get(node.end_lineno, ""))
    try:
        return Parameter(name, kind, parameter.accept(default), parameter.meaning)
    except InputError as error:
        raise InputError(f"In {where} the default {str(error)[:-1]}: mend the parameters cell.") from None


def _known(kind: ast.expr) -> bool:
    if isinstance(kind, ast.BinOp):
        none = isinstance(kind.right, ast.Constant) and kind.right.value is None
        return none and isinstance(kind.op, ast.BitOr) and _known(kind.left)
    if isinstance(kind, ast.Subscript):
        return ast.unparse(kind.value) == "Literal" or (ast.unparse(kind.value) == "list" and _known(kind.slice))
    return isinstance(kind, ast.Name) and kind.id in SCALARS


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}


def resolve(declared: dict[str, Parameter], given: dict[str, Any], where: str) -> dict[str, Any]:
    """All parameters of a run: the defaults with the given values put in, each checked.

    Raises:
        InputError: an unknown name (with a near miss), or a value that does not fit.
    """
    for name in given:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise InputError(
                f"{_short(name)} is not a parameter name: names are such as {next(iter(declared), 'EPOCHS')}."
            )
        if name not in declared:
            raise InputError(f"{where} has no parameter {_short(name)}: {near(name, declared)}")
    return {name: p.accept(given[name]) if name in given else p.default for name, p in declared.items()}


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence on an unknown name: the known one that is most like it, else all."""
    known = list(known)
    close = difflib.get_close_matches(name[:80].upper(), [k.upper() for k in known], 1, cutoff)
    match = next((k for k in known if close and k.upper() == close[0]), None)
    return f"did you mean {match}?" if match else f"it has {', '.join(known) or 'none'}."


def refuse_overwritten(notebook: Path, names: Iterable[str]) -> None:
    """Refuses values that would have no effect, because a cell below the parameters sets the name again.

    Raises:
        InputError: with the name and the line that sets it.
    """
    lines = overwritten(notebook)
    for name in names:
        if name in lines:
            raise InputError(
                f"{name} is set again further down in {notebook.name} ({lines[name]!r}), so a value given for it "
                "would be lost: remove that line."
            )


def overwritten(notebook: Path) -> dict[str, str]:
    """The names that cells below the parameters set, each with a line that does."""
    cells = _cells(notebook)
    first = next((i for i, (tags, _) in enumerate(cells) if "parameters" in tags), len(cells))
    found: dict[str, str] = {}
    for _, source in cells[first + 1 :]:
        for name, line in _set_names(source):
            found.setdefault(name, line)
    return found


@functools.lru_cache(maxsize=1000)  # the runs of a sweep share a notebook
def _set_names(source: str) -> tuple[tuple[str, str], ...]:
    return tuple(_assigned(source))


def _assigned(source: str) -> Iterator[tuple[str, str]]:
    """The names that a cell sets at its top level, or by ``global``, each with its line."""
    plain, tree = _parse_cell(source)
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        for name in _bound(node):
            yield name, plain.splitlines()[node.lineno - 1].strip()[:60]
        for code in _timed(node):
            yield from _assigned(code)
        if isinstance(node, _FUNCTIONS):
            waiting += (n for n in ast.walk(node) if isinstance(n, ast.Global))
        elif isinstance(node, _COMPREHENSIONS):
            waiting += (n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
        else:
            waiting += ast.iter_child_nodes(node)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _parse_cell(source: str) -> tuple[str, ast.Module]:
    """A cell as Python, and its tree; nothing where it is neither Python nor IPython's ``%time``, ``!ls`` or ``x?``."""
    try:
        return source, ast.parse(source)
    except _UNREADABLE:
        from IPython.core.inputtransformer2 import TransformerManager  # takes a third of a second
    try:
        plain = TransformerManager().transform_cell(source)
        return plain, ast.parse(plain)
    except _UNREADABLE:
        return "", ast.Module([], [])


def _timed(node: ast.AST) -> list[str]:
    """The code that a call made of ``%time``, ``%%time``, ``%%capture`` or ``%prun`` runs in the notebook's names."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("get_ipython().run_")):
        return []
    words = [a.value for a in node.args if isinstance(a, ast.Constant)]
    return words[1:] if words[:1] in (["time"], ["capture"], ["prun"]) else []


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        return [node.id]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return [node.name] if node.name else []
    if isinstance(node, ast.MatchMapping):
        return [node.rest] if node.rest else []
    return node.names if isinstance(node, ast.Global) else []


def from_pairs(declared: dict[str, Parameter], pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters from a command line; a name that is a list may be given many times.

    Raises:
        InputError: a name given twice that takes one value, or a list that cannot be read.
    """
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in given and not (name in declared and declared[name].type.startswith("list")):
            raise InputError(f"{_short(name)} is given twice: keep one value.")
        try:
            given[name] = [*_as_list(given[name]), *_as_list(value)] if name in given else value
        except _UNREADABLE:
            raise InputError(f"{_short(name)} is given a list that cannot be read: write it as '[1, 2]'.") from None
    return given


def load_file(path: Path) -> dict[str, Any]:
    """Parameters from a YAML or JSON file; ``-`` reads standard input.

    YAML's own types are not used (it takes ``1e-3`` for text and ``no`` for false): the declared types decide.

    Raises:
        InputError: no such file, not well formed, or not a mapping of names to values.
    """
    values = load_structure(path)
    if not isinstance(values, dict):
        raise InputError(f"The parameter file {path} is not a mapping of names to values.")
    return values


def load_structure(path: Path) -> Any:
    """Whatever a YAML or JSON file holds, YAML's scalars as text, ``~`` and nothing at all as None.

    Raises:
        InputError: no such file, not well formed, or a name that is given twice.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        def construct_scalar(self, node: yaml.ScalarNode) -> str | None:
            empty = node.style is None and node.value in ("", "~")
            return None if empty else super().construct_scalar(node)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            _once([(str(key.value), None) for key, _ in node.value])
            return super().construct_mapping(node, deep)

    try:
        content = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8-sig")
        if content.lstrip()[:1] in ("{", "[") and path.suffix not in (".yaml", ".yml"):
            return json.loads(content, object_pairs_hook=_once)
        return yaml.load(content, Loader=Loader)
    except InputError as error:
        raise InputError(f"The parameter file {path} {error}") from None
    except OSError:
        raise InputError(f"The parameter file {path} cannot be read: check the path.") from None
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        raise InputError(f"The parameter file {path} is not well-formed YAML or JSON: mend it.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose names are all different."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InputError(f"gives {_short(name)} twice: keep one value.")
        found[name] = value
    return found


def table(declared: dict[str, Parameter]) -> str:
    """The parameters as an aligned text table: name, type, default, meaning."""
    rows = [("name", "type", "default", "meaning, allowed values")]
    rows += [(p.name, p.type, json.dumps(p.default, ensure_ascii=False), p.meaning) for p in declared.values()]
    widths = [max(len(r[i]) for r in rows) for i in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[3]]).rstrip() for r in rows)


def describe(notebook: Path) -> str:
    """The table of a notebook's parameters, and below it those that a later cell overwrites."""
    declared, lines = read(notebook), overwritten(notebook)
    lost = [
        f"{name} is set again further down ({lines[name]!r}): a value for it is refused."
        for name in declared
        if name in lines
    ]
    return "\n".join([table(declared), *lost])
