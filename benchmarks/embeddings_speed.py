"""Word vectors against gensim: words a second, agreement of neighbours, WordSim.

gensim is no dependency of this project: name a Python that has it, such as that of a separate environment.

    python benchmarks/embeddings_speed.py --gensim /path/to/python [--pairs EN-WS-353-ALL.txt --ptb ptb.train.txt]

Both read the same tokens in the same order, with the same settings, two workers; the runs take turns. The rate is that
of training alone. Agreement is the mean share of common words among the ten nearest, over all words.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics.pairwise import paired_cosine_distances
from sklearn.neighbors import NearestNeighbors

from helpers import corpus, embeddings, text, training

EPOCHS, WIDTH = 5, 100
GENSIM = """
import sys, time
from gensim.models import Word2Vec
source, seed, out, epochs, width = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
lines = [line.split() for line in open(source, encoding="utf-8")]
model = Word2Vec(vector_size=width, window=5, negative=5, sg=1, min_count=5, sample=1e-3, workers=2, seed=seed)
model.build_vocab(lines)
clock, cpu = time.perf_counter(), time.process_time()
model.train(lines, total_examples=model.corpus_count, epochs=epochs)
print(time.perf_counter() - clock, time.process_time() - cpu)
model.wv.save_word2vec_format(out)
"""
READ = "import sys, gensim; print(len(gensim.models.KeyedVectors.load_word2vec_format(sys.argv[1])))"


def theirs(python, documents, seed, folder):
    """gensim's vectors, and wall and processor seconds of its training."""
    source, out = folder / "corpus.txt", folder / f"gensim{seed}.txt"
    source.write_text("".join(" ".join(document) + "\n" for document in documents), "utf-8")
    command = [python, "-c", GENSIM, source, seed, out, EPOCHS, WIDTH]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    table = pd.read_csv(
        out, sep=" ", skiprows=1, header=None, index_col=0, quoting=3, na_filter=False, encoding_errors="replace"
    )
    return embeddings.Vectors(list(table.index), table.to_numpy("float32")), tuple(map(float, done.stdout.split()))


def ours(documents, seed):
    """Our vectors, and wall and processor seconds of the training."""
    corpus = embeddings.count_words(documents)
    training.import_tensorflow()
    clock, cpu = time.perf_counter(), time.process_time()
    vectors = embeddings.train_skipgram(corpus, WIDTH, epochs=EPOCHS, seed=seed)
    return vectors, (time.perf_counter() - clock, time.process_time() - cpu)


def agreement(a, b):
    """Mean share of common words among the ten nearest, over all words of both."""
    words = [word for word in a.words if word in b]
    tables = [np.array([model[word] for word in words]) for model in (a, b)]
    tops = [NearestNeighbors(metric="cosine").fit(t).kneighbors(t, 11, return_distance=False) for t in tables]
    pairs = zip(*tops, strict=True)
    return np.mean([len((set(x) & set(y)) - {i}) / 10 for i, (x, y) in enumerate(pairs)])


def rate(name, words, seconds):
    """Prints a rate."""
    wall, cpu = (EPOCHS * words / part for part in seconds)
    print(f"  {name}: {wall:,.0f} words/s by the clock, {2 * cpu:,.0f} by two processors")


def compare(python, documents, folder):
    """Speed and agreement on one corpus."""
    words = sum(map(len, documents))
    first, first_seconds = theirs(python, documents, 1, folder)
    mine, seconds = ours(documents, 1)
    second, second_seconds = theirs(python, documents, 2, folder)
    their_seconds = tuple(np.mean([first_seconds, second_seconds], axis=0))
    rate("gensim, mean of two", words, their_seconds)
    rate("ours", words, seconds)
    print(
        f"  ratio {their_seconds[0] / seconds[0]:.2f} by the clock, {their_seconds[1] / seconds[1]:.2f} by processors"
    )
    print(
        f"  agreement: gensim with gensim {agreement(first, second):.3f}, ours with gensim {agreement(mine, first):.3f}"
    )
    with (folder / "ours.txt").open("w", encoding="utf-8") as file:
        print(*mine.table.shape, file=file)
        pd.DataFrame(mine.table, mine.words).to_csv(file, sep=" ", header=False, quoting=3)
    read = subprocess.run([python, "-c", READ, folder / "ours.txt"], capture_output=True, text=True, check=True)
    print(f"  gensim reads {read.stdout.strip()} vectors of our file")


def spearman(pairs, vectors):
    """Rank correlation of people's scores with the cosines of the pairs that the vectors know."""
    known = pairs[[a in vectors and b in vectors for a, b in zip(pairs["first"], pairs["second"], strict=True)]]
    first, second = (np.array([vectors[word] for word in known[column]]) for column in ("first", "second"))
    return stats.spearmanr(known["score"], -paired_cosine_distances(first, second)).statistic, len(known)


def judge(python, path, documents, folder):
    """WordSim, means of three seeds."""
    pairs = pd.read_csv(path, sep=r"\s+", comment="#", header=None, names=["first", "second", "score"])
    pairs[["first", "second"]] = pairs[["first", "second"]].map(str.lower)
    scores = {"gensim": [], "ours": []}
    for seed in (1, 2, 3):
        scores["gensim"].append(spearman(pairs, theirs(python, documents, seed, folder)[0])[0])
        score, found = spearman(pairs, ours(documents, seed)[0])
        scores["ours"].append(score)
    print(f"{Path(path).name}: {found} of {len(pairs)} pairs")
    for name, values in scores.items():
        print(f"  {name}: Spearman {np.mean(values):.3f}, seeds {', '.join(f'{v:.3f}' for v in values)}")


def main():
    """Prints all that the arguments allow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gensim", help="a Python with gensim")
    parser.add_argument("--pairs", help="a file of lines of word word score")
    parser.add_argument("--ptb", help="a text to learn from for --pairs, a sentence a line")
    options = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not options.gensim:
        print("To compare, install gensim into an environment of its own and name its Python: --gensim PYTHON")
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"python_docs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        compare(options.gensim, [text.tokenize(document) for document in corpus.python_docs()], Path(folder))
        if options.pairs and options.ptb:
            lines = Path(options.ptb).read_text("utf-8").splitlines()
            judge(options.gensim, options.pairs, [line.split() for line in lines], Path(folder))


if __name__ == "__main__":
    main()
