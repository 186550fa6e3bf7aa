"""A training's state, kept after each epoch, so that ``--resume`` goes on from the last whole one.

Equal bit for bit after a resume: the weights, the optimizer, the history so far, the best epoch and its weights, and
what early stopping counts. Not kept: random masks (dropout) and the order in which a classifier reads its rows, which
begins again as in its first epoch. So a resumed language model without dropout ends bit for bit as one that was never
interrupted, on the same processor and libraries; a resumed classifier, or a model with dropout, ends as one trained
with another seed does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np


class Checkpoint:
    """State on disk; Keras' own ``BackupAndRestore`` loses history and early stopping.

    Args:
        folder: where to keep it; None keeps nothing on disk.

    Attributes:
        state: what the last :meth:`keep` was told, empty before the first.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.state: dict[str, Any] = {}
        if folder and (folder / "state.json").exists():
            self.state = json.loads((folder / "state.json").read_text("utf-8"))

    def keep(self, model: keras.Model, epoch: int, best: bool, **state: Any) -> None:
        """Notes that ``epoch`` epochs are done; what is on disk is the state before or after it, whole."""
        from helpers.files import write_json

        self.state |= state | {"epoch": epoch}
        if not self._folder:
            return
        file = self._folder / f"{epoch}.weights.h5"
        model.save_weights(file)
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        self.state |= {"last": file.name} | ({"best": file.name} if best else {})
        write_json(self._folder / "state.json", self.state)
        for old in self._folder.glob("*.weights.h5"):
            if old.name not in (file.name, self.state.get("best")):
                old.unlink()

    def restore(self, model: keras.Model) -> list[np.ndarray] | None:
        """Puts the last epoch's state into a built model and its optimizer.

        Returns:
            The weights of the best epoch; None where there is none.
        """
        if "last" not in self.state:
            return None
        best = None
        if "best" in self.state:
            model.load_weights(self._folder / self.state["best"])
            best = model.get_weights()
        model.load_weights(self._folder / self.state["last"])
        return best
