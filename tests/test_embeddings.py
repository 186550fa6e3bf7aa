"""Vectors: training against the formula, pairs judged by people, files; and notebook 01."""

import io

import numpy as np
import pandas as pd
import pytest
from conftest import command, functions_of, record
from sklearn.metrics.pairwise import cosine_similarity

from helpers import InputError, embeddings, plots, tables, training
from helpers.embeddings import Vectors

TOOLS = {"np": np, "pd": pd, "io": io, "tables": tables, "cosine_similarity": cosine_similarity, "plots": plots}
LESSON = functions_of("01", **TOOLS, InputError=InputError, embeddings=embeddings, best="SIF")


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_the_nearest_words_leave_out_the_question_and_an_unknown_word_is_told():
    table = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [0.1, 1, 1]]
    family = Vectors(["man", "king", "woman", "queen", "lady"], np.array(table, "float32"))
    assert LESSON.neighbours(family, "queen", 2) == ["lady", "woman"]
    man, king, woman = (family[word] for word in ("man", "king", "woman"))
    assert LESSON.nearest_words(family, king - man + woman, 9, ["man", "king", "woman"]) == ["queen", "lady"]
    with pytest.raises(InputError, match=r"'quen' is none of the 5 words with a vector: did you mean 'queen'\?"):
        family["quen"]


def test_words_are_counted_and_numbered_by_frequency():
    corpus = embeddings.count_words([["b", "a", "b"], [], ["rare", "a", "b"]], min_count=2)
    assert corpus.words == ["b", "a"] and corpus.counts.tolist() == [3, 2] and corpus.tokens == 6
    assert corpus.ids.tolist() == [1, 2, 1, 0, 0, 2, 1, 0]
    assert len(embeddings.count_words([list("aabbcc")], 1, most=2).words) == 2
    for documents in ([], [["one"] * 50], [["a", "b", "c"]]):
        with pytest.raises(InputError, match="two are needed: give more text, or lower MIN_COUNT"):
            embeddings.count_words(documents)


def test_negatives_are_drawn_by_counts_to_the_power_of_three_quarters():
    counts = np.array([8000, 1900, 100])
    drawn = np.bincount(embeddings.noise_table(counts, 100_000)) / 100_000
    assert drawn == pytest.approx(counts**0.75 / (counts**0.75).sum(), abs=1e-4)


def test_matrix_products_move_vectors_against_the_gradient_of_the_loss():
    tf = training.import_tensorflow()
    u, v, n = (tf.Variable(random(*shape, seed=i)) for i, shape in enumerate([(2, 6, 5), (2, 6, 5), (6, 4, 5)]))
    near = (np.random.default_rng(3).random((2, 6, 6)) < 0.4).astype("float32")
    with tf.GradientTape() as tape:  # each pair has three negatives, each of four random words weighs 3 / 4
        true = tf.math.log_sigmoid(tf.einsum("biw,bjw->bij", u, v)) * near
        false = tf.math.log_sigmoid(-tf.einsum("biw,isw->bis", u, n)) * near.sum(2, keepdims=True) * 3 / 4
        gain = tf.reduce_sum(true) + tf.reduce_sum(false)
    moves = embeddings.skipgram_gradients(u, v, n, near, 3)
    assert all(np.allclose(*pair, atol=1e-4) for pair in zip(moves, tape.gradient(gain, [u, v, n]), strict=True))


def test_training_separates_topics_and_repeats_itself():
    rng = np.random.default_rng(0)
    topics = [[f"a{i}" for i in range(8)], [f"b{i}" for i in range(8)]]
    corpus = embeddings.count_words([["the", *rng.choice(topics[i % 2], 12), "the"] for i in range(600)])
    vectors, again = (embeddings.train_skipgram(corpus, 16, epochs=4, seed=1) for _ in range(2))
    assert all(near[0] == word[0] for word in corpus.words[1:] for near in LESSON.neighbours(vectors, word, 3))
    assert vectors.table.shape == (17, 16) and np.allclose(vectors.table, again.table, atol=1e-4)
    tiny = embeddings.train_skipgram(embeddings.count_words([["a", "b"]] * 6), 4, window=20, negatives=50, epochs=3)
    assert np.isfinite(tiny.table).all()


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("# a comment\nQueen\tlady\t9.5\nman king 6\n\n", [["Queen", "lady", 9.5], ["man", "king", 6.0]]),
        ('"a\nb, c",NA,5.0\nd\u2028e,#f,2\n', [["a\nb, c", "NA", 5.0], ["d\u2028e", "#f", 2.0]]),
        ("man king 5\nman king high\nman 3\n", "Row 2 of"),
        ("man king 5\n", "not text, text, number: give two rows or more"),
        ('a,"b,1\n' + "a,b,1\n" * 9, "no readable CSV"),
    ],
)
def test_pairs_of_words_and_of_sentences_are_read_or_refused(tmp_path, content, rows):
    path = tmp_path / "pairs.txt"
    path.write_text(content, "utf-8")
    if isinstance(rows, list):
        assert LESSON.read_scored_pairs(str(path)).to_numpy().tolist() == rows
    else:
        with pytest.raises(InputError, match=rows):
            LESSON.read_scored_pairs(str(path))


def test_vectors_come_back_as_they_were(tmp_path):
    words, path = ["nan", "3", '"', "#", "x,y", "don't", "东"], tmp_path / "vectors.txt"
    vectors = Vectors(words, random(7, 3) * np.float32(1e-3))
    LESSON.save_word2vec(path, vectors)
    again = LESSON.load_word2vec(path)
    assert path.read_text("utf-8").startswith("7 3\nnan ") and again.words == words
    assert np.array_equal(again.table, vectors.table)


@pytest.mark.slow
def test_01_runs_on_chinese_texts_with_judgements(tmp_path, runs_folder):
    (tmp_path / "pairs.txt").write_text("经济 市场 9\n经济 足球 1\n市场 比赛 2\n", "utf-8")
    (tmp_path / "stsb.csv").write_text("股市上涨,股市下跌,3\n股市上涨,球队获胜,0\n球队获胜,比赛胜利,4\n", "utf-8")
    judged = {"WORD_PAIRS": tmp_path / "pairs.txt", "STSB": tmp_path / "stsb.csv"}
    command("run", "01", "--name", "zh", CORPUS="news_zh", TEXTS="news_zh", EPOCHS=1, MIN_COUNT=2, **judged)
    folder = runs_folder / "01_embeddings_and_similarity" / "zh"
    metrics = record(folder)["metrics"]
    assert {"stsb_spearman", "word_pairs_spearman", "vocabulary"} <= set(metrics) and "probe_hits" not in metrics
    words = LESSON.load_word2vec(folder / "vectors.txt").words
    assert max(map(len, words[:200])) > 1 and sum("\u4e00" <= w[0] <= "\u9fff" for w in words) > 0.8 * len(words)
    assert "Glyph" not in (folder / "report.html").read_text("utf-8")
