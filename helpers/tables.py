"""Tables of texts in, as they are: from a file, an address or the hub, in the encodings that people really save."""

import codecs
import contextlib
import csv
import io
import json
import os
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from helpers import InputError
from helpers.files import bases, without_password

SHIPPED = ("news_en", "news_zh")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_BYTES = 1_000_000_000
_TOO_LARGE = f"{{}} is larger than {MAX_BYTES // 10**9} GB: draw a sample of its rows first."
# Accents of French, German, Spanish, Italian, Portuguese, the Nordic languages, Dutch, Icelandic.
_WESTERN = "àâæçèéêëîïôœùûüÿ äöüß áéíóúñüç àèéìíîòóùú àáâãçéêíóõôúü åäöæøéèêóôü ëïéèêöüáóíúà áéíóúýðþæö"


def find_file(name: str) -> Path:
    """Returns a file, looked up from each of :func:`helpers.files.bases`; an InputError says why it cannot be read."""
    places = bases()
    try:
        path = next((p for base in places if (p := base / Path(name).expanduser()).exists()), None)
        size = path.stat().st_size if path else 0
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)[:80]
        raise InputError(f"The file name {name[:80]!r} cannot be used ({reason}): give a path.") from None
    if path is None:
        told = f"{without_password(name)} does not exist, looked up from here and from the project's root"
        raise InputError(f"{told}: check the path, or use one of {', '.join(SHIPPED)}.")
    if not path.is_file():
        raise InputError(f"{name} is a folder, a pipe or a device: name a file ({', '.join(SUFFIXES)}).")
    if not size:
        raise InputError(f"{name} is an empty file: a table needs a header such as text,label and one row per text.")
    if size > MAX_BYTES:
        raise InputError(_TOO_LARGE.format(name))
    if not os.access(path, os.R_OK):
        raise InputError(f"{name} cannot be read (Permission denied): allow it, or copy the file.")
    return path


def decode(raw: bytes, name: str = "the file") -> tuple[str, list[str]]:
    """Returns the text, and a note on its encoding if that is not UTF-8 but UTF-16 with its mark, GBK, Windows-1252.

    The last two are believed only where the text is common simplified Chinese, or has the accents of one Western
    language: a detector is wrong too often on short files. An InputError tells why the bytes cannot be read.
    """
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    controls = sum(raw.count(i) for i in range(32) if i not in b"\t\n\v\f\r")
    if not wide and (b"\x00" in raw or controls > len(raw) / 100):
        raise InputError(f"{name} holds bytes that are no text: export it as a CSV file in UTF-8.")
    fits = {"gb18030": _is_chinese, "cp1252": _is_western}
    said = {"utf-16": "utf-16"} if wide else {"utf-8-sig": "", "gb18030": "GBK (GB18030)", "cp1252": "cp1252"}
    for encoding, note in said.items():
        if encoding == "cp1252":
            _refuse_damaged(raw, name)
        with contextlib.suppress(UnicodeDecodeError):
            text = re.sub(r"\r\n?", "\n", raw.decode(encoding))
            if encoding not in fits or fits[encoding](text):
                return text, [f"{name} was decoded as {note}."] if note else []
    raise InputError(f"{name} is in an encoding that cannot be told for sure: save it as UTF-8.")


def _refuse_damaged(raw: bytes, name: str) -> None:
    """Refuses UTF-8 with stray bytes: about as many characters are valid as not, which no other encoding gives."""
    text = raw.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if bad and len(text) - len(text.encode("ascii", "ignore")) - bad > 0.9 * bad:
        line = text[: text.index("\ufffd")].count("\n") + 1
        raise InputError(f"{name} is UTF-8, but line {line} holds a byte that is no text: mend that line.")


