"""The parameters cell of a notebook: read with ``ast``, checked before a kernel starts.

Contract: exactly one code cell tagged ``parameters`` with lines ``NAME: type = literal  # meaning, allowed values``.
Allowed values are read from the type (``Literal[...]``, ``int | None``) and from the comment
(``1 to 100``, ``at least 1``, ``above 0``).
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import keyword
import math
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import InputError

SCALARS = {"int": int, "float": float, "bool": bool, "str": str}
_NUMBER = r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)"
_RANGES = (
    (re.compile(rf"\b{_NUMBER} to {_NUMBER}\b"), "between"),
    (re.compile(rf"\bat least {_NUMBER}"), "at least"),
    (re.compile(rf"\babove {_NUMBER}"), "above"),
)


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: name, type as written, default value, meaning."""

    name: str
    type: str
    default: Any
    meaning: str

    def accept(self, value: Any) -> Any:
        """The value in the declared type; text (from a command line) is converted.

        Raises:
            InputError: not of the type, not among the choices, out of range, or not finite.
        """
        try:
            value = _convert(value, ast.parse(self.type, mode="eval").body)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
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
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        for pattern, kind in _RANGES:
            if found := pattern.search(self.meaning):
                low, high = float(found[1]), float(found[found.lastindex])
                if kind == "between":
                    return low <= value <= high
                return value > low if kind == "above" else value >= low
        return True


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else repr(value)
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
        value = ast.literal_eval(value) if value.strip().startswith("[") else [value]
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return list(value)


def _scalar(value: Any, kind: type) -> Any:
    if kind is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if kind is bool:
        return (
            {"true": True, "false": False}[str(value).lower()] if str(value).lower() in ("true", "false") else int("x")
        )
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    if kind is int and isinstance(value, float) and value != int(value):
        raise ValueError
    number = kind(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def read(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook file, in order.

    Raises:
        InputError: the file is no notebook, or its parameters cell breaks the contract.
    """
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
        sources = ["".join(c["source"]) for c in tagged]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{notebook.name} is not a notebook that can be read: restore the file.") from None
    if len(sources) != 1:
        raise InputError(f"{notebook.name} has {len(sources)} cells tagged parameters: it needs exactly one.")
    return parse(sources[0], notebook.name)


def parse(source: str, where: str = "the notebook") -> dict[str, Parameter]:
    """The parameters that a cell's source declares; see the module's contract."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        raise InputError(f"The parameters cell of {where} is not valid Python: mend it.") from None
    comments = _comments(source)
    found = {}
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value):
            raise InputError(
                f"Line {node.lineno} of the parameters cell of {where} is not of the form NAME: type = literal."
            )
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise InputError(
                f"{node.target.id} in {where} is not a literal: parameters hold no derived value."
            ) from None
        found[node.target.id] = Parameter(
            node.target.id, ast.unparse(node.annotation), default, comments.get(node.end_lineno, "")
        )
    return found


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
            close = difflib.get_close_matches(name.upper(), declared, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(declared) or 'none'}."
            raise InputError(f"{where} has no parameter {name}: {hint}")
    return {name: p.accept(given[name]) if name in given else p.default for name, p in declared.items()}


def load_file(path: Path) -> dict[str, Any]:
    """Parameters from a YAML or JSON file.

    Raises:
        InputError: no such file, not well formed, or not a mapping of names to values.
    """
    import yaml

    try:
        content = path.read_text("utf-8-sig")
        values = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    except OSError:
        raise InputError(f"The parameter file {path} cannot be read: check the path.") from None
    except (ValueError, yaml.YAMLError):
        raise InputError(f"The parameter file {path} is not well-formed YAML or JSON.") from None
    if not isinstance(values, dict):
        raise InputError(f"The parameter file {path} is not a mapping of names to values.")
    return values


def table(declared: dict[str, Parameter]) -> str:
    """The parameters as an aligned text table: name, type, default, meaning."""
    rows = [("name", "type", "default", "meaning, allowed values")]
    rows += [(p.name, p.type, json.dumps(p.default, ensure_ascii=False), p.meaning) for p in declared.values()]
    widths = [max(len(r[i]) for r in rows) for i in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[3]]).rstrip() for r in rows)
