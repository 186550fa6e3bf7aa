"""Executed notebooks as self-contained HTML files, and an index over many runs.

A report opens by double click with no network: no outside script, font or picture. Text that comes from data is always
escaped (jinja) or cleaned (bleach), and a Content-Security-Policy allows no script but ours. The templates lie in
``helpers/report/``; what the index computes stands in :mod:`helpers.commands.overview`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
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
HEADLINE = overview.HEADLINE
_TEMPLATES = Path(__file__).parent.parent / "report"
_TYPES = ("text/html", "image/png", "image/jpeg", "text/markdown", "text/latex", "text/vnd.mermaid", "text/plain")


def render(notebook: Path, out: Path, *, title: str = "", pages: Mapping[str, str] | None = None) -> Path:
    """Writes an executed notebook as one self-contained HTML file; returns ``out``.

    Cells tagged ``answer`` come first; ``check`` cells are left out; the setup is folded; ``remove-input`` hides code.

    Args:
        notebook: the executed ``.ipynb``; run time, metrics and parameters come from ``metrics.json`` beside it.
        out: the file to write; its folder is made where it is missing.
        title: the report's title; the notebook's first heading by default.
        pages: notebook to file name of the reports beside ``out``. Without it the page is taken to stay in its run's
            folder, where the relative links of its tables lead.

    Raises:
        InputError: the notebook cannot be read, or ``out`` cannot be written.
    """
    folder = Path(notebook).parent
    run = _read_run(folder) if (folder / "metrics.json").is_file() else {"notebook": Path(notebook).stem}
    return _write(Path(out), _html(_read_notebook(Path(notebook)), run, title, pages))


def collect(folders: Iterable[Path]) -> list[Path]:
    """Returns the runs and sweeps in folders, failed ones too, hidden ones and ``interactive`` not; each once.

    Raises:
        InputError: a folder holds no run.
    """
    found: dict[Path, None] = {}
    for folder in map(Path, folders):
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


def build(runs: Sequence[Path], out: Path) -> Path:
    """Writes a report for each run folder or sweep, and ``index.html``; returns the index's path.

    Raises:
        InputError: no run is given, a folder is no run, or ``out`` cannot be written.
    """
    if not runs:
        raise InputError("No runs were given; name at least one run folder, such as runs/03_lstm_classifier/default.")
    entries = sorted((_entry(Path(folder)) for folder in runs), key=lambda e: (
        e["notebook"], e["sweep"], e["name"] != "default", e["name"], e["failed"]))  # fmt: skip
    taken = {"index"}
    for entry in entries:
        entry["file"] = _file_name(entry, taken)
    single = [entry for entry in entries if not entry["sweep"]]
    first = {entry["notebook"]: entry for entry in reversed(single)}
    main = sorted(first.values(), key=lambda entry: entry["notebook"])
    index = overview.contents(entries, main)  # before the pages, which take cells away
    for entry in entries:
        siblings = [other for other in single if other["notebook"] == entry["notebook"]]
        pages = {name: other["file"] for name, other in first.items()}
        pages |= {f"../{other['folder'].name}/report.html": other["file"] for other in siblings}
        place = next((i for i, other in enumerate(main) if other["notebook"] == entry["notebook"]), None)
        around = (main[place - 1] if place else None, next(iter(main[place + 1 :]), None)) if place is not None else ()
        _write(Path(out) / entry["file"], _html(entry["nb"], entry, pages=pages, around=around))
    return _write(Path(out) / "index.html", _template("index.html.j2", "Reports", **index))


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place with --out.") from None
    return path


def _read_notebook(path: Path, *, or_empty: bool = False) -> Any:
    import nbformat

    if or_empty and not path.exists():  # a run that failed before its first cell
        return nbformat.v4.new_notebook()
    try:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
    except Exception as error:  # nbformat raises a dozen kinds, from OSError to AttributeError
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{path} is not a readable notebook ({reason}).") from None
    return nb


def _read_run(folder: Path) -> dict[str, Any]:
    run = load(folder)
    tables = {key: run[key] if isinstance(run[key], dict) else {} for key in ("parameters", "metrics")}
    return run | tables | {"notebook": str(run["notebook"]), "name": str(run.get("name", folder.name))}


def _entry(folder: Path) -> dict[str, Any]:
    """A run, or a sweep, as the templates want it."""
    if folder.name.startswith("sweep-") and not (folder / "notebook.ipynb").is_file():
        if not (folder / "sweep.ipynb").is_file():
            raise InputError(f"{folder} is not a finished sweep, which has a sweep.ipynb: start the sweep again.")
        states = overview.states(folder / "results.csv")
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        known = {"notebook": folder.resolve().parent.name, "name": folder.name, "failed": states["failed"] > 0}
        return known | {"nb": _read_notebook(folder / "sweep.ipynb"), "sweep": True, "told": told, "folder": folder}
    run = _read_run(folder)
    failed = run.get("status") == "failed"
    nb = _read_notebook(folder / "notebook.ipynb", or_empty=failed)
    more = {"title": _title(nb) or run["notebook"], "values": _values(nb, run), "where": _where(nb, run)}
    return run | more | {"nb": nb, "folder": folder, "sweep": False, "failed": failed, "figures": _figures(folder, nb)}


def _file_name(run: Mapping[str, Any], taken: set[str]) -> str:
    """A plain file name that no other run has, whatever the run is called."""
    stem = run["notebook"] if run["name"] == "default" else f"{run['notebook']}-{run['name']}"
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "run"
    stem += "-failed" if run["failed"] and not run["sweep"] else ""
    names = (stem if i == 1 else f"{stem}-{i}" for i in range(1, 10**6))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return f"{name}.html"


def _title(nb: Any, *, take: bool = False) -> str:
    """The first H1 that opens a cell, as plain text; with ``take`` it leaves the cell, because the header shows it."""
    for cell in (cell for cell in nb.cells if cell.cell_type == "markdown"):
        if found := re.match(r"\s*# +(\S.*)", cell.source):
            if take:
                cell.source = cell.source[found.end() :]
            return re.sub(r"[*`]", "", found[1].rstrip(" #"))
    return ""


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
    declared: dict[str, parameters.Parameter] = {}
    for cell in nb.cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", ()):
            with contextlib.suppress(InputError):  # another tool's notebook: its record says what was used
                declared = parameters.parse(cell.source)
    defaults = {name: parameter.default for name, parameter in declared.items()}
    used = defaults | dict(run.get("parameters") or {})
    return [(str(name), value, name not in defaults or defaults[name] != value) for name, value in used.items()]


def figures(folder: Path) -> dict[str, dict[str, str]]:
    """Returns the figures of a run folder: file name to ``data`` (base64) and ``alt``."""
    return _figures(folder, _read_notebook(folder / "notebook.ipynb"))


def _figures(folder: Path, nb: Any) -> dict[str, dict[str, str]]:
    alts = {}
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            if isinstance(data := output.get("data", {}).get("image/png"), str):
                alts["".join(data.split())] = _alt(cell, output, "image/png")
    found = {}
    for path in sorted((folder / "figures").glob("*.png")):
        with contextlib.suppress(OSError):
            if (content := path.read_bytes()).startswith(b"\x89PNG\r\n\x1a\n"):
                data = base64.b64encode(content).decode()
                found[path.name] = {"data": data, "alt": alts.get(data) or path.stem}
    return dict(
        sorted(found.items(), key=lambda item: list(alts).index(item[1]["data"]) if item[1]["data"] in alts else -1)
    )


def _alt(cell: Any, output: Any, kind: str) -> str:
    details = output.metadata.get(kind)
    return str((details.get("alt") if isinstance(details, dict) else None) or cell.metadata.get("alt") or NO_ALT)


def _html(nb: Any, run: Mapping[str, Any], title: str = "", pages: Mapping[str, str] | None = None,
          around: Sequence[Any] = ()) -> str:  # fmt: skip
    data = {"run": run, "values": _values(nb, run), "where": _where(nb, run), "around": around}
    title = title or _title(nb, take=True) or run["notebook"]
    answer, setup, body, contents, taken = [], [], [], [], {"main", "show-code", ""}
    folded = _setup(nb.cells)
    for place, cell in enumerate(nb.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "raw" or {"check", "remove-cell"} & set(tags):
            continue
        shown = {"tags": tags, "source": cell.source, "caption": _caption(cell.source)}
        part = answer if "answer" in tags else setup if place in folded else body
        if cell.cell_type == "markdown":
            shown["html"], found = _headings(markdown(cell.source, cell.get("attachments"), pages), taken)
            contents += [] if part is setup else found
        else:
            shown["outputs"] = [_output(cell, output, pages) for output in cell.outputs]
        part.append(shown)
    return _template("page.html.j2", title, data=data, parts=(answer, setup, body), contents=contents)


def _setup(cells: Sequence[Any]) -> set[int]:
    """Places of the cells that a report folds: tagged ``setup``, or all up to parameters and imports."""
    code = [place for place, cell in enumerate(cells) if cell.cell_type == "code"]
    tags = {place: set(cells[place].metadata.get("tags", ())) for place in range(len(cells))}
    tagged = {place for place in tags if "setup" in tags[place]}
    early = [place for place in code[:4] if tags[place] & {"parameters", "injected-parameters"}]
    if early:
        after = next((place for place in code if place > early[-1]), early[-1])
        last = after if re.search(r"(?m)^(import|from) ", cells[after].source) else early[-1]
        start = code[0] - cells[code[0] - 1].source.startswith("## Setup") if code[0] else 0
        tagged |= set(range(start, last + 1))
    failed = {place for place in code if any(output.output_type == "error" for output in cells[place].outputs)}
    return tagged - failed


def _caption(source: str) -> str:
    """The first comment that opens a code cell, else its first line that does something, else nothing."""
    lines = [line.strip() for line in source.strip().split("\n")]
    if lines[0].startswith("# "):
        return lines[0][2:]
    plumbing = r"(import |from |@|%|#|[)\]}\w_.\"'`,]*$|for \w+ in range|if .*:$|\w+ = \[?\{?\(?$)"
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
    if output.output_type in ("stream", "error"):
        text = output.text if output.output_type == "stream" else "\n".join(output.traceback)
        return {"kind": "error" if output.output_type == "error" else output.name, "text": plain(text)}
    if "application/vnd.jupyter.widget-view+json" in output.data:
        return {"kind": "widget", "text": plain(output.data.get("text/plain", ""))[:200]}
    known = [kind for kind in _TYPES if kind in output.data]
    kind = next(iter(known), "")
    text = output.data.get(kind, "")
    if kind.startswith("image/"):
        if not re.fullmatch(r"[A-Za-z0-9+/=\s]+", text):  # not base64: no picture
            return {"kind": "none", "text": kind}
        size = output.metadata.get(kind)
        width = size.get("width") if isinstance(size, dict) else None
        address = f"data:{kind};base64," + "".join(text.split())
        return {
            "kind": "image",
            "src": address,
            "alt": _alt(cell, output, kind),
            "width": width if isinstance(width, int) else 0,
        }
    if kind == "text/html":
        return {"kind": "html", "text": clean(text, pages=pages, beside=pages is None)}
    if kind in ("text/markdown", "text/latex"):
        return {"kind": "prose", "text": markdown(text, pages=pages)}
    return {"kind": "stdout", "text": plain(text)} if kind else {"kind": "none", "text": ", ".join(output.data)}


def _code(source: str) -> str:
    """Python with its parts marked for colours."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(source, PythonLexer(), HtmlFormatter())


def _template(name: str, title: str, **values: Any) -> str:
    """A page; everything in it is escaped unless it was cleaned."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    environment.filters |= {"plain": plain, "python": repr, "safe_code": lambda source: Markup(_code(source))}
    environment.filters |= {f: getattr(overview, f) for f in ("number", "sortable", "duration", "when")}
    return environment.get_template(name).render(page=_assets() | {"title": title}, **values)


@functools.cache
def _assets() -> dict[str, Any]:
    """Our style and script with the policy that allows them, by hash, and nothing else."""
    from markupsafe import Markup

    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allow = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    )
    page = {"style": Markup(style), "script": Markup(script), "policy": allow}
    return page | {"notice": NOTICE, "headline": HEADLINE}
