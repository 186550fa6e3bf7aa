"""What an answer of a network rests on: numbers for its words, computed at its word vectors; plain arrays in and out.

Taught in ``09_interpretability``. A text is a list of words; n texts have ids (n, L) with 0 as padding on the right,
and ``owners`` (n, L): which word a piece belongs to, -1 where it is none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import pretrained, training
from helpers.text import tokenize

if TYPE_CHECKING:
    import keras

    from helpers.weights import Tokenizer

Words = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Reader:
    """A trained network, opened at its word vectors."""

    split: Callable[[Words], tuple[np.ndarray, np.ndarray]]  # n texts to ids and owners
    table: np.ndarray  # the word vectors (vocabulary, width)
    blank: int  # the id that stands for nothing: [MASK], or an LSTM's unknown token
    # vectors (n, L, width) and ids to logits (n, classes) with mean 0; their softmax is the answer
    logits: Callable[[Any, Any], Any]
    # vectors, ids and classes (n,) to the logits of those classes (n,) and the gradients (n, L, width)
    slopes: Callable[[Any, Any, Any], tuple[Any, Any]]
    # ids to the states (layers + 1, n, L, width), what the head says of each (layers + 1, n, classes), and
    # attention (layers, n, heads, L, L); None for an LSTM
    trace: Callable[[Any], tuple[Any, Any, Any]] | None = None

    def __call__(self, texts: Words) -> np.ndarray:
        """Returns the probabilities (n, classes) of n texts."""
        from scipy.special import softmax

        if not len(texts):
            return np.zeros((0, self.logits(self.table[None, :1], np.zeros((1, 1), "int32")).shape[1]))
        ids = self.split(texts)[0]
        return softmax(training.by_length(lambda some: self.logits(self.table[some], some), ids, 64), axis=1)


def _opened(forward: Callable[[Any, Any], Any], width: int) -> tuple[Any, Any]:
    """Compiles a network's ``logits`` and ``slopes``."""
    tf = training.import_tensorflow()
    shapes = [tf.TensorSpec((None, None, width)), tf.TensorSpec((None, None), tf.int32)]

    @tf.function(input_signature=shapes)
    def logits(vectors: Any, ids: Any) -> Any:
        found = forward(vectors, ids)
        return found - tf.reduce_mean(found, axis=1, keepdims=True)

    @tf.function(input_signature=[*shapes, tf.TensorSpec((None,), tf.int32)])
    def slopes(vectors: Any, ids: Any, classes: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            chosen = tf.gather(logits(vectors, ids), classes, axis=1, batch_dims=1)
        return chosen, tape.gradient(chosen, vectors)

    return logits, slopes


def _ids(pieces: list[list[list[int]]], length: int, first: list[int], last: list[int]) -> Any:
    """Ids and owners of texts whose words have these ids: cut to ``length``, special ids around them."""
    room, ids, owners = length - len(first) - len(last), [], []
    for words in pieces:
        flat = [(i, number) for number, word in enumerate(words) for i in word][:room]
        ids.append([*first, *(i for i, _ in flat), *last])
        owners.append([0] * len(first) + [number + 1 for _, number in flat])
    longest = max(map(len, ids))
    return training.pad(ids, longest), training.pad(owners, longest) - 1


def of_bert(model: keras.Model, words: Tokenizer, length: int) -> Reader:
    """Opens a fine-tuned BERT of :func:`helpers.pretrained.classifier`, which later changes of its weights change too.

    The gradients are those of the word vectors, before positions are added.
    """
    tf, bone = training.import_tensorflow(), model.backbone
    place = {piece: i for i, piece in enumerate(words.pieces)}

    def split(texts: Words) -> tuple[np.ndarray, np.ndarray]:
        known = {word: [place.get(p, place["[UNK]"]) for p in words.split(word)] for t in texts for word in t}
        return _ids([[known[word] for word in t] for t in texts], length, [place["[CLS]"]], [place["[SEP]"]])

    def start(vectors: Any, ids: Any) -> Any:
        rest = bone.position_embedding(vectors), bone.segment_embedding(tf.zeros_like(ids))
        return bone.embeddings_layer_norm(bone.embeddings_add((vectors, *rest)))

    def head(states: Any, ids: Any) -> Any:
        layer = model.output_dense
        return tf.matmul(pretrained.read_state(model, states, ids != 0), layer.kernel) + layer.bias

    def forward(vectors: Any, ids: Any) -> Any:
        x = start(vectors, ids)
        for layer in bone.transformer_layers:
            x = layer(x, padding_mask=ids != 0, training=False)
        return head(x, ids)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def trace(ids: Any) -> Any:
        states, attention = [start(bone.token_embedding(ids), ids)], []
        for layer in bone.transformer_layers:
            x, looks = layer(states[-1], padding_mask=ids != 0, training=False, return_attention_scores=True)
            states.append(x)
            attention.append(looks)
        return tf.stack(states), tf.stack([head(x, ids) for x in states]), tf.stack(attention)

    table = bone.token_embedding.get_weights()[0]
    return Reader(split, table, place["[MASK]"], *_opened(forward, table.shape[1]), trace)


def of_lstm(model: keras.Model, vocabulary: Sequence[str], unit: str, length: int) -> Reader:
    """Opens an LSTM of 03 or 06: an embedding, recurrent and pooling layers, a softmax; see :func:`of_bert`."""
    training.import_tensorflow()
    from keras import layers, ops

    place = {token: i for i, token in enumerate(vocabulary)}

    def split(texts: Words) -> tuple[np.ndarray, np.ndarray]:
        def tokens(word: str, whole: bool) -> list[int]:  # punctuation counts where there is nothing else
            return [place.get(t, 1) for t in tokenize(word, unit)] if whole or any(map(str.isalnum, word)) else []

        none = [not any(map(str.isalnum, "".join(words))) for words in texts]
        return _ids([[tokens(w, n) for w in words] for words, n in zip(texts, none, strict=True)], length, [], [])

    def forward(x: Any, ids: Any) -> Any:
        mask = ops.not_equal(ids, 0)
        for layer in model.layers[1:-1]:
            reads = isinstance(layer, (layers.RNN, layers.Bidirectional, layers.GlobalAveragePooling1D))
            x = layer(x, mask=mask) if reads else layer(x)
        return ops.matmul(x, model.layers[-1].kernel) + model.layers[-1].bias

    table = model.layers[0].get_weights()[0]
    return Reader(split, table, 1, *_opened(forward, table.shape[1]))


def gradients(reader: Reader, ids: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns two arrays (n, L): gradient times word vector, summed over the vector, and the gradient's length.

    The first is the piece's share in the logit if that were a straight line; the second has no sign.
    """
    products, sizes = np.zeros(ids.shape, "float32"), np.zeros(ids.shape, "float32")
    for rows, some in training.sorted_batches(ids, 64):
        vectors = reader.table[some]
        slopes = np.asarray(reader.slopes(vectors, some, classes[rows].astype("int32"))[1])
        products[rows, : some.shape[1]] = (slopes * vectors).sum(axis=2)
        sizes[rows, : some.shape[1]] = np.linalg.norm(slopes, axis=2)
    return products, sizes


def integrated(
    reader: Reader, ids: np.ndarray, owners: np.ndarray, classes: np.ndarray, steps: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Returns integrated gradients (n, L) of the logits of ``classes``, and what they must add up to (n,).

    The path goes from the same text with every word blank; Gauss-Legendre with ``steps`` points (Sundararajan et al.
    2017, and captum's ``gausslegendre``). The second array is the logit minus that of the blank text.
    """
    points, shares = np.polynomial.legendre.leggauss(steps)
    blank = np.where(owners >= 0, reader.blank, ids)
    found, gap = np.zeros(ids.shape, "float32"), np.zeros(len(ids), "float32")
    for rows, some in training.sorted_batches(ids, 64):
        c, longest = classes[rows].astype("int32"), some.shape[1]
        start = reader.table[blank[rows, :longest]]
        way = reader.table[some] - start
        total = sum(
            share / 2 * np.asarray(reader.slopes(start + np.float32((point + 1) / 2) * way, some, c)[1])
            for point, share in zip(points, shares, strict=True)
        )
        found[rows, :longest] = (total * way).sum(axis=2)
        ends = [np.asarray(reader.logits(v, some))[np.arange(len(c)), c] for v in (start + way, start)]
        gap[rows] = ends[0] - ends[1]
    return found, gap


def rollout(attention: np.ndarray, real: np.ndarray | None = None) -> np.ndarray:
    """Returns how much of each piece reaches what the head reads (n, L) by attention alone (Abnar and Zuidema 2020).

    Heads (layers, n, heads, L, L) are averaged, each layer mixes half of the old state in, and layers multiply. The
    head reads the first state, or the mean of those where ``real`` (n, L).

    Examples:
        >>> rollout(np.array([[[[[0.0, 1.0], [0.0, 1.0]]]]])).tolist()
        [[0.5, 0.5]]
    """
    looks = np.asarray(attention).mean(axis=2)
    flow = np.eye(looks.shape[-1])[None]
    for layer in looks:
        flow = (layer + np.eye(layer.shape[-1])) / 2 @ flow
    return flow[:, 0] if real is None else (flow * real[:, :, None]).sum(axis=1) / real.sum(axis=1, keepdims=True)


def to_words(scores: np.ndarray, owners: np.ndarray, texts: Words) -> list[np.ndarray]:
    """Returns the sums of the pieces' scores (n, L) by word, for each text; 0 for words that were cut off.

    Examples:
        >>> to_words(np.array([[9.0, 1.0, 2.0, 4.0]]), np.array([[-1, 0, 0, 1]]), [["goals", "win", "late"]])
        [array([3., 4., 0.])]
    """
    rows = zip(scores, owners, texts, strict=True)
    return [np.bincount(own[own >= 0], score[own >= 0], minlength=len(words)) for score, own, words in rows]
