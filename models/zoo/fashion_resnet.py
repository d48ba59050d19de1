"""The bundled network: a residual CNN for Fashion-MNIST, small enough for every target.

Widths are multiples of 16 and at least 32, so that an accelerator with 16-wide vectors is filled; the only
activations are Relu, so that integer arithmetic follows easily. The shape follows He et al. 2015
(https://arxiv.org/abs/1512.03385): Conv-BN-Relu-Conv-BN-Add-Relu, a strided 1x1 convolution as the shortcut.
"""

import onnx

from optc.models.zoo.builder import BATCH, GraphBuilder, Parameters

STEM = 32
BLOCKS = ((32, 2), (32, 1), (32, 1), (64, 2))  # (channels, stride) of each residual block
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DESCRIPTION = (
    "Residual CNN for Fashion-MNIST. Input 'image': [N,1,28,28] float32, grey value / 255 (0 to 1). "
    "Output 'logits': [N,10] float32, before softmax."
)


def build_fashion_resnet(parameters: Parameters) -> onnx.ModelProto:
    """The network over `parameters`: `image` [N,1,28,28] float32 in 0..1 -> `logits` [N,10] float32."""
    b = GraphBuilder("fashion-resnet", parameters)
    x = b.input("image", (BATCH, 1, 28, 28))
    x = b.relu(b.batch_norm(b.conv(x, "stem.conv", STEM, 3), "stem.bn"), "stem.relu")
    for index, (channels, stride) in enumerate(BLOCKS):
        x = _block(b, x, f"block{index}", channels, stride)
    b.output(b.classifier(x, "fc", len(CLASSES)), (BATCH, len(CLASSES)))
    metadata = {
        "optc.classes": ",".join(CLASSES),
        "optc.data": "Fashion-MNIST, (c) 2017 Zalando SE, MIT licence",
        "optc.input_range": "0,1",
        "optc.licence": "Apache-2.0",
    }
    return b.model(DESCRIPTION, metadata)


def _block(b: GraphBuilder, x: str, name: str, channels: int, stride: int) -> str:
    y = b.conv(x, f"{name}.conv1", channels, 3, stride=stride)
    y = b.relu(b.batch_norm(y, f"{name}.bn1"), f"{name}.relu1")
    y = b.batch_norm(b.conv(y, f"{name}.conv2", channels, 3), f"{name}.bn2")
    if stride != 1 or b.channels(x) != channels:
        x = b.batch_norm(b.conv(x, f"{name}.conv3", channels, 1, stride=stride), f"{name}.bn3")
    return b.relu(b.add(y, x, f"{name}.add"), f"{name}.relu2")
