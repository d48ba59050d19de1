"""The methods of onnxsim that `benchmarks/compression_onnxsim.py` runs: quantizers and structured pruning."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx

Feeds = list[dict[str, Any]] | None
Method = Callable[[onnx.ModelProto, Feeds], onnx.ModelProto]

_RANGES = ("minmax", "percentile", "entropy", "mse", "auto")
_FULL = ("minmax", "percentile", "mse")
_PRESETS = ("A8W8", "U8S8_AAWS", "INT8_CNN_ACCURATE", "INT8_TRANSFORMER_ACCURATE")


def _static(model: onnx.ModelProto, feeds: Feeds, method: str = "minmax", **options: Any) -> onnx.ModelProto:
    import onnxsim

    found: onnx.ModelProto = onnxsim.quantize_static(model, feeds, method=method, **options)
    return found


def _after_static(name: str) -> Method:
    """A method that improves what `quantize_static` wrote, by its name in onnxsim."""

    def method(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
        import onnxsim

        improved: onnx.ModelProto = getattr(onnxsim, name)(model, _static(model, feeds, "mse"), feeds)
        return improved

    return method


def _before_static(name: str, *, data: bool = True) -> Method:
    """A method that makes a float model easier to quantize, by its name in onnxsim."""

    def method(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
        import onnxsim

        change = getattr(onnxsim, name)
        return _static(change(model, feeds) if data else change(model), feeds, "mse")

    return method


def _rounded(name: str) -> Method:
    """A rounding of the weights of its quantizer of whole graphs."""

    def method(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
        from onnxsim import full_qdq, quark_weight_rounding

        start = full_qdq.quantize_full_qdq(model, feeds, method="mse")
        rounded: onnx.ModelProto = getattr(quark_weight_rounding, name)(model, start, feeds)[0]
        return rounded

    return method


def _preset(name: str) -> Method:
    def method(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
        from onnxsim.quark_compat import ModelQuantizer, QConfig

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            onnx.save(model, source)
            ModelQuantizer(QConfig.get_default_config(name)).quantize_model(str(source), str(target), feeds)
            return onnx.load(target)

    return method


def _trained(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    import onnxsim

    start = _static(model, feeds, "mse")
    found = onnxsim.apply_qat_all_blocks(
        model, start, calibration_data=feeds, num_iterations=100, learn_activation_scales=True
    )
    trained: onnx.ModelProto = found[0] if isinstance(found, tuple) else found
    return trained


def _picked(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    import onnxsim

    picked: onnx.ModelProto = onnxsim.pick_calibration(model, feeds).model
    return picked


def _plain(name: str, *, data: bool = False, **options: Any) -> Method:
    """A method that takes the model, and perhaps samples, by its name in onnxsim."""

    def method(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
        import onnxsim

        change = getattr(onnxsim, name)
        found: onnx.ModelProto = (
            change(model, calibration_data=feeds, **options) if data else change(model, **options)
        )
        return found

    return method


QUANTIZERS: dict[str, Method] = {
    **{f"static {r}": partial(_static, method=r) for r in _RANGES},
    **{f"static full {r}": partial(_static, method=r, full_graph=True) for r in _FULL},
    "static picked": _picked,
    "static + correct_bias": _after_static("correct_bias"),
    "static + adaquant": _after_static("apply_adaquant"),
    "static + norm_tweaking": _after_static("apply_norm_tweaking"),
    "static + qat": _trained,
    "cross_layer_equalize + static": _before_static("cross_layer_equalize", data=False),
    "smoothquant + static": _before_static("apply_smoothquant"),
    "fptq + static": _before_static("apply_fptq"),
    "outlier_suppression + static": _before_static("apply_outlier_suppression"),
    "outlier_suppression_plus + static": _before_static("apply_outlier_suppression_plus"),
    "full_qdq + adaround": _rounded("adaround_int8"),
    "full_qdq + gptq": _rounded("gptq_int8"),
    **{f"preset {p}": _preset(p) for p in _PRESETS},
    "qoperator": _plain("quantize_qoperator", data=True),
    "auto": _plain("quantize_auto", data=True),
    "dynamic": _plain("quantize_dynamic"),
    "dynamic fused": _plain("quantize_dynamic_matmul_integer_to_float"),
    "zeroquant": _plain("apply_zeroquant"),
}
"""Those that give int8 weights and 8-bit activations. Weight-only ones, and those that only simulate
(`apply_easyquant`, `apply_attention_quantization`, `apply_ptq4vit_quantization`), are not comparable."""

PRUNERS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "structured": ("apply_structured_pruning", False, {}),
    "structured cpp": ("apply_structured_pruning_cpp", False, {}),
    "structured global": ("apply_structured_pruning", False, {"global_sparsity": True}),
    "structured wanda": ("apply_structured_wanda_pruning", True, {}),
    "structured wanda global": ("apply_structured_wanda_pruning", True, {"global_sparsity": True}),
    "heads": ("apply_attention_head_pruning", False, {}),
    "blocks": ("apply_transformer_block_pruning", True, {}),
}
"""Name in onnxsim, whether it takes calibration samples, and options."""


def find_method(text: str) -> Method:
    """The method called `text`: a quantizer, or `prune NAME SPARSITY`."""
    if not text.startswith("prune "):
        return QUANTIZERS[text]
    name, _, sparsity = text.removeprefix("prune ").rpartition(" ")
    function, data, options = PRUNERS[name]
    return _plain(function, data=data, sparsity=float(sparsity), **options)
