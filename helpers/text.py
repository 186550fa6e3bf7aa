"""Cleaning and splitting text into words or characters, alike for training, prediction and search. Notebook 03."""

import functools
import re
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

# A letter, then letters and the marks of vowels that Python's \w lacks: of Hebrew, Arabic, the scripts of India, Thai.
_WORD = r"\w[\w\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e]*"
_TOKENS = {"word": re.compile(rf"{_WORD}(?:['’]{_WORD})*"), "character": re.compile(r"[a-z0-9]+|\w")}
NOTHING = "<nothing>"
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN, _LETTER = re.compile(r"[A-Za-z\u00c0-\u024f]"), re.compile(r"[^\W\d_]")
_KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def normalise(text: str) -> str:
    """Gives one spelling to equal-looking texts: NFKC, no control or direction marks, single spaces; case is kept."""
    return " ".join(_CONTROL.sub(" ", unicodedata.normalize("NFKC", text).replace("\u00ad", "")).split())


def tokenize(text: str, unit: str = "word") -> list[str]:
    """Splits a text into lower-case tokens, without punctuation where it has words.

    There is at least one: a text without letter and digit gives its visible characters, and :data:`NOTHING` where there
    are none, so that every text can be counted, averaged and predicted. The ``unit`` is ``"word"`` for languages with
    spaces, ``"character"`` for Chinese (Latin words and numbers stay whole), ``"jieba"`` for Chinese words,
    ``"wordpiece"`` for BERT's pieces, punctuation included.

    Examples:
        >>> tokenize("Don't panic: 42 % OFF!")
        ["don't", 'panic', '42', 'off']
        >>> tokenize(":)"), tokenize("")
        ([':', ')'], ['<nothing>'])
    """
    plain = normalise(text).lower()
    if unit == "wordpiece":
        from helpers import weights

        tokens = weights.tokenizer().split(text)
    elif unit == "jieba":
        tokens = [word for word in _jieba().lcut(plain) if any(c.isalnum() for c in word)]
    else:
        tokens = _TOKENS[unit].findall(plain)
    return tokens or [c for c in plain if not c.isspace()] or [NOTHING]


@functools.cache
def _jieba() -> Any:
    """The module jieba, which would tell stderr about its dictionary and warn about its own source."""
    with warnings.catch_warnings(action="ignore"):
        import jieba
    jieba.setLogLevel("CRITICAL")
    return jieba


def cjk_share(texts: Iterable[str]) -> float:
    """Share of Chinese characters and kana among the characters that are not white space, in [0, 1]."""
    joined = "".join("".join(texts).split())
    return len(_CJK.findall(joined)) / max(len(joined), 1)


def guess_unit(texts: Iterable[str]) -> str:
    """``"character"`` where CJK characters make up a third of the text or more, else ``"word"``."""
    return "character" if cjk_share(texts) >= 1 / 3 else "word"


def script(content: str) -> str:
    """Returns the script of a text: ``"Latin"``, ``"Chinese"``, ``"other"``, or ``"none"`` where it has no letter."""
    letters = "".join(_LETTER.findall(content))
    if 3 * cjk_share(letters) >= 1 and 4 * len(_KANA_OR_HANGUL.findall(letters)) < len(letters):
        return "Chinese"
    return "none" if not letters else "Latin" if 2 * len(_LATIN.findall(letters)) >= len(letters) else "other"