def _is_chinese(text: str) -> bool:
    """True if nearly all beyond ASCII are common simplified characters, and not Korean or KOI8-R read as such."""
    found = Counter(c for c in text if ord(c) > 127)
    pairs = [(c.encode("gb2312", "ignore"), n) for c, n in found.items()]
    chinese = sum(n for pair, n in pairs if b"\xb0" <= pair[:1] <= b"\xd7")
    marks = sum(n for pair, n in pairs if pair[:1] in (b"\xa1", b"\xa3")) + found["\u20ac"]
    # Korean has none above C8 in the first byte, KOI8-R none outside C0 to DF in the second.
    own = sum(n for pair, n in pairs if b"\xc8" < pair[:1] <= b"\xd7" and not 0xC0 <= pair[1] <= 0xDF)
    return chinese + marks >= 0.97 * found.total() and own >= 0.05 * chinese


def _is_western(text: str) -> bool:
    """True if the accents are those of one Western language, or few; Polish and Estonian have others."""
    accents = Counter(c for c in text.lower() if ord(c) > 127 and c.isalpha() and c not in "ªº")
    most = max(sum(accents[c] for c in alphabet) for alphabet in _WESTERN.split())
    few = accents.total() <= 0.02 * sum(map(str.isalpha, text)) and set(accents) <= set(_WESTERN)
    polish = re.search(r"[a-z][³¹¿][a-z]|[a-z]{2}[³¹]|\b[³¹¿][a-z]{2}", text.lower())
    return (few or most >= 0.97 * accents.total()) and not polish and not re.search(r"õ(?![eó])", text)


def read_table(source: str) -> tuple[pd.DataFrame, list[str]]:
    """Returns a table of texts as it is, cells as strings, missing cells as None, and notes on how it was read.

    ``source`` is a shipped name, a path, an http(s) address, or ``hf:owner/name[:config][@split]``; else InputError.
    """
    if source.startswith("hf:"):
        return _unbroken(_read_hub(source)), [f"{source} was read through the datasets library."]
    source = f"data/{source}.csv" if source in SHIPPED else source
    remote = re.match(r"https?://", source, re.IGNORECASE)
    path, shown = (None, without_password(source)) if remote else (find_file(source), source)
    if Path(shown).suffix.lower() not in SUFFIXES:
        way_out = "unpack it, export it as CSV, or rename it if it is one of these"
        raise InputError(f"{shown} is none of {', '.join(SUFFIXES)}: {way_out}.")
    try:
        raw = path.read_bytes() if path else download(source)
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror}): copy the file, and name the copy.") from None
    frame, notes = _parse(raw, Path(shown))
    if twice := list(frame.columns[frame.columns.duplicated()]):
        raise InputError(f"{shown} has two columns named {twice[0]!r}: rename or remove one.")
    if not len(frame):
        raise InputError(f"{shown} has a header and no rows: it needs one row per text.")
    return _unbroken(frame), notes


