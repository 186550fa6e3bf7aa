"""Executed notebooks as self-contained HTML files, an index over many runs, and a comparison of two.

A report opens by double click with no network: no outside script, font or picture. Text that comes from data is always
escaped, and a Content-Security-Policy allows no script but ours. The templates lie in `helpers/report/`.
"""

import ast
import base64
import contextlib
import csv
import functools
import hashlib
import html
import json
import math
import re
import secrets
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers import InputError
from helpers.files import write_atomic

NOTICE = "A report contains texts of the data it was made from: share it only with people who may read them."
HEADLINE = ("accuracy", "macro_f1", "log_loss", "test_perplexity", "probe_hits", "stsb_spearman")
NO_ALT = "figure without description"
_TEMPLATES = Path(__file__).with_name("report")
_TYPES = ("text/html", "image/png", "image/jpeg", "text/markdown", "text/latex", "text/vnd.mermaid", "text/plain")
_ALLOWED = json.loads((_TEMPLATES / "allowed.json").read_text(encoding="utf-8"))
# Code comes first, so that a dollar inside it is never taken for a formula.
_MATH = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[\s\S]*?(?:^ {0,3}(?P=fence)|\Z)"
    r"|(?<!`)(?P<tick>`+)(?!`)[\s\S]*?(?<!`)(?P=tick)(?!`)"
    r"|(?<!\\)\$\$(?P<block>(?:\\[\s\S]|[^$\\`])+)\$\$"
    r"|(?P<environment>\\begin\{(?P<kind>(?:align|equation|gather)\*?)\}[\s\S]*?\\end\{(?P=kind)\})"
    r"|(?<![\\$])\$(?![\s$])(?P<inline>(?:\\[\s\S]|(?!\n\s*\n)[^$\\`])+)(?<!\s)\$(?![\d$])",
    re.MULTILINE,
)
_NUMBER = re.compile(
    r"([-+−]?(\d[\d,]*(\.\d*)?|\.\d+)(e[-+]?\d+)?\s*%?|nan|[-+]?inf|<na>|none|nat|–|—|)", re.IGNORECASE
)


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
        pages: Notebook to file name of the reports that lie beside `out`; links to them are kept.

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


def build(runs: Sequence[Path], out: Path, *, compare: bool = False) -> Path:
    """Write a report for each run folder, and `index.html`, which lists them by notebook.

    Args:
        runs: Run folders, each with `notebook.ipynb` and `metrics.json`; the folder of a sweep gives the sweep's page.
        out: The folder for the HTML files: `<notebook>.html` for the run `default`, else `<notebook>-<name>.html`.
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
    entries.sort(key=lambda entry: (entry["notebook"], entry["sweep"], entry["name"] != "default", entry["name"]))
    taken = {"index", "compare"}
    for entry in entries:
        entry["file"] = _file_name(entry, taken)
    pages = {entry["notebook"]: entry["file"] for entry in reversed(entries) if not entry["sweep"]}
    if pair:
        _write(Path(out) / "compare.html", _comparison(*pair))
    for entry in entries:
        _write(Path(out) / entry["file"], _html(entry["nb"], entry, pages=pages))
    return _write(Path(out) / "index.html", _index(entries, pair))


def _write(path: Path, text: str) -> Path:
    """Put the file there whole, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place with --out.") from None
    return path


def _read_notebook(path: Path) -> Any:
    import nbformat

    try:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
    except Exception as error:  # nbformat raises a dozen kinds, from OSError to AttributeError
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{path} is not a readable notebook ({reason}).") from None
    return nb


