"""Executed notebooks as self-contained HTML files, an index over many runs, and a comparison of two.

A report opens by double click with no network: no outside script, font or picture. Text that comes from data is always
escaped, and a Content-Security-Policy allows no script but ours. The templates lie in `helpers/report/`.
"""

import base64
import contextlib
import csv
import functools
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers import InputError, parameters
from helpers.commands import safe_html
from helpers.commands.compare_page import (
    HEADLINE,
    comparison,
    described,
    duration,
    figures_of,
    is_number,
    labels,
    number,
    when,
)
from helpers.commands.safe_html import NO_ALT
from helpers.files import write_atomic
from helpers.runs import load

NOTICE = "A report contains texts of the data it was made from: share it only with people who may read them."
_TEMPLATES = Path(__file__).parent.parent / "report"
_TYPES = ("text/html", "image/png", "image/jpeg", "text/markdown", "text/latex", "text/vnd.mermaid", "text/plain")


def render(
    notebook: Path,
    out: Path,
    *,
    title: str | None = None,
    language: str = "en",
    pages: Mapping[str, str] | None = None,
) -> Path:
    """Write an executed notebook as one self-contained HTML file.

    The header takes run time, start, metrics and parameters from `metrics.json` next to the notebook, if there is one.
    A figure takes its text alternative from `output.metadata["image/png"]["alt"]`, else from the cell's `alt`.

    Args:
        notebook: The executed `.ipynb` file.
        out: The HTML file to write; its folder is made where it is missing.
        title: The report's title; the notebook's first heading by default.
        language: BCP 47 code of the text, such as `en` or `zh-Hans`, for `<html lang>`.
        pages: Notebook to file name of the reports that lie beside `out`; links to them are kept. Without it the page
            is taken to stay in its run's folder, where the relative links of its tables lead.

    Returns:
        `out`.

    Raises:
        InputError: When the notebook cannot be read, the language is no code, or `out` cannot be written.
    """
    notebook = Path(notebook)
    if not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", language):
        raise InputError(f"{language!r} is not a language code; give one such as en or zh-Hans.")
    folder = notebook.parent
    run = _read_run(folder) if (folder / "metrics.json").is_file() else {"notebook": notebook.stem}
    return _write(Path(out), _html(_read_notebook(notebook), run, title, language, pages))


def collect(folders: Iterable[Path]) -> list[Path]:
    """The runs and sweeps in folders, failed ones too, hidden ones and `interactive` not; each once.

    Args:
        folders: Folders of runs or sweeps, which stand for themselves, of notebooks, or that of all runs.

    Raises:
        InputError: When a folder holds no run.
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


def build(runs: Sequence[Path], out: Path, *, compare: bool = False) -> Path:
    """Write a report for each run folder, and `index.html`, which lists them by notebook.

    Args:
        runs: Run folders, each with `notebook.ipynb` and `metrics.json`; the folder of a sweep gives the sweep's page.
        out: The folder for the HTML files: `<notebook>.html` for the run `default`, else `<notebook>-<name>.html`;
            those of failed runs end in `-failed.html`.
        compare: Also write `compare.html`, which shows two runs side by side; exactly two must be given.

    Returns:
        The path of the index.

    Raises:
        InputError: When no run is given, a folder is no run, not two are to be compared, or `out` cannot be written.
    """
    if not runs:
        raise InputError("No runs were given; name at least one run folder, such as runs/03_lstm_classifier/default.")
    entries = [_entry(Path(folder)) for folder in runs]
    pair = [entry for entry in entries if not entry["sweep"]] if compare else []
    if compare and len(pair) != 2:
        raise InputError(f"A comparison needs exactly two runs, and {len(pair) or 'none'} came with --compare.")
    entries.sort(key=_order)
    taken = {"index", "compare"}
    for entry in entries:
        entry["file"] = _file_name(entry, taken)
    if pair:
        for entry, label in zip(pair, labels(pair), strict=True):
            entry["label"] = label
        title = f"{pair[0]['label']} and {pair[1]['label']} compared"
        _write(Path(out) / "compare.html", _template("compare.html.j2", title, **comparison(pair)))
    for entry in entries:
        _write(Path(out) / entry["file"], _html(entry["nb"], entry, pages=_pages(entries, entry)))
    return _write(Path(out) / "index.html", _index(entries, pair))


def _order(entry: Mapping[str, Any]) -> tuple:
    """By notebook: `default` first, a failed attempt behind the run of its name, and the sweeps last."""
    return entry["notebook"], entry["sweep"], entry["name"] != "default", entry["name"], entry["failed"]


def _pages(entries: Sequence[Mapping[str, Any]], here: Mapping[str, Any]) -> dict[str, str]:
    """What the links of a page lead to: the first report of a notebook, and the runs that a sweep's table names."""
    runs = [entry for entry in entries if not entry["sweep"]]
    pages = {entry["notebook"]: entry["file"] for entry in reversed(runs)}
    siblings = [entry for entry in runs if entry["notebook"] == here["notebook"]]
    return pages | {f"../{entry['folder'].name}/report.html": entry["file"] for entry in siblings}


