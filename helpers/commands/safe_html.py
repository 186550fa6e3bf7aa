"""The security room of the reports: text of any origin becomes harmless HTML.

Markdown and HTML pass :func:`clean`, which lets only the elements and attributes of ``report/allowed.json`` through;
formulas become MathML; terminal text loses its codes.
"""

import contextlib
import html
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from xml.etree.ElementTree import tostring

import bleach
from bs4 import BeautifulSoup
from latex2mathml.converter import convert_to_element
from markupsafe import Markup
from nbconvert.filters import markdown_mistune as nbc

NO_ALT = "figure without description"
LONGEST = 20_000  # characters of Markdown in a cell; more is shown as it is
_ALLOWED = json.loads((Path(__file__).parent.parent / "report" / "allowed.json").read_text(encoding="utf-8"))
# No formula starts or ends with a space, or ends before a digit: "$5 and $6" is money.
_INLINE = r"(?<![\\$])\$(?![\s$])(?P<math_inline_tex>(?:\\[\s\S]|[^$\\`])+?)(?<!\s)\$(?![\d$])"
_NUMBER = re.compile(r"(?i)([-+−]?(\d[\d,]*(\.\d*)?|\.\d+)(e[-+]?\d+)?\s*%?|nan|[-+]?inf|<na>|none|nat|–|—|)")


class _Inline(nbc.MathInlineParser):
    SPECIFICATION: ClassVar = nbc.MathInlineParser.SPECIFICATION | {"inline_math_tex": _INLINE}


class _Renderer(nbc.IPythonRenderer):
    def block_math(self, body: str) -> str:
        return _mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return _mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")


def markdown(source: str, pages: Mapping[str, str] | None = None, attachments: Any = None) -> Markup:
    """Returns Markdown as safe HTML, its formulas as MathML; HTML that is not allowed is shown as text."""
    renderer = _Renderer(escape=False, exclude_anchor_links=True, attachments=attachments)
    with contextlib.suppress(nbc.InvalidNotebook):  # a picture whose attachment is gone
        if len(source) <= LONGEST:  # the parser's time grows with the square of what is opened and never closed
            return clean(nbc.MarkdownWithMath(renderer, inline=_Inline()).render(source), pages, strip=False)
    return Markup("<pre>{}</pre>").format(source)


def _mathml(latex: str, mode: str) -> str:
    """The formula as MathML, or its escaped source where it cannot be converted."""
    source = html.escape(f"${latex}$" if mode == "inline" else f"$${latex}$$")
    try:
        root = convert_to_element(latex.replace("{aligned}", "{align*}"), display=mode)
        for element in root.iter():
            element.text = html.unescape(element.text or "")
    except Exception:  # the converter raises many kinds; the source is readable too
        return source
    root.set("alttext", latex.strip())
    return tostring(root, encoding="unicode")


def clean(text: str, pages: Mapping[str, str] | None = None, *, strip: bool = True) -> Markup:
    """Returns HTML reduced to harmless elements; tables can scroll, and pictures have a text alternative.

    ``pages`` gives the page for a notebook's name. Tags that are not allowed vanish, without ``strip`` they are text.
    """
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
        _relink(link, pages)
    for table in soup.find_all("table"):
        _align(table)
        box = {"class": "scroll", "tabindex": "0", "role": "group", "aria-label": "Table"}
        table.wrap(soup.new_tag("div", attrs=box))
    return Markup(soup.div.decode_contents())


def _allowed(tag: str, name: str, value: str) -> bool:
    value = html.unescape(value).strip()
    if name == "href":
        return tag == "a" and re.match(r"https?://|[^:]*$", value, re.IGNORECASE) is not None
    if name == "src":
        return tag == "img" and re.match(r"data:image/(png|jpeg|gif|webp);base64,[\w+/=\s]*$", value) is not None
    return name in _ALLOWED["attributes"]


def _relink(link: Any, pages: Mapping[str, str] | None) -> None:
    """Points a link to another notebook at its report; a link to a file that will not be there becomes text."""
    target = link.get("href", "")
    file, mark, heading = target.partition("#")
    page = (pages or {}).get(file.rpartition("/")[2].removesuffix(".ipynb"))
    if re.match(r"https?://", target, re.IGNORECASE):
        link["rel"] = "noopener noreferrer"
    elif page:
        link["href"] = page + mark + heading
    elif not target.startswith("#"):
        link.unwrap()


def _align(table: Any) -> None:
    """Marks the columns of numbers, counted from the right, because index columns stand on the left."""
    rows = [reversed(row.find_all(["td", "th"], recursive=False)) for row in table.find_all("tr")]
    for column in itertools.zip_longest(*rows):
        texts = [cell.get_text().strip() for cell in column if cell and cell.name == "td"]
        if any(re.search(r"\d", text) for text in texts) and all(_NUMBER.fullmatch(text) for text in texts):
            for cell in filter(None, column):
                cell["class"] = [*cell.get("class", ()), "num"]


def plain(text: Any) -> str:
    """Returns terminal text without colour codes and without the lines that a progress bar wrote over."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])", "", str(text))
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)
