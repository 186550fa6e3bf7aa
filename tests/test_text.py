"""Tokens and scripts."""

from hypothesis import given
from hypothesis import strategies as st

from helpers import text


def test_chinese_is_cut_by_character_or_by_word_and_quietly(capfd):
    assert text.tokenize("央行下调ABC利率3.5%", "character") == ["央", "行", "下", "调", "abc", "利", "率", "3", "5"]
    assert text.tokenize("央行下调ABC利率，3.5%！", "jieba") == ["央行", "下调", "abc", "利率", "3.5%"]
    assert text.tokenize("，。！", "jieba") == [",", "。", "!"]
    assert capfd.readouterr().err == ""


def test_unit_is_guessed_by_script():
    assert text.guess_unit(["央行下调利率", "iPhone 新品"]) == "character"
    assert text.guess_unit(["The bank of 中国 cut rates"]) == "word"
    assert text.guess_unit(["あしたはあめがふるでしょう。"]) == "character"
    assert text.guess_unit([]) == "word"
    assert text.tokenize("हिन्दी की किताब का­गज़ \u202bعاجل\u202c") == ["हिन्दी", "की", "किताब", "कागज़", "عاجل"]


@given(st.text())
def test_normalise_is_stable_and_tokens_hold_no_space(value):
    once = text.normalise(value)
    assert text.normalise(once) == once
    for unit in ("word", "character", "jieba"):
        assert all(token and not any(c.isspace() for c in token) for token in text.tokenize(value, unit))