def _read_run(folder: Path) -> dict[str, Any]:
    try:
        run = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        run["parameters"], run["metrics"] = dict(run.get("parameters") or {}), dict(run.get("metrics") or {})
        return run | {"notebook": str(run["notebook"]), "name": str(run["name"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder} is not a run folder: its metrics.json is missing or not readable.") from None


def _entry(folder: Path) -> dict[str, Any]:
    """A run, or a sweep, as the templates want it."""
    if folder.name.startswith("sweep-") and not (folder / "notebook.ipynb").is_file():
        return _sweep_entry(folder)
    if not (folder / "notebook.ipynb").is_file():
        raise InputError(f"{folder} is not a run folder, which has a notebook.ipynb and a metrics.json.")
    run, nb = _read_run(folder), _read_notebook(folder / "notebook.ipynb")
    more = {"title": _title(nb) or run["notebook"], "values": _values(nb, run), "failed": run.get("status") == "failed"}
    return run | more | {"nb": nb, "folder": folder, "sweep": False}


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
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return f"{name}.html"


def _title(nb: Any, *, take: bool = False) -> str | None:
    """The first H1 that opens a cell, as plain text; with `take` it leaves the cell, because the header shows it."""
    for cell in (cell for cell in nb.cells if cell.cell_type == "markdown"):
        if found := re.match(r"\s*# +(.+?)[ #]*(\n|$)", cell.source):
            if take:
                cell.source = cell.source[found.end() :]
            return re.sub(r"[*`]", "", found[1])
    return None


def _tagged(nb: Any, tag: str) -> dict[str, Any]:
    """The literal assignments `NAME: type = value` of the code cells with this tag."""
    values = {}
    for cell in (c for c in nb.cells if c.cell_type == "code" and tag in c.metadata.get("tags", ())):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                    with contextlib.suppress(ValueError):  # not a literal
                        values[ast.unparse(target)] = ast.literal_eval(node.value)
    return values


def _values(nb: Any, run: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    """Each parameter with its value, and whether that differs from the notebook's default."""
    defaults = _tagged(nb, "parameters")
    used = defaults | _tagged(nb, "injected-parameters") | dict(run.get("parameters") or {})
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return [(str(name), value, name not in plain or plain[name] != value) for name, value in used.items()]


def _html(
    nb: Any,
    run: Mapping[str, Any],
    title: str | None = None,
    language: str = "en",
    pages: Mapping[str, str] | None = None,
) -> str:
    from nbconvert import HTMLExporter

    page: dict[str, Any] = _assets() | {"run": run, "language": language, "values": _values(nb, run)}
    page["title"] = title or _title(nb) or run["notebook"]
    if title is None:
        _title(nb, take=True)  # the header shows it
    nb.cells = [cell for cell in nb.cells if "remove-cell" not in cell.metadata.get("tags", ())]
    _describe_figures(nb)
    page["contents"] = _prepare_markdown(nb, pages or {})
    here = [str(_TEMPLATES.parent)]
    exporter = HTMLExporter(template_name="report", extra_template_basedirs=here, filters=_FILTERS)
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


def _comparison(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """The page that shows two runs side by side."""
    both = (first, second)
    return _template(
        "compare.html.j2",
        f"{first['name']} and {second['name']} compared",
        pair=both,
        parameters=_pair_parameters(both),
        metrics=_pair_metrics(both),
        figures=_pair_figures(both),
        seconds=_difference(first.get("seconds"), second.get("seconds"), _duration),
    )


def _pair_parameters(pair: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, bool]]:
    """Name, both values as Python writes them, and whether they differ, of each parameter."""
    values = [
        {name: repr(list(value) if isinstance(value, tuple) else value) for name, value, _ in run["values"]}
        for run in pair
    ]
    names = dict.fromkeys(name for run in values for name in run)
    rows = [(name, *(run.get(name, "–") for run in values)) for name in names]
    return [(name, left, right, left != right) for name, left, right in rows]


def _pair_metrics(pair: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any, Any, str]]:
    """Name, both values and their difference of each metric; those that headline a report come first."""
    known = dict.fromkeys(str(name) for run in pair for name in run["metrics"])
    names = sorted(known, key=lambda name: HEADLINE.index(name) if name in HEADLINE else len(HEADLINE))
    rows = [(name, *(run["metrics"].get(name) for run in pair)) for name in names]
    return [(name, left, right, _difference(left, right, _small)) for name, left, right in rows]


def _difference(left: Any, right: Any, shown: Callable[[Any], str]) -> str:
    """The second number less the first, with its sign; nothing where one of them is no number."""
    if not (_is_number(left) and _is_number(right)):
        return ""
    change = right - left
    sign = "+" if change > 0 else "−" if change < 0 else "±"
    return sign + shown(abs(change))


def _small(value: float) -> str:
    """A difference; one that three decimals would hide is shown with its power of ten."""
    return f"{value:.0e}" if 0 < value < 0.0005 else _number(value)


def _pair_figures(pair: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[dict[str, str] | None]]]:
    """File name, and the figure of each run or None, for each PNG file of `figures/`."""
    found = [_figures(run) for run in pair]
    return [(name, [figures.get(name) for figures in found]) for name in sorted({*found[0], *found[1]})]


def figures(folder: Path) -> dict[str, dict[str, str]]:
    """The figures of a run folder: file name to `data` (base64) and `alt`."""
    return _figures({"folder": folder, "nb": _read_notebook(folder / "notebook.ipynb"), "name": folder.name})


def _figures(run: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The pictures in a run's folder by file name, with the text alternative that the notebook gives the same one."""
    alts, figures = _alts(run["nb"]), {}
    for path in sorted((run["folder"] / "figures").glob("*.png")):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if content.startswith(b"\x89PNG\r\n\x1a\n"):
                data = base64.b64encode(content).decode()
                figures[path.name] = {"data": data, "alt": alts.get(data) or f"{path.stem} of the run {run['name']}"}
    return figures


def _alts(nb: Any) -> dict[str, str]:
    """The text alternative of each PNG output, by its base64 text."""
    alts = {}
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            if isinstance(data := output.get("data", {}).get("image/png"), str):
                alts["".join(data.split())] = _alt(cell, output, "image/png")
    return alts


def _alt(cell: Any, output: Any, kind: str) -> str:
    """What the output, else its cell, says of a picture; empty where neither says anything."""
    details = output.metadata.get(kind)
    return str((details.get("alt") if isinstance(details, dict) else None) or cell.metadata.get("alt") or "")


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


def _describe_figures(nb: Any) -> None:
    """Put each figure's text alternative where the template looks, and warn once when one has none."""
    missing = 0
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            for kind in ("image/png", "image/jpeg"):
                if kind in output.get("data", {}):
                    if not re.fullmatch(r"[A-Za-z0-9+/=\s]+", output.data[kind]):
                        del output.data[kind]  # not base64: no picture
                        continue
                    alt = _alt(cell, output, kind)
                    missing += not alt
                    output.metadata["alt"] = alt or NO_ALT
    if missing:
        count = "A figure has" if missing == 1 else f"{missing} figures have"
        advice = 'give it as display(fig, metadata={"image/png": {"alt": "..."}})'
        warnings.warn(f"{count} no description; {advice}.", stacklevel=4)


def _prepare_markdown(nb: Any, pages: Mapping[str, str]) -> list[tuple[int, str, str]]:
    """Render the markdown cells in place; returns level, id (the one Jupyter gives) and text of each heading."""
    from bs4 import BeautifulSoup

    contents: list[tuple[int, str, str]] = []
    taken = {"main", "show-code", ""}
    for cell in (cell for cell in nb.cells if cell.cell_type == "markdown"):
        soup = BeautifulSoup(_markdown(cell.source, cell.get("attachments"), pages), "html.parser")
        for heading in soup.find_all(["h1", "h2", "h3"]):
            text = " ".join(heading.get_text().split())
            anchor = text.replace(" ", "-")
            anchor = f"{anchor}-{len(taken)}" if anchor in taken else anchor
            heading["id"] = anchor
            taken.add(anchor)
            contents.append((int(heading.name[1]), anchor, text))
        cell.source = str(soup)
    return contents


def _markdown(source: str, attachments: Any = None, pages: Mapping[str, str] | None = None) -> str:
    """Markdown as safe HTML, its formulas as MathML; HTML that is not allowed is shown as text."""
    from mistune import BlockParser, InlineParser
    from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath

    key, formulas = f"M{secrets.token_hex(6)}x", []

    def hide(found: re.Match) -> str:
        if found["fence"] or found["tick"]:
            return found[0]
        formulas.append(found)
        return f"{key}{len(formulas) - 1}M"

    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True, attachments=attachments)
    parser = MarkdownWithMath(renderer, BlockParser(), InlineParser(hard_wrap=False))
    try:
        text = parser.render(_MATH.sub(hide, source))
    except InvalidNotebook:  # a picture whose attachment is gone
        text = f"<pre>{html.escape(_MATH.sub(hide, source))}</pre>"
    hidden = re.compile(key + r"(\d+)M")
    raw = functools.partial(hidden.sub, lambda found: html.escape(formulas[int(found[1])][0]))
    text = re.sub(r"(?s)<(code|pre)\b.*?</\1>|<[^>]*>", lambda found: raw(found[0]), text)
    return _clean(hidden.sub(lambda found: _mathml(formulas[int(found[1])]), text), strip=False, pages=pages)


def _mathml(found: re.Match) -> str:
    """The formula as MathML, or its escaped source where it cannot be converted."""
    from xml.etree.ElementTree import tostring

    from latex2mathml.converter import convert_to_element

    latex = found["inline"] or found["block"] or found["environment"]
    arity = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "mroot": 2, "msubsup": 3, "munderover": 3}
    try:
        latex = latex.replace("{aligned}", "{align*}")
        root = convert_to_element(latex, display="inline" if found["inline"] else "block")
        for element in root.iter():
            element.text = html.unescape(element.text or "")
            if element.text.startswith("\\") or len(element) != arity.get(element.tag, len(element)):
                return html.escape(found[0])
    except Exception:  # the converter raises many kinds; the source is readable too
        return html.escape(found[0])
    root.set("alttext", latex.strip())
    return tostring(root, encoding="unicode")


