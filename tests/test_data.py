"""Reading, checking and splitting labelled texts; the data card's figures."""

import http.server
import threading

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import InputError, data, tables

ODD = [  # content, suffix, text and label as they are read, and a part of the note
    *((f'label{s}text\r\na{s}"say {s} 1"\r\nb{s}"two"', "csv", [f"say {s} 1", "a", "two", "b"], "") for s in ",;\t|"),
    ("sep=;\r\ntext;label;;\r\ngo, go;x;;\r\nrain;y;;\r\n", "csv", ["go, go", "x", "rain", "y"], ""),
    ('text\tlabel\n"hello\tx\n5" tall\ty\n', "tsv", ['"hello', "x", '5" tall', "y"], "quotes were read as plain"),
    ('text\tlabel\n"one\ttab"\tx\n"two\nlines"\ty\n', "tsv", ["one\ttab", "x", "two\nlines", "y"], ""),
    ('text,label\n"a \\"C:\\new\\", b",x\n"\\d",y\n', "csv", ['a "C:\\new", b', "x", "\\d", "y"], "backslash"),
    ('text,label\n"a\rb\r\nc\nd",x\none,y\n', "csv", ["a\nb\nc\nd", "x", "one", "y"], ""),
    ("text;label\ra, b, c;x\rrain;y\r", "csv", ["a, b, c", "x", "rain", "y"], ""),  # of Excel on an old Macintosh
    ("text,label\nNA,NA\n1.0,None\n", "csv", ["NA", "NA", "1.0", "None"], "the label 'NA': is that a class"),
]


def write(folder, content, name="my.csv"):
    (path := folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(("content", "suffix", "cells", "note"), ODD)
def test_separators_quotes_and_line_ends(tmp_path, content, suffix, cells, note):
    frame, notes = data.read_labelled(write(tmp_path, content, f"my.{suffix}"))
    assert frame.to_numpy().tolist() == [[1, *cells[:2]], [2, *cells[2:]]]
    assert note in " ".join(notes) and bool(notes) == bool(note)


def test_a_few_rows_without_text_or_label_are_left_out_and_said(tmp_path):
    lines = [f"text {i},{'ab'[i % 2]}" for i in range(60)]
    lines[6], lines[9] = " ,a", "text 9,"
    frame, (note,) = data.read_labelled(write(tmp_path, "\n".join(["text,label", *lines])))
    assert len(frame) == 58 and not {7, 10} & set(frame["row"]) and frame["row"].iloc[-1] == 60
    assert note.startswith("Left out for want of a text or a label: 2 of 60 rows of ") and note.endswith("row 7.")


def test_jsonl_and_parquet(tmp_path):
    frame = pd.DataFrame({"text": list("abcdef"), "label": [0, 1] * 3})
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_json(tmp_path / "x.jsonl", lines=True, orient="records")
    frame.set_index("text").to_parquet(tmp_path / "index.parquet")
    pd.concat([frame, frame]).to_parquet(tmp_path / "twice.parquet")
    assert data.read_table(str(tmp_path / "twice.parquet"))[0].index.is_unique
    gap = pd.DataFrame({"text": [*"abcdef" * 9, None], "label": [0.0, 1.0] * 27 + [None]}).astype({"label": "Int64"})
    gap.to_parquet(tmp_path / "gap.parquet")
    for name in ("x.parquet", "x.jsonl", "index.parquet", "gap.parquet"):
        rows = data.read_labelled(str(tmp_path / name))[0].to_numpy().tolist()
        assert rows == [[i + 1, t, str(i % 2)] for i, t in enumerate("abcdef" * max(len(rows) // 6, 1))]


def test_a_class_of_one_row_can_be_learned_where_there_is_a_test_file(tmp_path):
    train = write(tmp_path, "text,label\none,a\ntwo,b\nthree,a\nfour,b\nfive,rare\n")
    splits = data.load(train, write(tmp_path, "text,label\nsix,rare\nseven,b\n", "test.csv"))
    assert splits.train["label"].value_counts()["rare"] == 1 and splits.test["text"].tolist() == ["six", "seven"]
    with pytest.raises(InputError, match=r"its columns are text, kind: a test file has the columns of .*, use predict"):
        data.load(train, write(tmp_path, "text,kind\nsix,b\n", "other.csv"))


def test_shipped_split_sizes_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    splits = data.load("data/news_en.csv")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1280, 320, 400)
    assert splits.test["label"].value_counts().eq(40).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=8), st.floats(0.05, 0.6), st.integers(0, 9))
def test_split_keeps_every_row_once_and_every_class(sizes, share, seed):
    labels = np.repeat([f"c{i}" for i in range(len(sizes))], sizes)
    frame = pd.DataFrame({"label": labels, "row": range(len(labels))})
    kept, held = data.stratified_split(frame, share, seed)
    assert sorted([*kept["row"], *held["row"]]) == list(range(sum(sizes)))
    assert set(kept["label"]) == set(held["label"]) == set(frame["label"])
    again = data.stratified_split(frame, share, seed)
    assert held["row"].tolist() == again[1]["row"].tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 400), st.integers(0, 9))
