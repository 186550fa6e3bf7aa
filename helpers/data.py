"""Labelled texts in, checked and split: every form of the parameter ``DATA``.

Accepted are the names of the shipped sets, a path or http(s) address of .csv, .tsv, .jsonl or .parquet, and
``hf:owner/name[:config]``. Whatever is wrong with them is said in one sentence (:class:`helpers.InputError`).
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import InputError
from helpers.files import bases

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SHIPPED = ("news_en", "news_zh")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_BYTES = 1_000_000_000
MAX_CHARACTERS = 1_000_000
_TOO_LARGE = f"{{}} is larger than {MAX_BYTES // 10**9} GB: draw a sample of its rows first."


@dataclass(frozen=True)
class Splits:
    """Labelled texts in three parts.

    Attributes:
        train, validation, test: frames with ``row`` (record number in its file, from 1), ``text`` and ``label``.
        labels: the class names, sorted.
        name: a short name of the data for titles.
        notes: what a reader should know about how the files were read, one sentence each.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    labels: list[str]
    name: str
    notes: list[str] = field(default_factory=list)


def find_file(name: str) -> Path:
    """Resolves a path from each of :func:`bases` in turn.

    Raises:
        InputError: nothing there, a folder, or an empty or far too large file.
    """
    places = bases()
    try:
        path = next((p for base in places if (p := base / Path(name).expanduser()).exists()), None)
    except (OSError, ValueError) as error:
        raise InputError(f"The file name {name[:80]!r} cannot be used ({error}): give a path.") from None
    if path is None:
        raise InputError(
            f"{name} does not exist, looked up from {Path.cwd().name or '/'}/ and from the project's root: "
            f"check the path, or use one of {', '.join(SHIPPED)}."
        )
    if path.is_dir():
        raise InputError(f"{name} is a folder: name the file in it ({', '.join(SUFFIXES)}).")
    if not path.stat().st_size:
        raise InputError(f"{name} is an empty file: it needs a header such as text,label and one row per text.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(_TOO_LARGE.format(name))
    return path


def decode(raw: bytes, name: str = "the file") -> tuple[str, str]:
    """Decodes bytes as UTF-8, UTF-16 (with its mark), GB18030 (GBK) or Windows-1252, the first that fits.

    Returns:
        The text and the name of the encoding.

    Raises:
        InputError: the bytes are no text, or UTF-8 with a byte here and there that is none.
    """
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        attempts = ["utf-16"]
    elif b"\x00" in raw:
        attempts = []
    else:
        attempts = ["utf-8-sig", "gb18030", "cp1252"]
    for encoding in attempts:
        if encoding in _ACCIDENTS:
            _refuse_damaged(raw, name, _ACCIDENTS[encoding])
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "gb18030" and not _mostly_chinese(text):
            continue
        if len(re.findall(r"[\x00-\x08\x0e-\x1f]", text)) > len(text) / 100:
            continue
        mark = "UTF-8 with a byte order mark" if raw.startswith(b"\xef\xbb\xbf") else "utf-8"
        return text, {"utf-8-sig": mark, "gb18030": "GBK (GB18030)"}.get(encoding, encoding)
    raise InputError(f"{name} holds bytes that are no text: export it as a CSV file in UTF-8.")


_ACCIDENTS = {"gb18030": 3.0, "cp1252": 0.9}  # characters that happen to be UTF-8 too, for each byte that is not


def _refuse_damaged(raw: bytes, name: str, accidents: float) -> None:
    """Refuses UTF-8 with stray bytes in it, which another encoding would read as other characters."""
    text = raw.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if bad and len(text) - len(text.encode("ascii", "ignore")) - bad > accidents * bad:
        line = text[: text.index("\ufffd")].count("\n") + 1
        raise InputError(f"{name} is UTF-8, but line {line} holds a byte that is no text: mend that line.")


def _mostly_chinese(text: str) -> bool:
    other = [c for c in text if ord(c) > 127]
    common = sum(
        "\u4e00" <= c <= "\u9fff" or "\u3000" <= c <= "\u303f" or c > "\uff00" or c in "“”‘’—…·" for c in other
    )
    return common >= 0.9 * len(other)


def read_table(source: str) -> tuple[pd.DataFrame, list[str]]:
    """Reads a table of texts as it is, cells as strings, missing cells as None.

    Args:
        source: a shipped name, a path, an http(s) address, or ``hf:owner/name[:config][@split]``.

    Returns:
        The frame and notes on how it was read.

    Raises:
        InputError: one sentence on what is wrong and the way out.
    """
    if source.startswith("hf:"):
        return _read_hub(source), [f"{source} was read through the datasets library."]
    if source in SHIPPED:
        source = f"data/{source}.csv"
    suffix = Path(source.split("?")[0]).suffix.lower()
    if suffix not in SUFFIXES:
        _explain_suffix(source)
    raw = _download(source) if source.startswith(("http://", "https://")) else find_file(source).read_bytes()
    frame, notes = _parse(raw, suffix, Path(source).name)
    if frame.columns.duplicated().any():
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{source} has two columns named {twice!r}: rename or remove one.")
    if not len(frame):
        raise InputError(f"{source} has a header and no rows: it needs one row per text.")
    return frame, notes


def _explain_suffix(source: str) -> None:
    if not source.startswith(("http://", "https://")):
        find_file(source)
    raise InputError(f"{source} is none of {', '.join(SUFFIXES)}: export it as CSV, or name it so.")


def _download(address: str) -> bytes:
    import urllib.request
    from http.client import HTTPException, IncompleteRead

    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            raw = answer.read(MAX_BYTES + 1)
            if answer.length and len(raw) <= MAX_BYTES:
                raise IncompleteRead(raw, answer.length)
    except (OSError, ValueError, HTTPException) as error:
        raise InputError(f"{address} could not be read ({error}): download it yourself and give its path.") from None
    if len(raw) > MAX_BYTES:
        raise InputError(_TOO_LARGE.format(address))
    return raw


def _read_hub(source: str) -> pd.DataFrame:
    try:
        import datasets
    except ImportError:
        raise InputError(f"{source} needs the datasets library: pip install datasets, or give a file.") from None
    name, _, split = source.removeprefix("hf:").partition("@")
    owner_name, _, config = name.partition(":")
    try:
        return datasets.load_dataset(owner_name, config or None, split=split or "train").to_pandas().astype("object")
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(f"{source} could not be read from the hub ({reason}): download it and give a file.") from None


def _parse(raw: bytes, suffix: str, name: str) -> tuple[pd.DataFrame, list[str]]:
    import pandas as pd

    if suffix == ".parquet":
        try:
            return pd.read_parquet(io.BytesIO(raw)).astype("object"), []
        except Exception:
            raise InputError(f"{name} is not a parquet file that can be read: export it again, or as CSV.") from None
    text, encoding = decode(raw, name)
    if not text.strip():
        raise InputError(f"{name} holds nothing but white space: it needs a header such as text,label.")
    notes = [] if encoding == "utf-8" else [f"{name} was decoded as {encoding}."]
    if suffix == ".jsonl":
        return _parse_jsonl(text, name), notes
    plain = suffix == ".tsv" and _has_plain_quotes(text)
    if plain:
        notes.append(f"{name} has a quote that no other closes in its line, so quotes were read as plain characters.")
    try:
        return _parse_csv(text, suffix, plain), notes
    except ValueError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{name} is not a well-formed {suffix[1:]} file ({reason}): mend it at that place.") from None


def _parse_jsonl(text: str, name: str) -> pd.DataFrame:
    import json

    import pandas as pd

    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(row, ensure_ascii=False).encode("utf-8")  # half a character is no text
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(
                f'Line {number} of {name} is no JSON object such as {{"text": "…", "label": "…"}}: mend it.'
            )
        rows.append(row)
    return pd.DataFrame(rows, dtype="object")


def _has_plain_quotes(text: str) -> bool:
    """True if every line of a .tsv is a record by itself, and a quote in one of them is not closed there."""
    lines = [line for line in text.split("\n") if line.strip()]
    return any(line.count('"') % 2 for line in lines) and len({line.count("\t") for line in lines}) == 1


def _parse_csv(text: str, suffix: str, plain_quotes: bool) -> pd.DataFrame:
    import csv

    import pandas as pd

    text = re.sub(r"\Asep=.\r?\n", "", text)  # Excel's hint
    header = text.lstrip("\r\n").split("\n", 1)[0]
    counts = Counter(re.sub(r'"[^"]*"', "", header))
    separator = "\t" if suffix == ".tsv" else max(",;\t|", key=lambda s: counts[s])
    options = {"sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""], "header": None}
    options["quoting"] = csv.QUOTE_NONE if plain_quotes else csv.QUOTE_MINIMAL
    raw = io.BytesIO(text.encode("utf-8", "surrogatepass"))  # a StringIO would take four bytes a character
    frame = pd.read_csv(raw, **options)
    frame.columns = ["" if pd.isna(c) else str(c).strip().strip('"') for c in frame.iloc[0]]
    frame = frame.iloc[1:].reset_index(drop=True).astype("object")
    frame = frame.loc[:, (frame.columns != "") | frame.notna().any().to_numpy()]
    frame.attrs["separator"] = separator
    return frame


def column(table: pd.DataFrame, name: str, source: str, way_out: str = "set TEXT_COLUMN and LABEL_COLUMN") -> pd.Series:
    """A column of a table of :func:`read_table`.

    Raises:
        InputError: no such column; the sentence also says where the file seems to lack a header.
    """
    if name in table.columns:
        return table[name]
    names = [str(c) for c in table.columns]
    if "separator" in table.attrs and any(_is_value(table, c) for c in names):
        way_out += ", or, as the file seems to have no header row, put one above its first line"
    shown = ", ".join(" ".join(n.split())[:40] for n in names[:12])
    raise InputError(f"{source} has no column {name!r}; its columns are {shown}: {way_out}.")


def _is_value(table: pd.DataFrame, name: str) -> bool:
    """True if a column's name is more likely one of its values: a long text, or found below it once more."""
    return len(name) > 40 or bool((table[name] == name).any())


def read_labelled(
    source: str, text_column: str = "text", label_column: str = "label"
) -> tuple[pd.DataFrame, list[str]]:
    """Reads and checks labelled texts.

    Returns:
        A frame with ``row`` (record number in the file, from 1), ``text`` and ``label`` (both str), and notes.

    Raises:
        InputError: missing column or header, empty text, missing label, a quote that was not closed, or a text of over
            a million characters.
    """
    import pandas as pd

    table, notes = read_table(source)
    texts, labels = column(table, text_column, source), column(table, label_column, source)
    if "separator" in table.attrs:
        notes += _check_header(table, text_column, label_column, source)
    _refuse(texts.isna() | (texts.astype(str).str.strip() == ""), source, "an empty text", "fill or remove the row")
    spelled = labels.astype(str).str.strip()
    _refuse(labels.isna() | spelled.isin(["", "nan", "NaN"]), source, "no label", "fill or remove the row")
    _refuse(
        texts.astype(str).str.len() > MAX_CHARACTERS,
        source,
        f"a text of over {MAX_CHARACTERS:,} characters",
        "look for a missing quote, or split the text",
    )
    texts, spelled = (c.astype(str).str.replace(r"\r\n?", "\n", regex=True) for c in (texts, spelled))
    if "separator" in table.attrs:
        notes += _check_quotes(table, texts, set(spelled), source)
    return pd.DataFrame({"row": range(1, len(table) + 1), "text": texts, "label": spelled}), notes


def _check_header(table: pd.DataFrame, text_column: str, label_column: str, source: str) -> list[str]:
    """Refuses a file whose header is surely its first row, or comes again, and notes where it may be no header."""
    long, again = len(text_column) > 40, table[label_column] == label_column
    if long and again.any():
        raise InputError(f"{source} seems to have no header row: put a line such as text,label above its first line.")
    _refuse(again & (table[text_column] == text_column), source, "its header again", "remove that row")
    if not (long or again.any()):
        return []
    shown = label_column if not long else text_column[:40] + "…"
    return [f"{source}: is {shown!r} a column's name? If not, put a header above the first line, which is not read."]


def _check_quotes(table: pd.DataFrame, texts: pd.Series, labels: set[str], source: str) -> list[str]:
    """Refuses, or notes where it is less sure, a text with whole rows in it, which an open quote has swallowed.

    A text with line breaks may well be quoted. Here every line of it but the last is a row: it has as many cells as
    the header, and one of them is a label of the file.
    """
    separator, size = table.attrs["separator"], len(table.columns)
    for row, text in texts[texts.str.contains("\n", regex=False)].items():
        *lines, last = text.split("\n")
        if not all(
            line.count(separator) == size - 1 and not labels.isdisjoint(line.split(separator)) for line in lines
        ):
            continue
        if len(lines) > 1 or '"' in last:
            raise InputError(
                f"{source} seems to have a quote in row {row + 1} that is not closed, for its text goes on over whole "
                "rows: close or double the quote, or save the file as .jsonl if the text is meant so."
            )
        return [f"{source}: the text of row {row + 1} looks like two rows: is a quote in it not closed?"]
    return []


def _refuse(bad: pd.Series, source: str, what: str, way_out: str) -> None:
    if bad.any():
        more = f" (and {bad.sum() - 1} more)" if bad.sum() > 1 else ""
        raise InputError(f"{source} has {what} in row {bad.to_numpy().argmax() + 1}{more}: {way_out}.")


def load(source: str, test: str = "", text_column: str = "text", label_column: str = "label", seed: int = 42) -> Splits:
    """Loads labelled texts and splits them by class and seed.

    Without ``test`` a fifth of each class is the test set; a fifth of the rest is the validation set. A class with a
    single row is refused, unless there is a test file: then that row is one to learn from.

    Args:
        source: the value of ``DATA``.
        test: a separate test file in any of the same forms, or ``""``.
        text_column, label_column: column names, the same in both files.
        seed: which rows fall into which part.

    Raises:
        InputError: what is wrong, where, and the way out, in one sentence.
    """
    frame, notes = read_labelled(source, text_column, label_column)
    counts = frame["label"].value_counts()
    if len(counts) < 2:
        raise InputError(f"{source} has one class only, {counts.index[0]!r}: a classifier needs two or more.")
    if counts.min() < 2 and not test:
        raise InputError(f"{source} has a single row of the class {counts.idxmin()!r}: add rows of it, or remove it.")
    if test:
        held_out, test_notes = read_labelled(test, text_column, label_column)
        notes += test_notes
        _check_test(set(held_out["label"]), set(frame["label"]), test, source)
    else:
        frame, held_out = stratified_split(frame, 0.2, seed)
    train, validation = stratified_split(frame, 0.2, seed)
    return Splits(train, validation, held_out, sorted(counts.index), Path(source).stem, notes)


def _check_test(labels: set[str], known: set[str], test: str, source: str) -> None:
    if unseen := sorted(labels - known):
        raise InputError(
            f"{test} has labels that {source} lacks, {', '.join(unseen[:3])}: add training rows of them, "
            "or remove those test rows."
        )
    if len(labels) < 2:
        raise InputError(f"{test} has one class only, {labels.pop()!r}: a test needs two or more.")


def stratified_split(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Holds out ``share`` of every class, at least one row of it, and never the last row of a class.

    scikit-learn's splitter refuses small classes; a CSV of the real world has them.

    Returns:
        The kept and the held-out rows, each in file order.
    """
    counts = frame["label"].value_counts()
    held = _draw(frame["label"], {c: min(max(1, round(share * n)), n - 1) for c, n in counts.items()}, seed)
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True)


def _draw(labels: pd.Series, sizes: Mapping[str, int], seed: int) -> np.ndarray:
    """A mask of ``sizes[label]`` random rows of each class."""
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), dtype=bool)
    for label, places in sorted(labels.reset_index(drop=True).groupby(labels.to_numpy()).indices.items()):
        drawn[rng.permutation(places)[: sizes[label]]] = True
    return drawn


def sample(frame: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """``size`` rows, drawn by class and seed, in file order; the frame itself where it is no larger.

    Every class stays, with two rows or the one that it has, so that the sample can be split again; what is left of
    ``size`` is shared out in proportion. Many classes may therefore give more than ``size`` rows, two a class at most.
    """
    if len(frame) <= size:
        return frame
    counts = frame["label"].value_counts()
    least = counts.clip(upper=2)
    left = max(size - least.sum(), 0)
    exact = (counts - least) * left / max((counts - least).sum(), 1)
    sizes = least + exact.astype(int)
    sizes[(exact % 1).nlargest(left - int(exact.astype(int).sum())).index] += 1
    return frame[_draw(frame["label"], sizes.to_dict(), seed)].reset_index(drop=True)
