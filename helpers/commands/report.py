"""Executed notebooks as self-contained HTML files, and an index over many runs.

A report opens by double click with no network: no outside script, font or picture. Text that comes from data is always
escaped (jinja) or cleaned (bleach), and a Content-Security-Policy allows no script but ours.
"""

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from helpers import InputError, parameters
from helpers.commands import overview
from helpers.commands.safe_html import clean, markdown, plain
from helpers.files import without_folders, write_atomic
from helpers.runs import load

_FOLDER = Path(__file__).parent.parent / "report"
_SCRIPT = (_FOLDER / "script.js").read_text("utf-8")
_TITLE = re.compile(r"\s*# +(\S.*)")
_PLUMBING = r"(\s|$|import |from |@|%|else:|[)\]}]|\w+$)"


def render(folder: Path) -> Path:
    """Writes the notebook of a run as one self-contained HTML file, ``report.html``; returns it.

    Cells tagged ``answer`` come first; ``check`` cells are left out; the setup is folded; ``remove-input`` hides code.
    Run time, metrics and parameters come from ``metrics.json``.
    """
    return _write(folder / "report.html", _page(_entry(folder)))


def collect(folders: Iterable[Path]) -> list[Path]:
    """Returns the runs in folders, failed ones too, hidden ones and ``interactive`` not; each once."""
    found: dict[Path, None] = {}
    for folder in folders:
        records = (file for depth in ("", "*/", "*/*/") for file in folder.glob(f"{depth}metrics.json"))
        here = sorted(r.parent.relative_to(folder) for r in records if r.with_name("notebook.ipynb").is_file())
        here = [folder / run for run in here if not re.search(r"(^|/)(\.\w|interactive$)", run.as_posix())]
        if not here:
            raise InputError(f"{folder} holds no finished or failed run: run a notebook first.")
        found |= dict.fromkeys(here)
    return list(found)


def build(runs: Sequence[Path], out: Path, *, update: bool = False) -> Path:
    """Writes a report for each run folder, and ``index.html``; returns the index's path.

    With ``update``, a page that is younger than its run stays as it is, without links to pages that are new.
    """
    entries = sorted(map(_entry, runs), key=lambda e: (e["notebook"], e["name"] != "default", e["name"], e["failed"]))
    first, taken = {}, {"index"}
    for entry in entries:
        entry["file"] = _file_name(entry, taken)
        first.setdefault(entry["notebook"], entry)
    main = list(first.values())
    for entry in entries:
        file, book = out / entry["file"], entry["folder"] / "notebook.ipynb"
        if not (update and file.is_file() and file.stat().st_mtime > book.stat().st_mtime):
            _write(file, _page(entry, main))
    by_number = {entry["notebook"][:2]: entry for entry in reversed(main)}
    cards = [overview.card(entry) for entry in main if not entry["failed"]]
    shown = {"by_number": by_number, "cards": cards, "ladder": overview.ladder(main)}
    return list_runs("Reports", entries, out / "index.html", **shown)


def list_runs(title: str, entries: Sequence[Mapping[str, Any]], out: Path, **above: Any) -> Path:
    """Writes a page with the table of runs below what stands ``above``; returns ``out``."""
    return _write(out, _TEMPLATES.get_template("index.html.j2").render(title=title, entries=entries, **above))


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): free space, or choose another place.") from None
    return path


def _read(path: Path) -> Any:
    try:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
    except Exception as error:  # nbformat raises a dozen kinds, from OSError to AttributeError
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{path} is not a readable notebook ({reason}).") from None
    return nb


def _entry(folder: Path) -> dict[str, Any]:
    """A run as the templates want it: its record, and what is said of its notebook."""
    run, nb = load(folder), _read(folder / "notebook.ipynb")
    run |= {"nb": nb, "folder": folder, "failed": run.get("status") == "failed"}
    return run | {"title": _title(nb)[0] or run["notebook"], "where": _where(nb, run), "settings": _settings(nb, run)}


def _file_name(run: Mapping[str, Any], taken: set[str]) -> str:
    """A plain file name that no other run has, whatever the run is called."""
    stem = run["notebook"] if run["name"] == "default" else f"{run['notebook']}-{run['name']}"
    stem = (re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "run") + "-failed" * run["failed"]
    names = (stem + f"-{i}" * (i > 1) for i in range(1, len(taken) + 2))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return f"{name}.html"


