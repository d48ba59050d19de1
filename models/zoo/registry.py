"""The table of the zoo. Listing it imports no builder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.models.errors import InputError, MissingError

if TYPE_CHECKING:
    import onnx

_HERE = Path(__file__).parent
_OURS = "Apache-2.0"


@dataclass(frozen=True)
class ZooEntry:
    """One network: where it comes from, and the data that goes with it.

    `build` gives the model. `calibration` and `test` are `.npz` files keyed by input name, batch first, the
    test's labels under `label`; `metric` is what the labels are for (`top1`). None: there is no such data.
    """

    name: str
    description: str
    licence: str
    build: Callable[[], "onnx.ModelProto"]
    calibration: Path | None = None
    test: Path | None = None
    metric: str | None = None


def cache_folder() -> Path:
    """The folder that fetched networks are kept in."""
    from platformdirs import user_cache_path

    return user_cache_path("optc") / "zoo"


def zoo_entries() -> tuple[ZooEntry, ...]:
    """Every entry of the zoo; building one that was not fetched raises MissingError."""
    return (*_BUNDLED, *_BUILT, *(_fetched(*row) for row in _FETCHED))


def zoo_names() -> tuple[str, ...]:
    """The names that `zoo_entry` knows."""
    return tuple(entry.name for entry in zoo_entries())


def zoo_entry(name: str) -> ZooEntry:
    """The entry called `name`; InputError for an unknown name, MissingError for one not fetched yet."""
    for entry in zoo_entries():
        if entry.name == name:
            if any(name == row[0] for row in _FETCHED):
                _fetched_file(name)
            return entry
    raise InputError(f"zoo:{name}: no such network; the zoo has {', '.join(zoo_names())}")


def _load(path: Path) -> "onnx.ModelProto":
    import onnx

    return onnx.load(path)


def _call(module: str, function: str, *arguments: Any) -> "onnx.ModelProto":
    build: Callable[..., onnx.ModelProto] = getattr(import_module(f"optc.models.zoo.{module}"), function)
    return build(*arguments)


def _built(name: str, description: str, module: str, function: str, *arguments: Any) -> ZooEntry:
    text = f"{description}; random weights"
    return ZooEntry(name, text, _OURS, partial(_call, module, function, *arguments))


def _fetched(name: str, description: str, licence: str, metric: str | None) -> ZooEntry:
    def data(kind: str) -> Path | None:
        path = cache_folder() / f"{name}.{kind}.npz"
        return path if path.is_file() else None

    return ZooEntry(
        name, description, licence, partial(_load_fetched, name), data("calibration"), data("test"), metric
    )


def _fetched_file(name: str) -> Path:
    path = cache_folder() / f"{name}.onnx"
    if not path.is_file():
        raise MissingError(f"zoo:{name} is not fetched; run: python -m optc.models.zoo.fetch {name}")
    return path


def _load_fetched(name: str) -> "onnx.ModelProto":
    return _load(_fetched_file(name))


_BUNDLED = (
    ZooEntry(
        "fashion-resnet",
        "residual CNN for Fashion-MNIST, trained, with 1,000 calibration and 2,000 test images",
        f"{_OURS}; images MIT (Zalando SE)",
        partial(_load, _HERE / "fashion_resnet.onnx"),
        _HERE / "fashion_resnet_calibration.npz",
        _HERE / "fashion_resnet_test.npz",
        "top1",
    ),
)

_BUILT = (
    _built("resnet18-v1", "ResNet-18, as Gluon", "resnet", "build_resnet_v1", 18),
    _built("resnet34-v1", "ResNet-34, as Gluon", "resnet", "build_resnet_v1", 34),
    _built("resnet50-v1", "ResNet-50, as Gluon", "resnet", "build_resnet_v1", 50),
    _built("resnet18-v2", "ResNet-18, pre-activation, as Gluon", "resnet", "build_resnet_v2", 18),
    _built("resnet34-v2", "ResNet-34, pre-activation, as Gluon", "resnet", "build_resnet_v2", 34),
    _built("resnet50-v2", "ResNet-50, pre-activation, as Gluon", "resnet", "build_resnet_v2", 50),
    _built("resnet101-v2", "ResNet-101, pre-activation, as Gluon", "resnet", "build_resnet_v2", 101),
    _built("mobilenet-v2", "MobileNetV2", "mobilenet", "build_mobilenet_v2"),
    _built("inception", "GoogLeNet with BatchNormalization", "inception", "build_inception"),
    _built("unet", "U-Net of 32 base channels", "unet", "build_unet"),
    _built("bert-encoder", "BERT encoder of MiniLM-L6's sizes", "bert", "build_bert_encoder"),
    _built("gpt-decoder", "GPT-2-like causal decoder, small", "gpt", "build_gpt_decoder"),
)

_FETCHED = (  # name, description, licence, metric; `fetch` says which package each comes from
    ("squeezenet1.1", "SqueezeNet 1.1, ImageNet weights", "MIT", "top1"),
    (
        "efficientnet-lite0",
        "EfficientNet-Lite0, ImageNet weights",
        "Apache-2.0 (packager's statement)",
        "top1",
    ),
    ("minilm", "all-MiniLM-L6-v2 sentence encoder, float32", "MIT (package), Apache-2.0 (upstream)", None),
    ("minilm-int8", "all-MiniLM-L6-v2 with int8 weights", "Apache-2.0", None),
    ("mnist-cntk", "MNIST CNN made by CNTK", "Apache-2.0", None),
    ("mnist-tf", "zeros and ones of MNIST, CNN made by TensorFlow", "Apache-2.0", "top1"),
    ("season", "season from temperatures, 1-D CNN", "Apache-2.0", None),
    ("silero-vad", "voice activity detection, 16 kHz, LSTM", "MIT", None),
    (
        "espcn-quant",
        "super resolution, Brevitas Quant nodes; ONNX Runtime does not load it",
        "Apache-2.0",
        None,
    ),
)
