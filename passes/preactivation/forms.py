"""Relu(scale * x + shift) without the multiplication: as bounds of x, and factors for the layers behind."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_LOST = 2.0**100
"""Where the shift is so many times the scale, `scale * x` is lost beside it: the channel is a constant."""


@dataclass(frozen=True, eq=False)
class Form:
    """`factor * min(max(x + addend, low), high) + offset`, one float64 a channel; bounds may be infinite."""

    addend: Doubles
    low: Doubles
    high: Doubles
    factor: Doubles
    offset: Doubles


@dataclass(frozen=True, eq=False)
class Channels:
    """`scale * x + shift`, through a Relu where `relu`; arrays are [c].

    `reach`: what |x| is expected to stay below in every channel. Constants far beyond would cost the codes of
    all other channels their precision. Constants of `x` are rounded to float32.
    """

    scale: Doubles
    shift: Doubles
    relu: bool
    reach: float

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Where it is a constant."""
        return np.asarray(np.abs(self.scale) * _LOST <= np.abs(self.shift))

    @property
    def constant(self) -> Doubles:
        """The constant."""
        return np.maximum(self.shift, 0) if self.relu else self.shift

    @property
    def threshold(self) -> Doubles:
        """The x at which `scale * x + shift` is 0; 0 for a constant."""
        exact = np.where(self.lost, 0.0, -self.shift / np.where(self.lost, 1.0, self.scale))
        return _narrow(exact + 0.0)  # no -0


def zero_form(channels: Channels) -> Form:
    """The form with offset 0: where the function is 0, so is what is left in place.

    For scale s and shift t: s > 0 is s * max(x + t/s, 0), s < 0 is s * min(x + t/s, 0), and s = 0 the
    constant max(t, 0), which stands in place as `reach`.
    """
    scale, lost, value = channels.scale, channels.lost, channels.constant
    fixed = lost & (value != 0)
    rising = np.where(lost, bool((~lost & (scale > 0)).any()), scale > 0)
    low = np.where(rising & channels.relu, 0.0, -np.inf)
    high = np.where(~rising & channels.relu, 0.0, np.inf)
    held = _narrow(np.full_like(scale, channels.reach or 1.0))
    return Form(
        -channels.threshold,
        np.where(fixed, held, low),
        np.where(fixed, held, high),
        np.where(lost, value / held, scale),
        np.zeros_like(scale),
    )


def offset_form(channels: Channels) -> Form:
    """The form with addend 0: s > 0 is s * max(x, -t/s) + t, s < 0 is s * min(x, -t/s) + t.

    Where such a bound would lie beyond `reach` and always hold, the channel takes the zero form.
    """
    scale, lost, bound = channels.scale, channels.lost, channels.threshold
    form = Form(
        np.zeros_like(scale),
        np.where(~lost & (scale > 0) & channels.relu, bound, -np.inf),
        np.where(~lost & (scale < 0) & channels.relu, bound, np.inf),
        np.where(lost, 0.0, scale),
        np.where(lost, channels.constant, -scale * bound),  # of the rounded bound, so that it gives exactly 0
    )
    shut = ~lost & channels.relu & (np.sign(scale) * bound > channels.reach)
    return _where(shut, zero_form(channels), form) if shut.any() else form


def _where(choice: NDArray[np.bool_], a: Form, b: Form) -> Form:
    return Form(*(np.where(choice, getattr(a, f.name), getattr(b, f.name)) for f in fields(Form)))


def stretch(channels: Channels, form: Form) -> float:
    """How many times `reach` the largest value is that a `form` without offset leaves of |x| < reach."""
    least, most = (np.clip(x + form.addend, form.low, form.high) for x in (-channels.reach, channels.reach))
    widest = np.maximum(np.abs(least), np.abs(most)).max(initial=0)
    return float(widest / channels.reach) if channels.reach else 1.0


def _narrow(values: Doubles) -> Doubles:
    return values.astype(np.float32).astype(np.float64)
