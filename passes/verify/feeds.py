"""What a model is run on when it is checked or scored: given arrays, samples of a file, or generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.data import LABEL, Batch, Member, Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session, check_feeds, check_files
from optc.passes.float_ends import as_given, encoded, with_float_ends
from optc.passes.verify.inputs import generate_runnable, input_tensors

SAMPLES = 8
"""How many samples of a file a check runs on."""


def fixed_batch(model: Model) -> int | None:
    """The batch size that the model's input shapes prescribe, or None where it is free."""
    sizes = [t.shape[0] for t in input_tensors(model) if t.shape]
    fixed = [s for s in sizes if isinstance(s, int) and s > 0]
    return fixed[0] if fixed else None


def sample_feeds(
    model: Model, samples: Samples, size: int, limit: int | None = None, extra: tuple[str, ...] = ()
) -> Iterator[tuple[Batch, int]]:
    """Batches of `samples` that fit `model`, each with the number of its samples.

    A fixed batch dimension is filled by repeating the last sample; `extra` names arrays that come along.
    Raises `InputError` where the samples do not fit the model's inputs; float32 fits codes of it.
    """
    model = as_given(model, samples.members)
    names = check_files(model, samples)
    fixed = fixed_batch(model)
    for batch in samples.batches([*names, *extra], fixed or size, limit):
        count = len(next(iter(batch.values())))
        yield {k: _fill(v, fixed) for k, v in batch.items()}, count


def _fill(array: NDArray[Any], size: int | None) -> NDArray[Any]:
    if size is None or len(array) == size:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def check_samples(model: Model, samples: Samples, what: str) -> None:
    """`InputError` where `samples` do not fit the inputs, or they or the labels hold NaN or infinity."""
    names = check_files(as_given(model, samples.members), samples, what)
    names += [LABEL] if LABEL in samples.members else []
    floats = [n for n in names if np.issubdtype(samples.members[n].dtype, np.floating)]
    first = 0
    for batch in samples.batches(floats, 64) if floats else ():
        for name, array in batch.items():
            bad = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
            if bad.size:
                path, which = samples.place(first + int(bad[0]))
                raise InputError(
                    f"{what} {path}: array '{name}' holds NaN or infinity in {which}; clean the data"
                )
        first += len(batch[floats[0]])


class Feeds:
    """What models are checked on, fitted to each model's input shapes.

    The arrays of `given`, else the first `samples`, else generated ones: in the ranges and shapes of
    `calibration` where there is some, the same for the same `seed`.
    """

    def __init__(
        self,
        given: Arrays | None = None,
        samples: Samples | None = None,
        calibration: Samples | None = None,
        seed: int = 0,
    ) -> None:
        self.arrays: list[Arrays] = []
        self._given, self._samples, self._calibration, self._seed = given, samples, calibration, seed
        self._key = ""

    @property
    def given(self) -> bool:
        """Whether a user gave the data, so that a failure is the user's to know."""
        return self._given is not None or self._samples is not None

    def fits(self, model: Model) -> bool:
        """Whether `arrays` were made for inputs of the same types and shapes as those of `model`."""
        return self._key == _input_types(model)

    def fit(self, model: Model, session: Session) -> None:
        """Make `arrays` for `model`; `session` tells sizes of free dimensions that run.

        What is float32 is coded where the model takes codes. Raises `InputError` where given data does not
        fit, or no inputs can be made.
        """
        if self._given is not None:
            members = {k: Member(v.dtype, v.shape) for k, v in self._given.items()}
            names = check_feeds(as_given(model, members), members, "the given inputs")
            arrays = [{n: self._given[n] for n in names}]
        elif self._samples is not None:
            arrays = [b for b, _ in sample_feeds(model, self._samples, SAMPLES, SAMPLES)]
        else:
            floats = with_float_ends(model)
            session = session if floats is model else Session(floats)
            arrays = [generate_runnable(floats, session, self._seed, self._calibration)]
        self.arrays = [encoded(model, feeds) for feeds in arrays]
        self._key = _input_types(model)

    def run(self, session: Session) -> list[Arrays]:
        """The outputs of every run."""
        return [session.run(feeds) for feeds in self.arrays]


def _input_types(model: Model) -> str:
    return str([(t.name, str(t.dtype), str(t.shape)) for t in input_tensors(model)])
