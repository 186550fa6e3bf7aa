"""Reading, checking and splitting labelled texts; the data card's figures."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import InputError, data

ROOT = Path(__file__).resolve().parent.parent
GOOD = "text,label\none,a\ntwo,b\nthree,a\nfour,b\n"


def write(folder, content, name="my.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


BAD = {
    "only a header": ("text,label\n", "no rows"),
    "white space": ("  \n\n", "nothing but white space"),
    "missing column": ("words,label\na,b\n", "no column 'text'"),
    "one class": ("text,label\none,a\ntwo,a\n", "one class only"),
    "single row of a class": ("text,label\none,a\ntwo,b\nthree,a\n", "single row of the class 'b'"),
    "empty text": ("text,label\none,a\n,b\nthree,a\nfour,b\n", "an empty text in row 2"),
    "blank text": ("text,label\none,a\n   ,b\nthree,a\n", "an empty text in row 2"),
    "NaN label": ("text,label\none,a\ntwo,\nthree,a\n", "no label in row 2"),
    "nan label": ("text,label\none,a\ntwo,nan\nthree,a\n", "no label in row 2"),
    "duplicate columns": ("text,label,text\none,a,x\ntwo,b,y\n", "two columns named 'text'"),
    "binary": (bytes(range(256)) * 50, "no text"),
    "huge text": ("text,label\n" + "x" * 10_000_000 + ",a\nb,c\n", "over 1,000,000 characters in row 1"),
    "ragged": ("text,label\none,a\ntwo,b,c,d\n", "well-formed"),
    "open quote": ('text,label\n"one,a\ntwo,b\n', "well-formed"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(tmp_path, case):
    content, expected = BAD[case]
    with pytest.raises(InputError) as error:
        data.load(write(tmp_path, content))
    sentence = str(error.value)
    assert expected in sentence
    assert "\n" not in sentence and len(sentence) < 600


def test_missing_folder_empty_and_unnamed(tmp_path):
    for source, expected in {
        str(tmp_path / "none.csv"): "does not exist",
        str(tmp_path): "is a folder",
        write(tmp_path, ""): "empty file",
        write(tmp_path, GOOD, "my.docx"): "export it as CSV",
        "http://127.0.0.1:9/x.csv": "could not be read",
        "x" * 5000 + ".csv": "cannot be used",
    }.items():
        with pytest.raises(InputError, match=re.escape(expected)):
            data.load(source)


def test_two_gigabytes_are_refused(tmp_path):
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(InputError, match="larger than 1 GB"):
        data.load(str(path))


CHINESE = "text,label\n" + "".join(f"第{i}条新闻，标题“很长”,{'甲乙'[i % 2]}\n" for i in range(12))


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", ""), ("utf-8-sig", "byte order mark"), ("gbk", "GBK"), ("utf-16", "utf-16"), ("gb18030", "GBK")],
)
def test_encodings_are_read_and_said(tmp_path, encoding, said):
    splits = data.load(write(tmp_path, CHINESE.encode(encoding)))
    assert splits.labels == sorted("甲乙")
    assert said in " ".join(splits.notes)
    assert bool(splits.notes) == bool(said)


def test_windows_1252_is_read(tmp_path):
    splits = data.load(write(tmp_path, GOOD.replace("one", "café à la crème").encode("cp1252")))
    assert "café à la crème" in {t for part in (splits.train, splits.test) for t in part["text"]}
    assert "cp1252" in splits.notes[0]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_quotes_and_line_ends(tmp_path, separator, newline):
    rows = [["label", "text"], *([["ab"[i % 2], f'"say {separator} {i}"'] for i in range(10)])]
    content = newline.join(separator.join(row) for row in rows) + newline
    frame, _ = data.read_labelled(write(tmp_path, content))
    assert frame["text"][3] == f"say {separator} 3" and frame["label"][3] == "b"
    assert frame["row"].tolist() == list(range(1, 11))


def test_jsonl_and_parquet(tmp_path):
    frame = pd.DataFrame({"text": list("abcdef"), "label": [0, 1] * 3})
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_json(tmp_path / "x.jsonl", lines=True, orient="records")
    for name in ("x.parquet", "x.jsonl"):
        assert data.load(str(tmp_path / name)).labels == ["0", "1"]
    (tmp_path / "y.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="not a parquet file"):
        data.load(str(tmp_path / "y.parquet"))


def test_words_such_as_na_and_none_stay_text(tmp_path):
    frame, _ = data.read_labelled(write(tmp_path, "text,label\nNA,NA\nnull,None\nnone,NA\n1.0,None\n"))
    assert frame["text"].tolist() == ["NA", "null", "none", "1.0"]
    assert frame["label"].tolist() == ["NA", "None", "NA", "None"]


def test_separate_test_file(tmp_path):
    train, test = write(tmp_path, GOOD), write(tmp_path, "text,label\nfive,a\nsix,b\n", "test.csv")
    splits = data.load(train, test)
    assert splits.test["text"].tolist() == ["five", "six"]
    unseen = write(tmp_path, "text,label\nfive,zebra\n", "unseen.csv")
    with pytest.raises(InputError, match="zebra"):
        data.load(train, unseen)


def test_shipped_split_sizes():
    splits = data.load("news_en")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1280, 320, 400)
    assert splits.test["label"].value_counts().eq(40).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=8), st.floats(0.05, 0.6), st.integers(0, 9))
def test_split_keeps_every_row_once_and_every_class(sizes, share, seed):
    frame = pd.DataFrame({"label": np.repeat([f"c{i}" for i in range(len(sizes))], sizes)}).assign(
        row=range(sum(sizes))
    )
    kept, held = data.stratified_split(frame, share, seed)
    assert sorted([*kept["row"], *held["row"]]) == list(range(sum(sizes)))
    assert set(kept["label"]) == set(held["label"]) == set(frame["label"])
    again = data.stratified_split(frame, share, seed)
    assert held["row"].tolist() == again[1]["row"].tolist()


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(lambda t: "\x00" not in t and not t.startswith("\ufeff")))
def test_utf8_text_is_decoded_as_written(content):
    control = len(re.findall(r"[\x00-\x08\x0e-\x1f]", content))
    if control <= len(content) / 100:
        assert data.decode(content.encode())[0] == content


def test_sample_is_stratified_and_capped():
    frame = data.load("news_en").train
    part = data.sample(frame, 200, 1)
    assert len(part) == 200 and part["label"].value_counts().eq(20).all()
    assert data.sample(frame, 10_000, 1) is frame


def test_relative_paths_are_looked_up_from_the_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert len(data.read_labelled("data/news_zh.csv")[0]) == 2000


def test_data_card_figures():
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    figures = {}
    for line in card.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 3 and cells[1].isdigit():
            figures[cells[0]] = (int(cells[1]), int(cells[2]))
    for i, name in enumerate(("news_en", "news_zh")):
        frame, _ = data.read_labelled(name)
        length, counts = frame["text"].str.len(), frame["label"].value_counts()
        found = {
            "texts": len(frame),
            "classes": len(counts),
            "texts a class": counts.min(),
            "repeated texts": frame["text"].duplicated().sum(),
            "characters, shortest": length.min(),
            "characters, median": int(length.median()),
            "characters, longest": length.max(),
        }
        assert counts.min() == counts.max()
        assert {k: v[i] for k, v in figures.items()} == found
        for label in counts.index:
            assert f" {label} " in card


def test_spreadsheets_leave_empty_columns_and_a_hint(tmp_path):
    (tmp_path / "excel.csv").write_text("sep=;\r\ntext;label;;\r\ngoal;x;;\r\nrain;y;;\r\n", "utf-8")
    frame, _ = data.read_table(str(tmp_path / "excel.csv"))
    assert frame.columns.tolist() == ["text", "label"] and frame.to_numpy().tolist() == [["goal", "x"], ["rain", "y"]]
