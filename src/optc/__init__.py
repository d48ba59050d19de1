"""optc lowers what a neural network costs to run.

The public names load on first use, so that `import optc` stays fast.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optc.models.model import Model as Model
    from optc.passes.pipeline import Pipeline as Pipeline
    from optc.targets.artifact import load as load
    from optc.targets.compiler import compile as compile

__version__ = "0.1.0"

# ONNX Runtime's official builds send usage data to Microsoft and keep a device id in the cache folder unless
# told otherwise before they start; who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PUBLIC = {
    "Model": "optc.models.model",
    "Pipeline": "optc.passes.pipeline",
    "compile": "optc.targets.compiler",
    "load": "optc.targets.artifact",
}

__all__ = ["Model", "Pipeline", "compile", "load"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'optc' has no attribute '{name}'")
