"""Executed notebooks as self-contained HTML files, and an index over many runs.

A report opens by double click with no network: no outside script, font or picture. Text that comes from data is always
escaped (jinja) or cleaned (bleach), and a Content-Security-Policy allows no script but ours. The templates lie in
``helpers/report/``; what the index computes stands in :mod:`helpers.commands.overview`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers import InputError, parameters
from helpers.commands import overview
from helpers.commands.safe_html import NO_ALT, clean, markdown, plain
from helpers.files import write_atomic
from helpers.runs import load

NOTICE = "A report contains texts of the data it was made from: share it only with people who may read them."
_TEMPLATES = Path(__file__).parent.parent / "report"
_TYPES = ("text/html", "image/png", "image/jpeg", "text/markdown", "text/latex", "text/vnd.mermaid", "text/plain")
_TITLE = re.compile(r"\s*# +(\S.*)")


def render(notebook: Path, out: Path) -> Path:
    """Writes an executed notebook as one self-contained HTML file; returns ``out``.

    Cells tagged ``answer`` come first; ``check`` cells are left out; the setup is folded; ``remove-input`` hides code.
    Run time, metrics and parameters come from ``metrics.json`` beside the notebook.
    """
    known = (notebook.parent / "metrics.json").is_file()
    return _write(out, _html(_read(notebook), load(notebook.parent) if known else {"notebook": notebook.stem}))


def collect(folders: Iterable[Path]) -> list[Path]:
    """Returns the runs and sweeps in folders, failed ones too, hidden ones and ``interactive`` not; each once."""
    found: dict[Path, None] = {}
    for folder in folders:
        below = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if _is_run(path))
        here = [folder] if _is_run(folder) or (folder / "metrics.json").is_file() else below
        if not here:
            raise InputError(f"{folder} holds no finished or failed run: run a notebook first.")
        found |= dict.fromkeys(here)
    return list(found)


def _is_run(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.parent.name.startswith(".") or folder.name == "interactive"
    files = ("sweep.ipynb",) if folder.name.startswith("sweep-") else ("metrics.json", "notebook.ipynb")
    return not hidden and all((folder / file).is_file() for file in files)


def build(runs: Sequence[Path], out: Path, *, update: bool = False) -> Path:
    """Writes a report for each run folder or sweep, and ``index.html``; returns the index's path.

    With ``update``, a page that is younger than its run stays as it is, without links to pages that are new.
    """
    entries = sorted(map(_entry, runs), key=lambda e: (
        e["notebook"], e["sweep"], e["name"] != "default", e["name"], e["failed"]))  # fmt: skip
    taken = {"index"}
    for entry in entries:
        entry["file"] = _file_name(entry, taken)
    first = {entry["notebook"]: entry for entry in reversed(entries) if not entry["sweep"]}
    main = sorted(first.values(), key=lambda entry: entry["notebook"])
    around = {entry["notebook"]: sides for entry, *sides in zip(main, [None, *main], [*main[1:], None], strict=False)}
    for entry in entries:
        file, book = out / entry["file"], entry["folder"] / "notebook.ipynb"
        if update and file.is_file() and book.is_file() and file.stat().st_mtime > book.stat().st_mtime:
            continue
        same = [other for other in entries if other["notebook"] == entry["notebook"] and not other["sweep"]]
        pages = {name: other["file"] for name, other in first.items()}
        pages |= {f"../{other['folder'].name}/report.html": other["file"] for other in same}
        _write(file, _html(entry["nb"], entry, pages, around.get(entry["notebook"], ())))
    return _write(out / "index.html", _template("index.html.j2", "Reports", **overview.contents(entries, main)))


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place with --out.") from None
    return path


def _read(path: Path) -> Any:
    import nbformat

    try:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
    except Exception as error:  # nbformat raises a dozen kinds, from OSError to AttributeError
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{path} is not a readable notebook ({reason}).") from None
    return nb


def _entry(folder: Path) -> dict[str, Any]:
    """A run, or a sweep, as the templates want it."""
    import nbformat

    if (folder / "sweep.ipynb").is_file():
        ends = overview.states(folder / "results.csv")
        known = {"notebook": folder.resolve().parent.name, "name": folder.name, "failed": ends["failed"] > 0}
        known["told"] = ", ".join(f"{count} {state}" for state, count in ends.items())
        return known | {"nb": _read(folder / "sweep.ipynb"), "sweep": True, "folder": folder}
    run, book = load(folder), folder / "notebook.ipynb"
    failed = run.get("status") == "failed"  # maybe before its first cell
    nb = nbformat.v4.new_notebook() if failed and not book.exists() else _read(book)
    more = {"title": _title(nb) or run["notebook"], "values": _values(nb, run), "where": _where(nb, run)}
    return run | more | {"nb": nb, "folder": folder, "sweep": False, "failed": failed, "figure": _figure(folder, nb)}


def _file_name(run: Mapping[str, Any], taken: set[str]) -> str:
    """A plain file name that no other run has, whatever the run is called."""
    stem = run["notebook"] if run["name"] == "default" else f"{run['notebook']}-{run['name']}"
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "run"
    stem += "-failed" if run["failed"] and not run["sweep"] else ""
    names = [stem, *(f"{stem}-{i}" for i in range(2, len(taken) + 2))]
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return f"{name}.html"


def _title(nb: Any) -> str:
    """The first H1 that opens a cell, as plain text."""
    found = (_TITLE.match(cell.source) for cell in nb.cells if cell.cell_type == "markdown")
    return next((re.sub(r"[*`]", "", hit[1].rstrip(" #")) for hit in found if hit), "")


def _where(nb: Any, run: Mapping[str, Any]) -> str:
    """Where a run failed, as its reader finds it: the number that JupyterLab shows, and the heading above."""
    place = run.get("failed_cell")
    if not isinstance(place, int) or not 0 <= place < len(nb.cells):
        return ""
    above = nb.cells[: place + 1]
    counted = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in above)
    texts = [re.sub(r"(?ms)^(```|~~~).*?(^\1|\Z)", "", cell.source) for cell in above if cell.cell_type == "markdown"]
    headings = re.findall(r"(?m)^#{1,6} +([^\s#].*)", "\n".join(texts))
    below = f", below the heading “{re.sub(r'[*`]', '', headings[-1]).rstrip(' #')}”" if headings else ""
    return f"in cell [{nb.cells[place].get('execution_count') or counted}]{below}"


def _values(nb: Any, run: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    """Each parameter with its value, and whether that differs from the notebook's default."""
    defaults: dict[str, Any] = {}
    for cell in (cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", ())):
        with contextlib.suppress(InputError):  # another tool's notebook: its record says what was used
            defaults = {name: parameter.default for name, parameter in parameters.parse(cell.source).items()}
    used = defaults | run.get("parameters", {})
    return [(str(name), value, name not in defaults or defaults[name] != value) for name, value in used.items()]


def _figure(folder: Path, nb: Any) -> dict[str, str] | None:
    """The picture of a run's card: kept as telling.png or ladder.png, else the last one that it showed."""
    outputs = [(cell, output) for cell in nb.cells for output in cell.get("outputs", ()) if "data" in output]
    shown = {"".join(str(o.data["image/png"]).split()): _alt(cell, o, "image/png")
             for cell, o in outputs if "image/png" in o.data}  # fmt: skip
    for name in ("telling", "ladder"):
        with contextlib.suppress(OSError):
            data = base64.b64encode((folder / "figures" / f"{name}.png").read_bytes()).decode()
            return {"data": data, "alt": shown.get(data, name)}
    return next(({"data": data, "alt": alt} for data, alt in reversed(shown.items()) if _is_base64(data)), None)


def _is_base64(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9+/=\s]+", text) is not None


def _alt(cell: Any, output: Any, kind: str) -> str:
    details = output.metadata.get(kind)
    return str((details.get("alt") if isinstance(details, dict) else None) or cell.metadata.get("alt") or NO_ALT)


def _html(nb: Any, run: Mapping[str, Any], pages: Mapping[str, str] | None = None, around: Sequence[Any] = ()) -> str:
    title, folded = _title(nb), _setup(nb.cells)
    left = title  # of the cells: the header shows it
    answer, setup, body, contents, taken = [], [], [], [], {"main", "show-code", ""}
    for place, cell in enumerate(nb.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "raw" or {"check", "remove-cell"} & set(tags):
            continue
        part = answer if "answer" in tags else setup if place in folded else body
        shown = {"tags": tags, "source": cell.source}
        if cell.cell_type == "markdown":
            source = cell.source
            if left and (opening := _TITLE.match(source)):
                left, source = "", source[opening.end() :]
            shown["html"], found = _headings(markdown(source, pages, cell.get("attachments")), taken)
            contents += [] if part is setup else found
        else:
            shown["caption"] = _caption(cell.source)
            shown["outputs"] = [_output(cell, output, pages) for output in cell.outputs]
        part.append(shown)
    data = {"run": run, "values": _values(nb, run), "where": _where(nb, run), "around": around}
    parts = (answer, setup, body)
    return _template("page.html.j2", title or run["notebook"], data=data, parts=parts, contents=contents)


def _setup(cells: Sequence[Any]) -> set[int]:
    """Places of the cells that a report folds: tagged ``setup``, and all up to parameters and imports; none failed."""
    tags = [set(cell.metadata.get("tags", ())) for cell in cells]
    code = [place for place, cell in enumerate(cells) if "outputs" in cell]
    last = max((place for place in code if tags[place] & {"parameters", "injected-parameters"}), default=-1)
    after = next((place for place in code if place > last), last)
    last = after if last >= 0 and re.match("import |from ", cells[after].source) else last
    early = {i for i in range(last + 1) if i >= code[0] or cells[i].source.startswith("## Setup")}
    failed = {i for i in code if any(output.output_type == "error" for output in cells[i].outputs)}
    return (early | {place for place, own in enumerate(tags) if "setup" in own}) - failed


def _caption(source: str) -> str:
    """The first comment that opens a code cell, else its first outer line that does something, else nothing."""
    lines = source.strip().split("\n")
    if lines[0].startswith("# "):
        return lines[0][2:]
    plumbing = r"(\s|import |from |@|%|#|else:|[)\]}\w_.\"'`,]*$|for \w+ in range|if .*:$|\w+ = \[?\{?\(?$)"
    return next((line for line in lines if line and not re.match(plumbing, line)), "")


def _headings(text: str, taken: set[str]) -> tuple[Any, list[tuple[int, str, str]]]:
    """HTML whose headings have an id (the one Jupyter gives); level, id and text of each."""
    from bs4 import BeautifulSoup
    from markupsafe import Markup

    soup, found = BeautifulSoup(text, "html.parser"), []
    for heading in soup.find_all(["h1", "h2", "h3"]):
        words = " ".join(heading.get_text().split())
        anchor = words.replace(" ", "-")
        heading["id"] = anchor = f"{anchor}-{len(taken)}" if anchor in taken else anchor
        taken.add(anchor)
        found.append((int(heading.name[1]), anchor, words))
    return Markup(soup), found


def _output(cell: Any, output: Any, pages: Mapping[str, str] | None) -> dict[str, Any]:
    """One output as the template wants it: its kind, and text that is safe already or that jinja will escape."""
    if output.output_type == "stream":
        return {"kind": output.name, "text": plain(output.text)}
    if output.output_type == "error":
        return {"kind": "error", "text": plain("\n".join(output.traceback))}
    if "application/vnd.jupyter.widget-view+json" in output.data:
        return {"kind": "widget", "text": plain(output.data.get("text/plain", ""))[:200]}
    kind = next((kind for kind in _TYPES if kind in output.data), "")
    text = output.data.get(kind, "")
    if kind.startswith("image/") and _is_base64(text):
        size = output.metadata.get(kind)
        width = size.get("width") if isinstance(size, dict) else None
        picture = {"src": f"data:{kind};base64," + "".join(text.split()), "alt": _alt(cell, output, kind)}
        return picture | {"kind": "image", "width": width if isinstance(width, int) else 0}
    if kind == "text/html":
        return {"kind": "html", "text": clean(text, pages)}
    if kind in ("text/markdown", "text/latex"):
        return {"kind": "prose", "text": markdown(text, pages)}
    if kind.startswith("text/"):
        return {"kind": "stdout", "text": plain(text)}
    return {"kind": "none", "text": ", ".join(output.data)}


def _template(name: str, title: str, **values: Any) -> str:
    """A page: everything in it is escaped unless it was cleaned, and no script but ours is allowed, by its hash."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    environment.filters |= {f: getattr(overview, f) for f in ("number", "sortable", "duration")}
    environment.filters |= {"plain": plain, "python": repr}
    environment.filters["safe_code"] = lambda source: Markup(highlight(source, PythonLexer(), HtmlFormatter()))
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allow = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; script-src 'sha256-{}'"
    page = {"title": title, "style": Markup(style), "script": Markup(script), "policy": allow.format(digest)}
    page |= {"notice": NOTICE, "headline": overview.HEADLINE}
    return environment.get_template(name).render(page=page, **values)