def test_a_sample_has_its_size_and_two_rows_of_every_class(sizes, size, seed):
    labels = np.repeat([f"c{i}" for i in range(len(sizes))], sizes)
    frame = pd.DataFrame({"label": labels, "row": range(len(labels))})
    part = data.sample(frame, size, seed)
    least = frame["label"].value_counts().clip(upper=2)
    assert len(part) == min(len(frame), max(size, least.sum()))
    assert (part["label"].value_counts().reindex(least.index) >= least).all()
    assert part["row"].is_monotonic_increasing and part["row"].is_unique


@pytest.mark.parametrize(("place", "name"), enumerate(("news_en", "news_zh")))
def test_data_card_figures(place, name):
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines()]
    figures = {row[0]: int(row[1 + place]) for row in rows if len(row) == 3 and row[1].isdigit()}
    frame, _ = data.read_labelled(name)
    length, counts = frame["text"].str.len(), frame["label"].value_counts()
    assert figures == {
        "texts": len(frame), "classes": len(counts), "texts a class": counts.min(),
        "repeated texts": frame["text"].duplicated().sum(), "characters, shortest": length.min(),
        "characters, median": int(length.median()), "characters, longest": length.max(),
    }  # fmt: skip
    assert counts.min() == counts.max() and all(f" {label} " in card for label in counts.index)


@pytest.mark.parametrize(
    "text",
    ["one, a\ntwo, b", "roses are red,\nviolets,\nblue", 'he said "yes"\nand,no', "a\nb\na", "x,a,b\ny", "a,c\nd,e\nf"],
)
def test_a_quoted_text_of_several_lines_is_no_open_quote(tmp_path, text):
    frame = pd.DataFrame({"text": [text, "one", "two"], "label": ["a", "b", "a"]})
    frame.to_csv(tmp_path / "my.csv", index=False)
    found, notes = data.read_labelled(str(tmp_path / "my.csv"))
    assert found["text"][0] == text and notes == []


def test_what_may_be_a_missing_header_is_noted(tmp_path):
    notes = data.load(write(tmp_path, "one,a\ntwo,b\nthree,a\nfour,b\nfive,a\n"), "", "", "").notes
    assert "is 'a' a column's name?" in notes[1]


def test_addresses(monkeypatch):
    """A web server on this machine sends ten rows, or half of what it promised."""
    body = ("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(10))).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) * (2 if "half" in self.path else 1)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert len(data.read_table(f"{address}/a.csv")[0]) == 10
        with pytest.raises(InputError, match=r"a\.csv has no column"):  # the query is not shown
            data.load(f"{address}/a.csv?sig=secret", text_column="body")
        with pytest.raises(InputError, match="could not be read"):
            data.read_table(f"{address}/half.csv")
        monkeypatch.setattr(tables, "MAX_BYTES", 50)
        with pytest.raises(InputError, match="larger than 1 GB"):
            data.read_table(f"{address}/a.csv")
        server.shutdown()