def _write(path: Path, text: str) -> Path:
    """Put the file there whole, or not at all."""
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
        return _sweep_entry(folder)
    run = _read_run(folder)
    failed = run.get("status") == "failed"
    nb = _read_notebook(folder / "notebook.ipynb", or_empty=failed)
    more = {"title": _title(nb) or run["notebook"], "values": _values(nb, run), "where": _where(nb, run)}
    return run | more | {"nb": nb, "folder": folder, "sweep": False, "failed": failed}


def _sweep_entry(folder: Path) -> dict[str, Any]:
    if not (folder / "sweep.ipynb").is_file():
        raise InputError(f"{folder} is not a finished sweep, which has a sweep.ipynb: start the sweep again.")
    nb, states = _read_notebook(folder / "sweep.ipynb"), Counter()
    with contextlib.suppress(OSError, ValueError, csv.Error):  # the page tells the states too
        lines = (folder / "results.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        states = Counter(str(row.get("status")) for row in csv.DictReader(lines))
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    known = {"notebook": folder.resolve().parent.name, "name": folder.name, "failed": states["failed"] > 0}
    return known | {"nb": nb, "sweep": True, "told": told}


def _file_name(run: Mapping[str, Any], taken: set[str]) -> str:
    """A plain file name that no other run has, whatever the run is called."""
    stem = run["notebook"] if run["name"] == "default" else f"{run['notebook']}-{run['name']}"
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "run"
    stem += "-failed" if run["failed"] and not run["sweep"] else ""
    name, count = stem, 1
    while name.casefold() in taken:
        count += 1
        name = f"{stem}-{count}"
    taken.add(name.casefold())
    return f"{name}.html"


def _title(nb: Any, *, take: bool = False) -> str | None:
    """The first H1 that opens a cell, as plain text; with `take` it leaves the cell, because the header shows it."""
    for cell in (cell for cell in nb.cells if cell.cell_type == "markdown"):
        if found := re.match(r"\s*# +(\S.*)", cell.source):
            if take:
                cell.source = cell.source[found.end() :]
            return _plain_heading(found[1])
    return None


def _plain_heading(text: str) -> str:
    return re.sub(r"[*`]", "", text.rstrip(" #"))


def _where(nb: Any, run: Mapping[str, Any]) -> str:
    """Where a run failed, as its reader finds it: the number that JupyterLab shows, and the heading above."""
    place = run.get("failed_cell")
    if not isinstance(place, int) or not 0 <= place < len(nb.cells):
        return ""
    above = nb.cells[: place + 1]
    counted = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in above)
    texts = [re.sub(r"(?ms)^(```|~~~).*?(^\1|\Z)", "", cell.source) for cell in above if cell.cell_type == "markdown"]
    headings = re.findall(r"(?m)^#{1,6} +([^\s#].*)", "\n".join(texts))
    below = f", below the heading “{_plain_heading(headings[-1])}”" if headings else ""
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


