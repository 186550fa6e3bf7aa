"""Vectors: search, analogies, training against the formula, judgement by people, files; and notebook 01."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import InputError, embeddings
from helpers.embeddings import Vectors

ROOT = Path(__file__).resolve().parent.parent
PROBES = (
    "mean matrix monday january red black row column first three raise sin http plot integer string file list left "
    "maximum import tree cluster kernel layer gradient normal true width upper x hour year multiply train label "
    "socket thread key classifier"
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_the_documents_cosine_set_right():
    assert embeddings.cosine([[1, 2, 3]], [[4, 5, 6], [0, 0, 0]])[0] == pytest.approx([32 / (14 * 77) ** 0.5, 0])


# ---------------------------------------------------------------- search


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 70), st.integers(1, 20), st.integers(0, 9))
def test_search_is_exact_and_ties_keep_their_order(count, width, k, chunk, seed):
    vectors = np.random.default_rng(seed).integers(-1, 2, (count, width)).astype("float32")  # many ties and zeros
    queries = random(3, width, seed=seed)
    rows, similarities = embeddings.nearest(queries, vectors, k, chunk)
    for query, found, values in zip(queries, rows, similarities, strict=True):
        one = embeddings.unit_length(query[None])[0]
        full = np.einsum("ij,ij->i", np.repeat(one[None], count, 0), embeddings.unit_length(vectors))
        assert found.tolist() == np.lexsort((np.arange(count), -full))[:k].tolist()
        assert values == pytest.approx(full[found], abs=1e-12)


def test_equal_vectors_far_apart_are_a_tie():
    vectors = random(20_000, 48)
    vectors[[17, 9_000, 19_999]] = vectors[3]
    rows, _ = embeddings.nearest(vectors[[3]], vectors, 4)
    assert rows.tolist() == [[3, 17, 9_000, 19_999]]


def test_search_needs_little_memory_beside_the_vectors():
    vectors = random(100_000, 64)
    tracemalloc.start()
    rows, _ = embeddings.nearest(vectors[:300], vectors, 10)
    peak = tracemalloc.get_traced_memory()[1]
    vectors[:] = vectors[0]  # the hardest case: everything is a tie
    tracemalloc.reset_peak()
    same, _ = embeddings.nearest(vectors[:3], vectors[:20_000], 10)
    worst = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows[:, 0].tolist() == list(range(300)) and (same == np.arange(10)).all()
    assert peak < 60e6 and worst < 60e6


def test_search_in_nothing_finds_nothing():
    assert embeddings.nearest(random(2, 4), np.zeros((0, 4), "float32"))[0].shape == (2, 0)
    assert embeddings.nearest(np.zeros((0, 4)), random(2, 4))[0].shape == (0, 2)


def test_duplicates_are_pairs_in_order():
    vectors = random(50, 8)
    vectors[40], vectors[30] = vectors[7] * 3, vectors[2] + 0.05
    pairs = embeddings.duplicates(vectors, 0.97)
    assert [pair[:2] for pair in pairs] == [(7, 40), (2, 30)]
    assert pairs[0][2] == pytest.approx(1)


# ---------------------------------------------------------------- words


@pytest.fixture
def family():
    table = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [0.1, 1, 1]]
    return Vectors(["man", "king", "woman", "queen", "lady"], np.array(table, "float32"))


def test_analogies_add_unit_vectors_and_leave_the_question_out(family):
    a, b, c = embeddings.unit_length(family.table[[0, 1, 2]])
    expected = embeddings.cosine((b - a + c)[None], family.table[[3, 4]])[0]
    assert family.analogy("man", "king", "woman", 5) == [
        ("queen", pytest.approx(expected[0])),
        ("lady", pytest.approx(expected[1])),
    ]
    assert [word for word, _ in family.analogy("man", "man", "woman", 9)] == ["queen", "lady", "king"]


def test_an_unknown_word_is_said_with_the_nearest_spelling(family):
    for call in (family.neighbours, family.place, family.__getitem__):
        with pytest.raises(InputError, match=r"'quen' is none of the 5 words with a vector: did you mean 'queen'\?"):
            call("quen")
    with pytest.raises(InputError, match="too rare"):
        family.analogy("man", "zzzzzzzz", "king")


def test_families_name_forty_words():
    assert set(embeddings.PROBES) == set(PROBES.split()) and len(embeddings.PROBES) == 40
    assert all(family and word not in family for word, family in embeddings.PROBES.items())
    vectors = Vectors(["mean", "median", "red", "sin"], np.array([[1, 0], [1, 0.1], [0, 1], [0.3, 1]], "float32"))
    hits = embeddings.probe_hits(vectors, k=1)
    assert hits["mean"] and not hits["red"] and not hits["plot"]


# ---------------------------------------------------------------- training


def test_words_are_counted_and_numbered_by_frequency():
    corpus = embeddings.count_words([["b", "a", "b"], [], ["rare", "a", "b"]], min_count=2)
    assert corpus.words == ["b", "a"] and corpus.counts.tolist() == [3, 2] and corpus.tokens == 6
    assert corpus.ids.tolist() == [1, 2, 1, 0, 0, 2, 1, 0]
    assert len(embeddings.count_words([list("aabbcc")], 1, most=2).words) == 2


@pytest.mark.parametrize("documents", [[], [[]], [["one"] * 50], [["a", "b", "c"]]])
def test_a_corpus_of_too_few_words_is_said(documents):
    with pytest.raises(InputError, match="two are needed: give more text, or lower MIN_COUNT"):
        embeddings.count_words(documents)


def test_subsampling_and_negatives_follow_word2vec():
    counts = np.array([8000, 1900, 100])
    share = counts / 10_000
    assert embeddings.keep_probability(counts, 1e-2) == pytest.approx(
        np.minimum((0.01 / share) ** 0.5 + 0.01 / share, 1)
    )
    drawn = np.bincount(embeddings.noise_table(counts, 100_000)) / 100_000
    assert drawn == pytest.approx(counts**0.75 / (counts**0.75).sum(), abs=1e-4)


def test_matrix_products_move_vectors_as_pair_after_pair_does():
    blocks, length, some, negatives = 2, 6, 4, 3
    u, v, n = random(blocks, length, 5), random(blocks, length, 5, seed=1), random(length, some, 5, seed=2)
    near = (np.random.default_rng(3).random((blocks, length, length)) < 0.4).astype("float32")
    expected = [np.zeros_like(a) for a in (u, v, n)]
    for b, i, j in zip(*np.nonzero(near), strict=True):
        true = 1 / (1 + np.exp(-u[b, i] @ v[b, j])) - 1
        expected[0][b, i] -= true * v[b, j]
        expected[1][b, j] -= true * u[b, i]
        for s in range(some):
            false = negatives / some / (1 + np.exp(-u[b, i] @ n[i, s]))
            expected[0][b, i] -= false * n[i, s]
            expected[2][i, s] -= false * u[b, i]
    for ours, theirs in zip(embeddings.skipgram_gradients(u, v, n, near, negatives), expected, strict=True):
        assert np.allclose(ours, theirs, atol=1e-4)


def two_topics(documents, length=12):
    rng = np.random.default_rng(0)
    topics = [[f"a{i}" for i in range(8)], [f"b{i}" for i in range(8)]]
    return [["the", *rng.choice(topics[i % 2], length), "the"] for i in range(documents)]


@pytest.mark.slow
def test_training_separates_topics_and_repeats_itself(monkeypatch):
    monkeypatch.setenv("HELPERS_PROGRESS", os.devnull)
    corpus = embeddings.count_words(two_topics(600))
    vectors = embeddings.train_skipgram(corpus, 16, epochs=4, seed=1)
    assert np.isfinite(vectors.table).all() and vectors.table.shape == (17, 16)
    for word in corpus.words[1:]:
        assert all(near[0] == word[0] for near, _ in vectors.neighbours(word, 3))
    again = embeddings.train_skipgram(corpus, 16, epochs=4, seed=1)
    assert np.allclose(vectors.table, again.table, atol=1e-4)
    other = embeddings.train_skipgram(corpus, 16, epochs=4, seed=2)
    assert not np.allclose(vectors.table, other.table, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("documents", [[["a", "b"]] * 6, [["a", "b"] * 20_000]])
def test_few_words_and_odd_lengths_stay_finite(documents, monkeypatch):
    monkeypatch.setenv("HELPERS_PROGRESS", os.devnull)
    vectors = embeddings.train_skipgram(embeddings.count_words(documents), 4, window=20, negatives=50, epochs=3)
    assert np.isfinite(vectors.table).all()


# ---------------------------------------------------------------- sentences


def test_sentences_are_weighted_means(family):
    texts = [["man", "unknown", "queen"], ["unknown"], []]
    plain = embeddings.sentence_vectors(texts, family)
    assert plain.tolist() == [[0.5, 0.5, 0.5], [0, 0, 0], [0, 0, 0]]
    weights = {"man": 3.0, "queen": 1.0}
    assert embeddings.sentence_vectors(texts[:1], family, weights)[0] == pytest.approx([0.75, 0.25, 0.25])
    assert embeddings.inverse_frequency({"the": 999, "cat": 1}, 0.001) == pytest.approx({"the": 0.001 / 1, "cat": 0.5})


def test_the_common_direction_is_taken_away():
    common = np.array([3.0, 4.0, 0.0])
    vectors = np.outer(np.linspace(5, 9, 40), common) + random(40, 3) * 0.1
    left = embeddings.without_common(vectors)
    assert np.abs(left @ common / 5).max() < 0.2 < np.abs(vectors @ common / 5).min()


def test_stsb_is_the_rank_correlation(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('a,a,5.0\n"b, c",a,1\na,c,2.5\n', "utf-8")
    known = {"a": [1, 0], "b, c": [0, 1], "c": [1, 1]}
    assert embeddings.stsb_spearman(str(path), lambda texts: np.array([known[t] for t in texts])) == pytest.approx(1)
    path.write_text("a,a,5.0\na,b\n", "utf-8")
    with pytest.raises(InputError, match="number in row 2"):
        embeddings.sentence_pairs(str(path))


def test_a_sentence_keeps_its_line_breaks_and_an_open_quotation_is_told(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('"a\nb",c,1\nd\u2028e,f,2\n', "utf-8")
    assert embeddings.sentence_pairs(str(path))[0] == ["a\nb", "d\u2028e"]
    path.write_text('a,"b,1\n' + "a,b,1\n" * 40_000, "utf-8")
    with pytest.raises(InputError, match="quotation marks"):
        embeddings.sentence_pairs(str(path))


def test_words_without_a_weight_count_as_unseen(family):
    words = [["king", "queen"]]
    assert np.allclose(
        embeddings.sentence_vectors(words, family, {"king": 1.0}), embeddings.sentence_vectors(words, family)
    )


# ---------------------------------------------------------------- judged by people


def test_word_pairs_give_rank_correlation_and_coverage(tmp_path, family):
    path = tmp_path / "pairs.txt"
    path.write_text("# a comment\nQueen\tlady\t9.5\nman,king,6\n\nman woman 1\nman elephant 3\n", "utf-8")
    found = embeddings.word_pairs(str(path), family)
    assert found == {"spearman": pytest.approx(1), "found": 3, "pairs": 4, "coverage": 0.75}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("man king 5\nman 3\n", "'man 3' in line 2"),
        ("man king high\n", "'man king high' in line 1"),
        ("man king 5 6\n", "in line 1"),
        ("man elephant 5\n", "know 0 of its 1 pairs"),
    ],
)
def test_a_broken_file_of_pairs_is_said_with_its_line(tmp_path, family, content, said):
    path = tmp_path / "pairs.txt"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=said) as error:
        embeddings.word_pairs(str(path), family)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- files


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), min_size=1, max_size=9, unique=True))
def test_vectors_come_back_as_they_were(words):
    import tempfile

    vectors = Vectors(words, random(len(words), 3) * 1e-3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.txt"
        embeddings.save_word2vec(path, vectors)
        again = embeddings.load_word2vec(path)
        lines = path.read_text("utf-8").split("\n")
    assert again.words == words and np.array_equal(again.table, vectors.table)
    assert lines[0] == f"{len(words)} 3" and lines[-1] == "" and len(lines) == len(words) + 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a 1 2\n", 1),
        ("2 2\na 1 2\n", 2),
        ("1 2\na 1 2\nb 1 2\n", 3),
        ("1 2\na 1 x\n", 2),
        ("1 3\na 1 2\n", 2),
        ("99999999999 300\na 1\n", 1),
    ],
)
def test_a_file_in_another_format_is_said_with_its_line(tmp_path, content, line):
    path = tmp_path / "vectors.txt"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=rf"\(line {line}\)"):
        embeddings.load_word2vec(path)


def test_words_with_spaces_cannot_be_saved(tmp_path):
    with pytest.raises(InputError, match="'new york' holds white space"):
        embeddings.save_word2vec(tmp_path / "v.txt", Vectors(["new york"], random(1, 2)))


# ---------------------------------------------------------------- notebook 01


def run(*arguments, runs, ok=True):
    words = [sys.executable, "-m", "helpers", "run", "01", *map(str, arguments)]
    environment = os.environ | {"HELPERS_RUNS": str(runs)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    return done


@pytest.fixture
def small(tmp_path):
    """A corpus of two topics, and options that make the notebook small."""
    lines = [" ".join(document) for document in two_topics(150)]
    (tmp_path / "my.txt").write_text("\n".join(lines), "utf-8")
    (tmp_path / "my.csv").write_text("text\n" + "\n".join(lines[:12]) + "\n<script>alert(1)</script> a1\n", "utf-8")
    return ["-p", "CORPUS", tmp_path / "my.txt", "-p", "TEXTS", tmp_path / "my.csv", "-p", "DIMENSIONS", 8,
            "-p", "EPOCHS", 1, "-p", "MIN_COUNT", 2, "--name", "small"]  # fmt: skip


@pytest.mark.slow
def test_01_runs_on_other_texts_with_judgements(small, tmp_path):
    (tmp_path / "pairs.txt").write_text("a1 a2 9\na1 b2 1\na3 b3 2\n", "utf-8")
    (tmp_path / "stsb.csv").write_text("a1 a2,a2 a1,5\na1 a3,b1,0\nb1 b2,b2,4\n", "utf-8")
    judged = ["-p", "WORD_PAIRS", tmp_path / "pairs.txt", "-p", "STSB", tmp_path / "stsb.csv"]
    run(*small, *judged, runs=tmp_path / "runs")
    folder = tmp_path / "runs" / "01_embeddings_and_similarity" / "small"
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))["metrics"]
    assert {"stsb_spearman", "minilm_stsb_spearman", "word_pairs_spearman", "vocabulary"} <= set(metrics)
    assert "probe_hits" not in metrics and metrics["vocabulary"] == 17
    assert embeddings.load_word2vec(folder / "vectors.txt").table.shape == (17, 8)
    report = (folder / "report.html").read_text("utf-8")
    assert "<script>alert(1)" not in report and "widget-view" not in report


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["jieba", "character"])
def test_01_reads_chinese(tmp_path, unit):
    given = ["-p", "CORPUS", "news_zh", "-p", "TEXTS", "news_zh", "-p", "UNIT", unit, "-p", "EPOCHS", 2]
    run(*given, "--name", unit, runs=tmp_path)
    folder = tmp_path / "01_embeddings_and_similarity" / unit
    words = embeddings.load_word2vec(folder / "vectors.txt").words
    assert (max(map(len, words[:200])) > 1) == (unit == "jieba") or unit == "character"
    assert "Glyph" not in (folder / "report.html").read_text("utf-8")
    assert pd.Series(words).str.contains("[\u4e00-\u9fff]").mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("CORPUS", "", "empty file"),
        ("CORPUS", "word word word word word word", "two are needed"),
        ("WORD_PAIRS", "a1 a2 9\na1 b2\n", "'a1 b2' in line 2"),
    ],
)
def test_01_says_what_is_wrong_in_one_sentence(small, tmp_path, name, content, said):
    bad = tmp_path / ("my.txt" if name == "CORPUS" else "bad.txt")
    bad.write_text(content, "utf-8")
    given = [] if name == "CORPUS" else ["-p", name, bad]
    done = run(*small, *given, runs=tmp_path / "runs", ok=False)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