def _allowed(tag: str, name: str, value: str) -> bool:
    value = html.unescape(value).strip()
    if name == "href":
        return tag == "a" and re.match(r"https?://|[^:]*$", value, re.IGNORECASE) is not None
    if name == "src":
        return tag == "img" and re.match(r"data:image/(png|jpeg|gif|webp);base64,[\w+/=\s]*$", value) is not None
    return name in _ALLOWED["attributes"]


def _clean(text: str, *, strip: bool = True, pages: Mapping[str, str] | None = None) -> str:
    """HTML reduced to harmless elements; with `strip` the other tags vanish, else they are shown as text."""
    import bleach
    from bs4 import BeautifulSoup

    if strip:
        text = re.sub(r"(?is)<(style|script|svg|button)\b.*?(</\1\s*>|\Z)", "", text)
    protocols = {"http", "https", "data"}  # `_allowed` lets data through for pictures only
    text = bleach.clean(text, tags=_ALLOWED["elements"], attributes=_allowed, protocols=protocols, strip=strip)
    soup = BeautifulSoup(f"<div>{text}</div>", "html.parser")  # bs4 warns of a bare address or file name
    for image in soup.find_all("img"):
        image["alt"] = image.get("alt") or NO_ALT
        if not image.get("src"):
            image.replace_with(f"[{image['alt']}]")
    for link in soup.find_all("a"):
        _relink(link, pages or {})
    for table in soup.find_all("table"):
        _align(table)
        frame = {"class": "scroll", "tabindex": "0", "role": "group", "aria-label": "Table"}
        table.wrap(soup.new_tag("div", attrs=frame))
    return soup.div.decode_contents()


