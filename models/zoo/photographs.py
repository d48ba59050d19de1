"""The 20 labelled ImageNet photographs that foolbox ships, as the networks of the zoo want them.

They are a sample to show that weights and preprocessing are right; one photograph is five points of accuracy.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from optc.models.errors import MissingError

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]
Normalize = Callable[[Array], Array]  # [H,W,3] RGB float32 in 0..255 -> [H,W,3]

CROPS = 4  # calibration crops of a photograph
TEST_CROPS = 10
_NAME = re.compile(r"imagenet_\d+_(\d+)\.jpg")
_BGR_MEAN = np.array([104.006, 116.669, 122.679], np.float32)


def normalize_squeezenet(rgb: Array) -> Array:
    """RGB to BGR, less the mean colour of ImageNet (Caffe's preprocessing)."""
    return rgb[..., ::-1] - _BGR_MEAN


def normalize_efficientnet(rgb: Array) -> Array:
    """(x - 127) / 128."""
    return (rgb - np.float32(127)) / np.float32(128)


def labelled_data(folder: Path, size: int, normalize: Normalize) -> dict[str, Array]:
    """`image` [20,3,size,size]: centres, 7/8 of the shorter side; `label` [20], torchvision's order."""
    images, labels = [], []
    for image, label in _photographs(folder):
        side = round(min(image.size) * 0.875)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        images.append(_pixels(image, (left, top, left + side, top + side), size, normalize))
        labels.append(label)
    return {"image": np.stack(images), "label": np.array(labels, np.int64)}


def calibration_data(folder: Path, size: int, normalize: Normalize, seed: int = 0) -> dict[str, Array]:
    """`image` [80,3,size,size]: squares at random places, some mirrored, 60 to 100% of the shorter side.

    They show the photographs that the test data shows too: there are no others.
    """
    rng = np.random.default_rng(seed)
    images = []
    for image, _ in _photographs(folder):
        for _ in range(CROPS):
            side = round(min(image.size) * rng.uniform(0.6, 1.0))
            left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
            crop = _pixels(image, (left, top, left + side, top + side), size, normalize)
            images.append(crop[:, :, ::-1] if rng.random() < 0.5 else crop)
    return {"image": np.stack(images)}


def random_crops(folder: Path, size: int, normalize: Normalize, seed: int = 0) -> Array:
    """[200,3,size,size]: ten squares of each photograph, at random places, 50 to 100% of the shorter side.

    What a benchmark compares models on; sides and places are drawn all at once, so that none is one of
    `calibration_data`.
    """
    images = list(_photographs(folder))
    drawn = np.random.default_rng(seed).uniform(size=(len(images), TEST_CROPS, 3))
    crops = []
    for (image, _), places in zip(images, drawn, strict=True):
        for share, x, y in places:
            side = round(min(image.size) * (0.5 + 0.5 * share))
            left, top = (int(at * (length - side + 1)) for at, length in zip((x, y), image.size, strict=True))
            crops.append(_pixels(image, (left, top, left + side, top + side), size, normalize))
    return np.stack(crops)


def _photographs(folder: Path) -> list[tuple["Image", int]]:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingError("reading photographs needs Pillow; run: pip install Pillow") from error
    found = [(path, match) for path in sorted(folder.iterdir()) if (match := _NAME.fullmatch(path.name))]
    return [(Image.open(path).convert("RGB"), int(match[1])) for path, match in found]


def _pixels(image: "Image", box: tuple[int, int, int, int], size: int, normalize: Normalize) -> Array:
    """The box, resized to a square by cubic interpolation: [3,size,size] float32."""
    from PIL.Image import Resampling

    square = image.resize((size, size), Resampling.BICUBIC, box)
    return np.ascontiguousarray(normalize(np.asarray(square, np.float32)).transpose(2, 0, 1))
