"""Train the bundled Fashion-MNIST network; writes its ONNX file and its calibration and test data.

    python -m optc.models.zoo.train_fashion_resnet --data FOLDER --epochs 30

FOLDER holds the four gzip files of Fashion-MNIST (Debian: package dataset-fashion-mnist,
/usr/share/datasets/fashion-mnist). Needs torch (extra `train`), one thread, seeded. The last epoch's weights
are taken: the test images choose nothing.
"""

import argparse
import gzip
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from optc.models.zoo.builder import GivenParameters
from optc.models.zoo.fashion_resnet import BLOCKS, CLASSES, STEM, build_fashion_resnet
from optc.models.zoo.npz import write_npz

Array = npt.NDArray[Any]
CALIBRATION, TEST = 1000, 2000


class Block(nn.Module):  # type: ignore[misc]
    """Conv-BN-Relu-Conv-BN-Add-Relu, the twin of `fashion_resnet._block`."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.projects = stride != 1 or inputs != channels
        if self.projects:
            self.conv3 = nn.Conv2d(inputs, channels, 1, stride, bias=False)
            self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, channels, H / stride, W / stride]."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + (self.bn3(self.conv3(x)) if self.projects else x))


class FashionResNet(nn.Module):  # type: ignore[misc]
    """The torch twin of `build_fashion_resnet`, for training only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict(
            {"conv": nn.Conv2d(1, STEM, 3, 1, 1, bias=False), "bn": nn.BatchNorm2d(STEM)}
        )
        widths = [STEM] + [channels for channels, _ in BLOCKS]
        for index, (channels, stride) in enumerate(BLOCKS):
            self.add_module(f"block{index}", Block(widths[index], channels, stride))
        self.fc = nn.Linear(widths[-1], len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 1, 28, 28] in 0..1 -> logits [N, 10]."""
        x = functional.relu(self.stem["bn"](self.stem["conv"](x)))
        for index in range(len(BLOCKS)):
            x = self.get_submodule(f"block{index}")(x)
        return self.fc(x.mean(dim=(2, 3)))


def read_idx(path: Path) -> Array:
    """The uint8 array of a gzipped IDX file (the format of MNIST); ValueError on another format."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(tuple(int(n) for n in shape))


def read_split(folder: Path, split: str) -> tuple[Array, Array]:
    """Images [n,1,28,28] float32 in 0..1 and labels [n] int64 of `train` or `t10k`."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")[:, None].astype(np.float32) / np.float32(255)
    return images, read_idx(folder / f"{split}-labels-idx1-ubyte.gz").astype(np.int64)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random horizontal flip and a random shift by up to two pixels, each image its own."""
    n = len(images)
    flip = torch.rand(n, generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    shifts = torch.randint(0, 5, (2, n, 1), generator=generator)
    rows, columns = shifts + torch.arange(28)
    padded = functional.pad(images, (2, 2, 2, 2))
    return padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Indices of one epoch in random order; a last short batch is left out."""
    order = torch.randperm(count, generator=generator)
    yield from order[: count // size * size].split(size)


def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Top-1 accuracy in percent."""
    network.eval()
    with torch.no_grad():
        hits = sum(
            int((network(x).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return 100.0 * hits / len(labels)


def train(data: Path, epochs: int, seed: int, batch: int = 128) -> FashionResNet:
    """SGD with Nesterov momentum, one-cycle learning rate, label smoothing 0.1, on all training images.

    The forward pass runs in bfloat16, which nearly halves the time on a processor that has it.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = (torch.from_numpy(array) for array in read_split(data, "train"))
    test = [torch.from_numpy(array) for array in read_split(data, "t10k")]
    network = FashionResNet()
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, total_steps=epochs * (len(images) // batch), pct_start=0.2
    )
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        network.train()
        for indices in batches(len(images), batch, generator):
            x = augment(images[indices], generator).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):  # weights stay float32
                loss = functional.cross_entropy(network(x), labels[indices], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch + 1:2}/{epochs}  loss {total / (len(images) // batch):.4f}  "
            f"test {accuracy(network, *test):.2f}%  {seconds:.0f} s",
            flush=True,
        )
    return network


def parameters_of(network: nn.Module) -> dict[str, Array]:
    """The network's arrays under the names that `build_fashion_resnet` asks for."""
    arrays = {}
    for name, tensor in network.state_dict().items():
        module, _, kind = name.rpartition(".")
        if ".bn" in module:
            kind = {"weight": "gamma", "bias": "beta"}.get(kind, kind)
        if kind != "num_batches_tracked":
            arrays[f"{module}.{kind}"] = tensor.contiguous().numpy()
    return arrays


def write_data(data: Path, out: Path) -> None:
    """The first 1,000 training images for calibration and the first 2,000 test images."""
    for split, count, name in (("train", CALIBRATION, "calibration"), ("t10k", TEST, "test")):
        images, labels = read_split(data, split)
        write_npz(out / f"fashion_resnet_{name}.npz", {"image": images[:count], "label": labels[:count]})


def main() -> None:
    """Train, print the accuracies, write the three files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the Fashion-MNIST files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, one thread")
    print(f"epochs {options.epochs}, seed {options.seed}, batch 128, SGD one-cycle 0.2, label smoothing 0.1")
    network = train(options.data, options.epochs, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    parameters = GivenParameters(parameters_of(network))
    model = build_fashion_resnet(parameters)
    if parameters.unused():
        raise RuntimeError(f"the ONNX builder left parameters out: {parameters.unused()}")
    (options.out / "fashion_resnet.onnx").write_bytes(model.SerializeToString(deterministic=True))
    write_data(options.data, options.out)
    images, labels = (torch.from_numpy(array) for array in read_split(options.data, "t10k"))
    print(f"test accuracy, all 10,000 images: {accuracy(network, images, labels):.2f}%")
    print(f"test accuracy, first 2,000 images: {accuracy(network, images[:TEST], labels[:TEST]):.2f}%")


if __name__ == "__main__":
    main()