def _relink(link: Any, pages: Mapping[str, str]) -> None:
    """Point a link to another notebook at its report; a link to a file that will not be there becomes text."""
    target = link.get("href", "")
    if target.lower().startswith("http"):
        link["rel"] = "noopener noreferrer"
    elif not target.startswith("#"):
        file, mark, heading = target.partition("#")
        page = pages.get(file.rpartition("/")[2].removesuffix(".ipynb"))
        if page:
            link["href"] = page + mark + heading
        else:
            link.unwrap()


def _align(table: Any) -> None:
    """Mark the columns of numbers, counted from the right, because index columns stand on the left."""
    rows = [row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr")]
    for place in range(1, max(map(len, rows), default=0) + 1):
        column = [row[-place] for row in rows if len(row) >= place]
        texts = [cell.get_text().strip() for cell in column if cell.name == "td"]
        if any(re.search(r"\d", text) for text in texts) and all(_NUMBER.fullmatch(text) for text in texts):
            for cell in column:
                cell["class"] = [*cell.get("class", ()), "num"]


def _text(text: Any) -> str:
    """Terminal text without colour codes and without the lines that a progress bar wrote over."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])", "", str(text))
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)


def _is_number(value: Any) -> bool:
    """Whether it is a finite number and no truth value."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number with more than 308 digits
        return False


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if _is_number(value) else str(value)


def _duration(seconds: Any) -> str:
    if not _is_number(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _when(started: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(started)):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return str(started)


_FILTERS = {
    "plain": _text,
    "clean": _clean,
    "markdown": _markdown,
    "number": _number,
    "sortable": lambda value: value if _is_number(value) else "",
    "duration": _duration,
    "when": _when,
    "python": repr,
}