def _title(nb: Any) -> tuple[str, Any]:
    """The first H1 that opens a cell, as plain text, and that cell."""
    for cell in nb.cells:
        if cell.cell_type == "markdown" and (found := _TITLE.match(cell.source)):
            return re.sub(r"[*`]", "", found[1].rstrip(" #")), cell
    return "", None


def _tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def _where(nb: Any, run: Mapping[str, Any]) -> str:
    """Where a run failed, as its reader finds it: the heading above."""
    place = run.get("failed_cell")
    above = nb.cells[:place] if isinstance(place, int) else []
    texts = "\n".join(cell.source for cell in above if cell.cell_type == "markdown")
    headings = re.findall(r"(?m)^##+ +([^\s#].*)", texts)  # one # may be a comment in code
    return f"below the heading “{re.sub(r'[*`]', '', headings[-1]).rstrip(' #')}”" if headings else ""


def _settings(nb: Any, run: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    """Each parameter with its value, and whether that differs from the notebook's default."""
    declared, defaults = next((cell.source for cell in nb.cells if "parameters" in _tags(cell)), ""), {}
    with contextlib.suppress(InputError):  # another tool's notebook: its record says what was used
        defaults = {name: parameter.default for name, parameter in parameters.parse(declared).items()}
    used = run.get("parameters") or defaults
    return [(str(k), without_folders(v), k not in defaults or defaults[k] != v) for k, v in used.items()]


def _page(run: Mapping[str, Any], main: Sequence[Any] = ()) -> str:
    """One executed notebook as HTML, with links to the ``main`` reports that it stands among."""
    cells, opening, pages = run["nb"].cells, _title(run["nb"])[1], {entry["notebook"]: entry["file"] for entry in main}
    last = max((i for i, cell in enumerate(cells) if _tags(cell) & {"parameters", "injected-parameters"}), default=-1)
    answer, setup, body, contents, taken = [], [], [], [], {"main", "show-code", ""}
    for place, cell in enumerate(cells):
        tags, failed = _tags(cell), "error" in [output.output_type for output in cell.get("outputs", ())]
        if cell.cell_type == "raw" or {"check", "remove-cell", "injected-parameters"} & tags:
            continue
        folded = "setup" in tags or (place <= last and (cell.cell_type == "code" or cell.source.startswith("## Setup")))
        part = answer if "answer" in tags else setup if folded and not failed else body
        if cell.cell_type == "markdown":
            source = _TITLE.sub("", cell.source, count=1) if cell is opening else cell.source
            cell.html, found = _headings(markdown(source, pages, cell.get("attachments")), taken)
            contents += [] if part is setup else found
        part.append(cell)
    shown = {"run": run, "pages": pages, "main": main, "parts": (answer, setup, body), "contents": contents}
    return _TEMPLATES.get_template("page.html.j2").render(shown)


def _caption(source: str) -> str:
    """The first outer line of a code cell that does something, or is a comment; else nothing."""
    return next((line.removeprefix("# ") for line in source.split("\n") if not re.match(_PLUMBING, line)), "")


def _headings(text: str, taken: set[str]) -> tuple[Markup, list[tuple[int, str, str]]]:
    """HTML whose headings have an id (the one Jupyter gives); level, id and text of each."""
    soup, found = BeautifulSoup(text, "html.parser"), []
    for part in (part for part in soup.find_all("p") if part.get_text().startswith("摘要")):
        part["lang"] = "zh"
    for heading in soup.find_all(["h1", "h2", "h3"]):
        words = " ".join(heading.get_text().split())
        anchor = words.replace(" ", "-")
        heading["id"] = anchor = f"{anchor}-{len(taken)}" if anchor in taken else anchor
        taken.add(anchor)
        found.append((int(heading.name[1]), anchor, words))
    return Markup(soup), found


_TEMPLATES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True)
_TEMPLATES.filters |= {
    "clean": clean, "markdown": markdown, "plain": plain, "python": repr, "caption": _caption,
    "number": overview.number, "code": lambda source: Markup(highlight(source, PythonLexer(), HtmlFormatter())),
}  # fmt: skip
_TEMPLATES.globals |= {
    "script": Markup(_SCRIPT), "digest": base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
    "headline": overview.HEADLINE,
}  # fmt: skip
