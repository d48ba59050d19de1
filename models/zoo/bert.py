"""The BERT encoder (Devlin et al. 2018, https://arxiv.org/abs/1810.04805) without its pooler."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from optc.models.zoo.builder import Array, GraphBuilder, Parameters, RandomParameters
from optc.models.zoo.transformer import (
    BATCH_SEQUENCE,
    attention,
    gelu,
    layer_norm,
    leading,
    linear,
    sequence_length,
)

DESCRIPTION = (
    "BERT encoder. Inputs 'input_ids', 'attention_mask' (1: look at, 0: padding), 'token_type_ids': "
    "int64 [batch,sequence]. Output 'last_hidden_state': float32 [batch,sequence,hidden]."
)
_PROJECTIONS = ("self.query", "self.key", "self.value", "output.dense")
_EPSILON = 1e-12


@dataclass(frozen=True)
class BertSizes:
    """Sizes of an encoder; by default those of MiniLM-L6."""

    layers: int = 6
    hidden: int = 384
    heads: int = 12
    inner: int = 1536
    vocabulary: int = 30522
    positions: int = 512


def build_bert_encoder(
    parameters: Parameters | None = None, sizes: BertSizes | None = None
) -> onnx.ModelProto:
    """Ids, mask, types: int64 [batch, sequence] -> `last_hidden_state`: float32 [batch, sequence, hidden]."""
    sizes = sizes or BertSizes()
    b = GraphBuilder("bert-encoder", parameters or RandomParameters())
    ids, mask, types = (
        b.input(name, BATCH_SEQUENCE, TensorProto.INT64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    x = _embeddings(b, ids, types, sizes)
    penalty = _mask_penalty(b, mask)
    for index in range(sizes.layers):
        x = _layer(b, x, f"encoder.layer.{index}", penalty, sizes)
    b.output(b.node("Identity", [x], "last_hidden_state"), (*BATCH_SEQUENCE, sizes.hidden))
    return b.model(DESCRIPTION)


def from_transformers(state: Mapping[str, Array]) -> dict[str, Array]:
    """Hugging Face's BertModel arrays as `build_bert_encoder` asks for them, without the pooler."""
    arrays = {}
    for name, array in state.items():
        module, _, kind = name.rpartition(".")
        if module.endswith("LayerNorm"):
            kind = {"weight": "gamma", "bias": "beta"}[kind]
        elif kind == "weight" and not module.endswith("embeddings"):
            kind, array = "kernel", array.T
        if not name.startswith("pooler") and kind != "position_ids":
            arrays[f"{module}.{kind}"] = array
    return arrays


def _embeddings(b: GraphBuilder, ids: str, types: str, sizes: BertSizes) -> str:
    def table(kind: str, rows: int) -> str:
        return b.parameter(f"embeddings.{kind}_embeddings.weight", rows, sizes.hidden)

    words = b.node("Gather", [table("word", sizes.vocabulary), ids], "embeddings.words", axis=0)
    kinds = b.node("Gather", [table("token_type", 2), types], "embeddings.types", axis=0)
    places = leading(
        b, table("position", sizes.positions), sequence_length(b, ids), [0], "embeddings.positions"
    )
    x = b.add(b.add(words, kinds, "embeddings.words_types"), places, "embeddings.sum")
    return layer_norm(b, x, "embeddings.LayerNorm", sizes.hidden, _EPSILON)


def _mask_penalty(b: GraphBuilder, mask: str) -> str:
    """0 where a token is looked at, a large negative number where it is padding: [batch, 1, 1, sequence]."""
    axes = b.constant("mask.axes", np.array([1, 2], np.int64))
    mask = b.node("Unsqueeze", [mask, axes], "mask.unsqueezed")
    mask = b.node("Cast", [mask], "mask.float", to=TensorProto.FLOAT)
    padding = b.node("Sub", [b.constant("mask.one", np.float32(1)), mask], "mask.padding")
    return b.node("Mul", [padding, b.constant("mask.minimum", np.float32(-1e4))], "mask.penalty")


def _layer(b: GraphBuilder, x: str, name: str, mask: str, sizes: BertSizes) -> str:
    """Attention and a two-layer network, each followed by its residual sum and LayerNormalization."""
    y = attention(b, x, f"{name}.attention", mask, sizes.hidden, sizes.heads, _PROJECTIONS)
    x = b.add(y, x, f"{name}.attention.output.sum")
    x = layer_norm(b, x, f"{name}.attention.output.LayerNorm", sizes.hidden, _EPSILON)
    y = linear(b, x, f"{name}.intermediate.dense", sizes.hidden, sizes.inner)
    y = linear(b, gelu(b, y, f"{name}.intermediate.gelu"), f"{name}.output.dense", sizes.inner, sizes.hidden)
    x = b.add(y, x, f"{name}.output.sum")
    return layer_norm(b, x, f"{name}.output.LayerNorm", sizes.hidden, _EPSILON)
