"""The seven networks that partitioning is measured on, with random weights from fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from optc.models.model import Model
from optc.models.source import open_source
from optc.models.zoo.bert import build_bert_encoder
from optc.models.zoo.gpt import GptSizes, build_gpt_decoder
from optc.passes.base import Context
from optc.passes.bind_shapes import BindShapes
from optc.passes.canonicalize.canonicalize import Canonicalize

TOKENS = 64
"""Of the transformers' inputs, a batch of one."""


def _zoo(name: str) -> Callable[[], Model]:
    return lambda: open_source(f"zoo:{name}").model


def _of(build: Callable[[], onnx.ModelProto]) -> Callable[[], Model]:
    return lambda: Model(build())


NETWORKS: dict[str, Callable[[], Model]] = {
    "resnet50": _zoo("resnet50-v1"),
    "mobilenet-v2": _zoo("mobilenet-v2"),
    "bert-encoder": _of(build_bert_encoder),
    "gpt-48x768": _of(lambda: build_gpt_decoder(GptSizes(48, 768, 12, vocabulary=8192, positions=256))),
    "inception": _zoo("inception"),
    "unet": _zoo("unet"),
    "squeezenet": _zoo("squeezenet1.1"),
}
"""Name: builder. SqueezeNet has ImageNet weights, the others random ones."""


def network(name: str) -> Model:
    """One of them, its shapes bound, canonical: what `optc partition` cuts."""
    model = NETWORKS[name]()
    free = [t for t in model.view.inputs if any(not isinstance(d, int) for d in t.shape)]
    if free:
        sizes = {t.name: [d if isinstance(d, int) else 1 for d in t.shape] for t in free}
        for t in free:
            if len(t.shape) == 2:  # [batch, sequence]
                sizes[t.name] = [1, TOKENS]
        texts = tuple(f"{n}={','.join(str(d) for d in dims)}" for n, dims in sizes.items())
        BindShapes(texts).run(model, Context())
    Canonicalize().run(model, Context())
    return model
