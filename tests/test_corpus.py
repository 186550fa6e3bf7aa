"""Corpora: docstrings of installed files, and the reader's own text files and tables."""

import json

import pytest

from helpers import InputError, corpus

MODULE = '''"""A module.

    >>> import this
    >>> for i in x:
    ...     print(i)
    3
"""
import nothing_that_exists


class Thing:
    """A thing."""

    if True:
        async def go(self):
            """Goes."""

    def stay(self):
        def inner():
            """Inner."""
        "no " + "docstring"
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two folders in place of the installed libraries, and an empty cache."""
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path / "cache"))
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "tests").mkdir(parents=True)
    two.mkdir()
    (one / "module.py").write_text(MODULE, "utf-8")
    (one / "tests" / "test_it.py").write_text('"""Not read."""', "utf-8")
    (one / "broken.py").write_text('"""Cannot be parsed"""\ndef (', "utf-8")
    (two / "same.py").write_text('"""A thing."""\nclass B:\n    """Ünïcode 中文."""\n', "utf-8")
    monkeypatch.setattr(corpus, "_root", {"python": one, "numpy": two}.get)
    return one


def test_docstrings_are_read_in_order_once_and_without_prompts(installed):
    documents = corpus.python_docs()
    assert documents[0] == "A module.\n\nimport this\nfor i in x:\n    print(i)\n3"
    assert documents[1:] == ["A thing.", "Goes.", "Inner.", "Ünïcode 中文."]
    assert corpus.library_docs() == {"python": documents[:4], "numpy": ["A thing.", "Ünïcode 中文."]}


def test_docstrings_are_cached_by_version_and_a_torn_cache_is_read_anew(installed, tmp_path, monkeypatch):
    documents = corpus.python_docs()
    (installed / "module.py").unlink()
    assert corpus.python_docs() == documents
    (file,) = (tmp_path / "cache").glob("docs-python-*.json")
    assert json.loads(file.read_text("utf-8")) == documents[:4]
    file.write_text('["torn', "utf-8")
    assert corpus.python_docs() == ["A thing.", "Ünïcode 中文."]
    monkeypatch.setattr("platform.python_version", lambda: "4.0")
    corpus.python_docs()
    assert len(list((tmp_path / "cache").glob("docs-python-*.json"))) == 2


def test_a_cache_that_cannot_be_written_does_no_harm(installed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path / "file" / "cache"))
    assert len(corpus.python_docs()) == 5


DOCUMENTS = [
    ("a.txt", "one\ntwo\n\n\nthree\n", ["one\ntwo", "three"]),
    ("a.txt", "one\n two \nthree", ["one", "two", "three"]),
    ("a.txt", "一行\n两行\n".encode("gbk"), ["一行", "两行"]),
    ("a.md", "one\r\n\r\ntwo", ["one", "two"]),
    ("a.csv", "id,body\n1,one\n2,\n3, three \n4,  \n", ["one", "three"]),
    ("a.txt", " \n\n ", None),
    ("a.csv", "body,n\n ,1\n", None),
]


@pytest.mark.parametrize(("name", "content", "expected"), DOCUMENTS)
def test_files_have_documents_by_blank_line_line_or_column_or_are_refused(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if expected is None:
        with pytest.raises(InputError, match="holds no text"):
            corpus.read_corpus(str(path), "body")
    else:
        documents, notes = corpus.read_corpus(str(path), "body")
        assert documents == expected and ("GBK" in " ".join(notes)) == isinstance(content, bytes)
