"""The other side of ``peers.py``: torch, transformers and sentence-transformers; run by a Python that has them."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

WARM, UNITS, RATE = 16, 64, 1e-4


def batches_of(folder, name):
    """The batches that ``peers.py`` wrote, as tensors."""
    found = np.load(folder / f"{name}.npz")
    pairs = [(found[f"x{i}"], found[f"y{i}"]) for i in range(len(found.files) // 2)]
    return [(torch.tensor(x.astype("int64")), torch.tensor(y.astype("int64"))) for x, y in pairs]


def trained(model, forward, batches, optimizer, bfloat16=False):
    """Loss of the first batch before training, and texts a second after ``WARM`` batches."""
    loss_of = torch.nn.CrossEntropyLoss()

    def run(some):
        start = time.perf_counter()
        for x, y in some:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = loss_of(forward(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start

    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        first = loss_of(forward(batches[0][0]), batches[0][1]).item()
    model.train()
    run(batches[:WARM])
    return first, sum(len(y) for _, y in batches) / run(batches)


def finetune(folder, weights, how):
    """transformers' BERT with a linear head on its pooled output, AdamW."""
    from transformers import BertModel

    head = torch.tensor(np.load(folder / "weights.npz")["head"])
    bert = BertModel.from_pretrained(weights, dtype=torch.float32)
    model = torch.nn.ModuleDict({"bert": bert, "head": torch.nn.Linear(*head.shape), "drop": torch.nn.Dropout(0.1)})
    with torch.no_grad():
        model["head"].weight.copy_(head.T)
        model["head"].bias.zero_()

    def forward(ids):
        state = model["bert"](input_ids=ids, attention_mask=(ids != 0).long()).pooler_output
        return model["head"](model["drop"](state))

    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01, foreach=True)
    return trained(model, forward, batches_of(folder, "finetune"), optimizer, how == "bfloat16")


def lstm(folder, weights, how):
    """A BiLSTM's last states of both directions, and a linear layer; packed, or cut to the batch's longest text."""
    known = {name: torch.tensor(array) for name, array in np.load(folder / "weights.npz").items()}
    table = torch.nn.Embedding(*known["table"].shape, padding_idx=0)
    both = torch.nn.LSTM(UNITS, UNITS, batch_first=True, bidirectional=True)
    out = torch.nn.Linear(*known["out"].shape)
    with torch.no_grad():
        table.weight.copy_(known["table"])
        for way, end in (("forward", ""), ("backward", "_reverse")):
            getattr(both, f"weight_ih_l0{end}").copy_(known[f"{way}_kernel"].T)
            getattr(both, f"weight_hh_l0{end}").copy_(known[f"{way}_recurrent"].T)
            getattr(both, f"bias_ih_l0{end}").zero_()
            getattr(both, f"bias_hh_l0{end}").zero_()
        out.weight.copy_(known["out"].T)
        out.bias.zero_()

    def forward(ids):
        vectors = table(ids)
        if how == "packed":
            sizes = (ids != 0).sum(1).clamp(min=1)
            vectors = torch.nn.utils.rnn.pack_padded_sequence(vectors, sizes, batch_first=True, enforce_sorted=False)
        _, (h, _) = both(vectors)
        return out(torch.cat([h[0], h[1]], dim=1))

    model = torch.nn.ModuleList([table, both, out])
    return trained(model, forward, batches_of(folder, "lstm"), torch.optim.Adam(model.parameters(), RATE))


def encode(folder, weights, how):
    """sentence-transformers' vectors of all texts, the mean of the states."""
    from sentence_transformers import SentenceTransformer, models

    words = models.Transformer(weights, max_seq_length=256)
    model = SentenceTransformer(modules=[words, models.Pooling(384, "mean")], device="cpu")
    texts = json.loads((folder / "texts.json").read_text())
    model.encode(texts[:200], batch_size=64)
    start = time.perf_counter()
    vectors = model.encode(texts, batch_size=64)
    rate = len(texts) / (time.perf_counter() - start)
    np.save(folder / "peer.npy", vectors)
    return 1.0, rate


if __name__ == "__main__":
    torch.set_num_threads(2)
    place, minilm, task, kind = sys.argv[1:5]
    print(json.dumps({"finetune": finetune, "lstm": lstm, "encode": encode}[task](Path(place), minilm, kind)))
