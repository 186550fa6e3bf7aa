"""Labelled texts in, checked and split: every form of the parameter ``DATA`` (:func:`helpers.tables.read_table`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import InputError
from helpers.files import without_password
from helpers.tables import column, read_table, refuse

TEXT_NAMES = (
    "text texts content review sentence headline title body comment message question tweet utterance query document "
    "description news 文本 内容 正文 评论 标题 句子 问题 新闻"
)
LABEL_NAMES = (
    "label labels class category target topic sentiment intent tag polarity genre type 标签 类别 分类 情感 主题 意图"
)
FEW = 0.05  # the share of rows without text or label that is left out; more are refused
PLACEHOLDERS = ("n/a", "na", "null", "none", "-", "?", "#n/a")  # that other programs write for no value


@dataclass(frozen=True)
class Splits:
    """Labelled texts in three frames with ``row`` (record number in its file, from 1), ``text`` and ``label``."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    labels: list[str]  # the class names, sorted
    name: str  # of the data, for titles
    notes: list[str] = field(default_factory=list)  # on how the files were read, one sentence each


def read_labelled(
    source: str, text_column: str = "text", label_column: str = "label",
    way_out: str = "set TEXT_COLUMN and LABEL_COLUMN",
) -> tuple[pd.DataFrame, list[str]]:  # fmt: skip
    """Returns labelled texts, ``row`` (record number, from 1), ``text`` and ``label`` (both str), and notes.

    A few rows without text or label are left out, and counted in the notes; an InputError tells what is refused.
    """
    table, notes = read_table(source)
    source = without_password(source)
    if text_column == label_column:
        raise InputError(f"Text and label are both the column {text_column!r}: set TEXT_COLUMN or LABEL_COLUMN.")
    texts, labels = (column(table, name, source, way_out) for name in (text_column, label_column))
    refuse((texts == text_column) & (labels == label_column), source, "its header again", "remove that row")
    texts, labels = (c.map(lambda cell: "" if pd.isna(cell) else str(cell)).astype(str) for c in (texts, labels))
    labels = labels.str.strip()
    blank, bare = texts.str.strip() == "", labels.isin(["", "nan", "NaN"])
    if (gone := blank | bare).mean() > FEW:
        refuse(blank, source, "an empty text", "fill or remove the row")
        refuse(bare, source, "no label", "fill or remove the row")
    if gone.any():
        place = f"{gone.sum():,} of {len(gone):,} rows of {source}, the first in row {gone.to_numpy().argmax() + 1}"
        notes.append(f"Left out for want of a text or a label: {place}.")
    if not any(re.search(r"[^\W_]", text) for text in texts):
        raise InputError(f"{source} has no text with a letter or a digit in column {text_column!r}: look at the file.")
    if odd := sorted(set(labels[labels.str.casefold().isin(PLACEHOLDERS)])):
        notes.append(f"{source} has the label {odd[0]!r}: is that a class, or no label? It is read as a class.")
    if not re.search(r"^hf:|\.(jsonl|parquet)(\?|$)", source, re.IGNORECASE):
        _check_quotes(texts, set(labels[~gone]), source, list(table.columns).index(text_column), len(table.columns))
    frame = pd.DataFrame({"row": range(1, len(table) + 1), "text": texts, "label": labels})
    return frame[~gone.to_numpy()].reset_index(drop=True), notes


def _check_quotes(texts: pd.Series, labels: set[str], source: str, place: int, size: int) -> None:
    """Refuses a quote that is surely left open: between the ends of two rows all lines of a text are whole rows."""
    for row, text in texts[texts.str.contains("\n", regex=False)].items():
        first, *lines, last = text.split("\n")
        for by in ",;\t|":
            cut = first.count(by) == size - 1 - place and last.count(by) >= place and (lines or '"' in last)
            whole = all(x.count(by) == size - 1 and labels & {*x.split(by)} for x in lines)
            if cut and whole and labels & {*first.split(by)[1:], *last.split(by)[:place]}:
                said = f"{source} seems to have a quote in row {row + 1} that is not closed, for its text goes on over"
                way_out = "close or double the quote, or save the file as .jsonl if the text is meant so."
                raise InputError(f"{said} whole rows: {way_out}")