def _unbroken(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with \\n alone for line breaks, which any CSV keeps; else as it is (pandas 2 would make 1.0 of 1)."""
    cells = {n: [re.sub(r"\r\n?", "\n", c) if isinstance(c, str) else c for c in frame[n]] for n in frame}
    return pd.DataFrame({name: pd.Series(column, dtype="object") for name, column in cells.items()})


def download(address: str) -> bytes:
    """Returns what an http(s) address holds, or raises InputError where it is cut, too large or not there."""
    import urllib.request
    from http.client import HTTPException, IncompleteRead

    shown = without_password(address)
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            found = answer.read(MAX_BYTES + 1)
            if answer.length and len(found) <= MAX_BYTES:
                raise IncompleteRead(found, answer.length)
    except (OSError, ValueError, HTTPException) as error:
        reason = " ".join(str(error).replace(address, shown).split("?")[0].split())[:160]
        reason = type(error).__name__ if "@" in address else reason  # its words may hold the password
        raise InputError(f"{shown} could not be read ({reason}): download it yourself and give its path.") from None
    if len(found) > MAX_BYTES:
        raise InputError(_TOO_LARGE.format(shown))
    return found


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
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{source} could not be read from the hub ({reason}): download it and give a file.") from None


def _parse(raw: bytes, path: Path) -> tuple[pd.DataFrame, list[str]]:
    name, suffix = path.name, path.suffix.lower()
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", raw[:200], re.IGNORECASE):
        raise InputError(f"{name} is a web page (HTML), perhaps to log in: download the table itself, and name that.")
    if suffix == ".parquet":
        try:
            frame = pd.read_parquet(io.BytesIO(raw), dtype_backend="numpy_nullable")  # 1 beside nothing stays 1
            named = [name for name in frame.index.names if name is not None]
            return frame.reset_index(named).reset_index(drop=True).astype("object"), []
        except Exception:
            raise InputError(f"{name} is not a parquet file that can be read: export it again, or as CSV.") from None
    text, notes = decode(raw, name)
    if not text.strip():
        raise InputError(f"{name} holds nothing but white space: it needs a header such as text,label.")
    if suffix == ".jsonl":
        return _parse_jsonl(text, name), notes
    try:
        return _parse_csv(text, suffix, name, notes), notes
    except ValueError as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")[:160]
        raise InputError(f"{name} is not a well-formed {suffix[1:]} file ({reason}): mend it at that place.") from None


def _parse_jsonl(text: str, name: str) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            rows += [json.loads(line) | {}] if line.strip() else []
            if "\\ud" in line.lower():
                json.dumps(rows[-1], ensure_ascii=False).encode()  # half a character is no text
        except (ValueError, TypeError, RecursionError):
            way_out = 'such as {"text": "…", "label": "…"}: mend it.'
            raise InputError(f"Line {number} of {name} is no JSON object {way_out}") from None
    return pd.DataFrame(rows, dtype="object")


def _parse_csv(text: str, suffix: str, name: str, notes: list[str]) -> pd.DataFrame:
    text = re.sub(r"\Asep=.\r?\n", "", text)  # Excel's hint
    header = re.sub(r'"[^"]*"', "", re.split("[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0])
    separator = "\t" if suffix == ".tsv" else max(",;\t|", key=header.count)
    options = {"sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""], "header": None}
    lines = [line for line in text.split("\n") if line.strip()] if suffix == ".tsv" else []
    if any(line.count('"') % 2 for line in lines) and len({line.count("\t") for line in lines}) == 1:
        options["quoting"] = csv.QUOTE_NONE
        notes.append(f"{name} has a quote that no other closes in its line, so quotes were read as plain characters.")
    elif re.search(rf'(?<!\\)\\"(?![{separator}"\r\n]|\Z)', text) and re.search(rf'(^|[{separator}\n])"', text):
        text = re.sub(r'\\[\\"]', lambda pair: '""' if '"' in pair[0] else pair[0], text)
        notes.append(f"{name} has quotes after a backslash, which were read as quotes within a text.")
    frame = pd.read_csv(io.BytesIO(text.encode("utf-8", "surrogatepass")), **options)  # a StringIO takes more memory
    frame.columns = ["" if pd.isna(c) else str(c).strip().strip('"') for c in frame.iloc[0]]
    frame = frame.iloc[1:].reset_index(drop=True).astype("object")
    return frame.loc[:, (frame.columns != "") | frame.notna().any().to_numpy()]


def column(table: pd.DataFrame, name: str, source: str, way_out: str) -> pd.Series:
    """Returns a column of a table; an InputError tells that there is none, or that its cells are lists and the like."""
    if name in table.columns:
        nested = table[name].map(lambda cell: hasattr(cell, "__len__") and not isinstance(cell, str))
        refuse(nested, without_password(source), f"a list, an object or bytes as {name!r}", "make it plain text")
        return table[name]
    names = [str(c) for c in table.columns]
    if any(len(n) > 40 or (table[n] == n).any() for n in names[:100] if n in table.columns):
        way_out += ", or, as the file seems to have no header row, put one above its first line"
    shown = ", ".join(" ".join(n.split())[:40] for n in names[:12])
    raise InputError(f"{without_password(source)} has no column {name!r}; its columns are {shown}: {way_out}.")


def refuse(bad: pd.Series, source: str, what: str, way_out: str) -> None:
    """Raises an InputError that names the first of the bad rows, if there is one."""
    if bad.any():
        more = f" (and {bad.sum() - 1} more)" if bad.sum() > 1 else ""
        raise InputError(f"{source} has {what} in row {bad.to_numpy().argmax() + 1}{more}: {way_out}.")