def _html(
    nb: Any,
    run: Mapping[str, Any],
    title: str | None = None,
    language: str = "en",
    pages: Mapping[str, str] | None = None,
) -> str:
    from nbconvert import HTMLExporter

    page: dict[str, Any] = _assets() | {"run": run, "language": language, "values": _values(nb, run)}
    page["where"] = _where(nb, run)
    page["title"] = title or _title(nb) or run["notebook"]
    if title is None:
        _title(nb, take=True)  # the header shows it
    nb.cells = [cell for cell in nb.cells if "remove-cell" not in cell.metadata.get("tags", ())]
    _describe_figures(nb, run["notebook"])
    page["contents"] = _prepare_markdown(nb, pages or {})
    here = [str(_TEMPLATES.parent)]
    filters = _FILTERS | {"clean": functools.partial(safe_html.clean, pages=pages, beside=pages is None)}
    exporter = HTMLExporter(template_name="report", extra_template_basedirs=here, filters=filters)
    return exporter.from_notebook_node(nb, resources={"page": page})[0]


def _index(entries: Sequence[Mapping[str, Any]], pair: Sequence[Mapping[str, Any]] = ()) -> str:
    groups = []
    for notebook in dict.fromkeys(entry["notebook"] for entry in entries):
        here = [entry for entry in entries if entry["notebook"] == notebook]
        runs = [entry for entry in here if not entry["sweep"]]
        known = dict.fromkeys(name for run in runs for name in run["metrics"])
        columns = [name for name in HEADLINE if name in known] or list(known)[:3]
        title = runs[0]["title"] if runs else notebook
        sweeps = [entry for entry in here if entry["sweep"]]
        groups.append({"notebook": notebook, "title": title, "columns": columns, "runs": runs, "sweeps": sweeps})
    return _template("runs.html.j2", "Reports", entries=entries, groups=groups, pair=pair)


def _template(name: str, title: str, **values: Any) -> str:
    """A page that is no notebook; everything in it is escaped."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    environment.filters |= _FILTERS
    page = _assets() | {"title": title, "language": "en"}
    return environment.get_template(name).render(page=page, **values)


def figures(folder: Path) -> dict[str, dict[str, str]]:
    """The figures of a run folder: file name to `data` (base64) and `alt`."""
    return figures_of({"folder": folder, "nb": _read_notebook(folder / "notebook.ipynb"), "name": folder.name})


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
    return page | {"notice": NOTICE, "headline": HEADLINE, "types": _TYPES}


def _describe_figures(nb: Any, notebook: str) -> None:
    """Put each figure's text alternative where the template looks, and say in one line how many have none."""
    missing = 0
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            for kind in ("image/png", "image/jpeg"):
                if kind in output.get("data", {}):
                    if not re.fullmatch(r"[A-Za-z0-9+/=\s]+", output.data[kind]):
                        del output.data[kind]  # not base64: no picture
                        continue
                    alt = described(cell, output, kind)
                    missing += not alt
                    output.metadata["alt"] = alt or NO_ALT
    if missing:
        count = "a figure has" if missing == 1 else f"{missing} figures have"
        print(f"{notebook}: {count} no description, which run.show(ax, name, alt) can give.", file=sys.stderr)


def _prepare_markdown(nb: Any, pages: Mapping[str, str]) -> list[tuple[int, str, str]]:
    """Render the markdown cells in place; returns level, id (the one Jupyter gives) and text of each heading."""
    from bs4 import BeautifulSoup

    contents: list[tuple[int, str, str]] = []
    taken = {"main", "show-code", ""}
    for cell in (cell for cell in nb.cells if cell.cell_type == "markdown"):
        soup = BeautifulSoup(safe_html.markdown(cell.source, cell.get("attachments"), pages), "html.parser")
        for heading in soup.find_all(["h1", "h2", "h3"]):
            text = " ".join(heading.get_text().split())
            anchor = text.replace(" ", "-")
            anchor = f"{anchor}-{len(taken)}" if anchor in taken else anchor
            heading["id"] = anchor
            taken.add(anchor)
            contents.append((int(heading.name[1]), anchor, text))
        cell.source = str(soup)
    return contents


_FILTERS = {
    "plain": safe_html.plain,
    "markdown": safe_html.markdown,
    "number": number,
    "sortable": lambda value: value if is_number(value) else "",
    "duration": duration,
    "when": when,
    "python": repr,
}