def load(source: str, test: str = "", text_column: str = "text", label_column: str = "label", seed: int = 42) -> Splits:
    """Loads labelled texts and splits them by class and seed; an InputError says what is wrong, where, and the way out.

    Without ``test`` a fifth of each class is the test set; a fifth of the rest is the validation set. A class with a
    single row is refused, unless there is a test file: then that row is one to learn from. The names of the columns are
    the same in both files; an empty one is guessed, and said.
    """
    said, shown = [], without_password(source)
    if not (text_column and label_column):
        table = read_table(source)[0]
        guessed = guess_columns(table)
        text_column, label_column = text_column or guessed[0], label_column or guessed[1]
        said = [f"text in column {text_column!r}, class in column {label_column!r}, by their names and contents"]
        if label_column in table and (table[label_column] == label_column).any():
            said.append(f"{shown}: is {label_column!r} a column's name? If not, add a header: line 1 is not read.")
    frame, notes = read_labelled(source, text_column, label_column)
    counts = frame["label"].value_counts()
    if len(counts) < 2:
        raise InputError(f"{shown} has one class only, {counts.index[0]!r}: a classifier needs two or more.")
    if test:
        way_out = f"a test file has the columns of {shown}, and labels; without labels, use predict"
        held_out, more = read_labelled(test, text_column, label_column, way_out)
        notes, known = notes + more, set(held_out["label"])
        if unseen := ", ".join(sorted(known - set(counts.index))[:3]):
            way_out = "add training rows of them, or remove those test rows."
            raise InputError(f"{without_password(test)} has labels that {shown} lacks, {unseen}: {way_out}")
        if len(known) < 2:
            raise InputError(f"{without_password(test)} has one class only, {known.pop()!r}: a test needs two or more.")
    elif (counts == 1).sum() > len(frame) / 2:
        said = f"{shown} has {len(counts):,} classes in {len(frame):,} rows, most of a single row"
        raise InputError(f"{said}: is {label_column!r} the right column, or a number to be put into ranges?")
    elif counts.min() < 2:
        raise InputError(f"{shown} has a single row of the class {counts.idxmin()!r}: add rows of it, or remove it.")
    else:
        frame, held_out = stratified_split(frame, 0.2, seed)
    train, validation = stratified_split(frame, 0.2, seed)
    return Splits(train, validation, held_out, sorted(counts.index), Path(shown).stem, said + notes)


def stratified_split(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the kept and the held-out rows, in file order: ``share`` of every class, at least one row, never all."""
    counts = frame["label"].value_counts()  # scikit-learn's splitter refuses small ones
    held = _draw(frame["label"], {c: min(max(1, round(share * n)), n - 1) for c, n in counts.items()}, seed)
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True)


def _draw(labels: pd.Series, sizes: Mapping[str, int], seed: int) -> np.ndarray:
    """A mask of ``sizes[label]`` random rows of each class."""
    rng, drawn = np.random.default_rng(seed), np.zeros(len(labels), dtype=bool)
    for label, places in sorted(labels.groupby(labels.to_numpy()).indices.items()):
        drawn[rng.permutation(places)[: sizes[label]]] = True
    return drawn


def sample(frame: pd.DataFrame, size: int, seed: int, least: int = 2) -> pd.DataFrame:
    """Returns ``size`` rows, drawn by class and seed, in file order; the frame itself where it is no larger.

    Every class stays, with ``least`` rows or all that it has, so that the sample can be split again; what is left of
    ``size`` is shared out in proportion. Many classes may therefore give more than ``size`` rows.
    """
    if len(frame) <= size:
        return frame
    counts = frame["label"].value_counts()
    kept = counts.clip(upper=least)
    left = max(size - kept.sum(), 0)
    exact = (counts - kept) * left / max((counts - kept).sum(), 1)
    sizes = kept + exact.astype(int)
    sizes[(exact % 1).nlargest(left - int(exact.astype(int).sum())).index] += 1
    return frame[_draw(frame["label"], sizes.to_dict(), seed)].reset_index(drop=True)


def guess_columns(table: pd.DataFrame) -> tuple[str, str]:
    """Returns the text and the label column of a table, by their names, else by what they hold.

    By content the label is the only column whose values repeat, the text is the longest of the others; else InputError.
    """
    columns = list(table.columns)
    longest = sorted(columns, key=lambda name: -table[name].astype(str).str.len().mean())
    named = _named(columns, TEXT_NAMES)
    texts = [name for name in longest if name in named]
    labels = [name for name in _named(columns, LABEL_NAMES) if name not in texts[:1]]
    if not labels:
        repeating = [n for n in columns if 2 <= table[n].astype(str).nunique() <= len(table) / 2 and n not in texts[:1]]
        labels = repeating if len(repeating) == 1 else []
    texts = texts or [name for name in longest if name not in labels[:1]]
    if texts and labels:
        return texts[0], labels[0]
    said = f"It cannot be said which of the columns {', '.join(map(str, columns[:12]))} holds the text and which the"
    raise InputError(f"{said} label: name them as TEXT_COLUMN and LABEL_COLUMN, or --text-column and --label-column.")


def _named(columns: Sequence[str], names: str) -> list[str]:
    """The columns with one of the names, in the order of the names: whole, else as one of their words."""
    lower = {column: str(column).strip().lower() for column in columns}
    whole = [column for name in names.split() for column in columns if lower[column] == name]
    return whole or [c for name in names.split() for c in columns if name in re.split(r"[\W_]+", lower[c])]
