"""The pages beside the notebooks: the glossary names what is there, the Chinese README the same commands."""

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

TERM = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| \[(\d\d)\]\(\.\./([^)]+)\) \|$", re.M)
TERMS = TERM.findall((ROOT / "docs" / "glossary.md").read_text("utf-8"))


def test_the_glossary_is_whole_and_in_order():
    names = [term[0].lower() for term in TERMS]
    assert names == sorted(set(names)) and len(names) >= 60
    assert len((ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()) == len(TERMS) + 6


@pytest.mark.parametrize(("english", "chinese", "sentence", "number", "path"), TERMS, ids=[t[0] for t in TERMS])
def test_a_term_stands_in_its_notebook(english, chinese, sentence, number, path):
    cells = json.loads((ROOT / path).read_text("utf-8"))["cells"]
    text = " ".join(" ".join("".join(c["source"]) for c in cells).split()).lower()
    assert english.lower() in text and Path(path).name.startswith(number)
    assert re.search("[\u4e00-\u9fff]", chinese) and sentence[-1] in ".?"


def test_both_readmes_name_the_same_commands():
    def commands(name):
        text = (ROOT / name).read_text("utf-8")
        fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
        named = set(re.findall(r"\bmake [a-z]+|python -m helpers [a-z]+|--[a-z][a-z-]+", text))
        return [line for block in fenced for line in block.splitlines()], named

    ours, theirs = commands("README.md"), commands("README.zh-CN.md")
    assert ours == theirs and ours[0], ours[1] ^ theirs[1]


def test_links_of_the_pages_lead_somewhere():
    for page in (*ROOT.glob("*.md"), *ROOT.glob("d*/*.md")):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), link
