"""U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597), padded, with BatchNormalization.

Sizes of Buda's brain segmentation network (https://arxiv.org/abs/1906.03720): 32 channels doubled four times.
"""

import onnx

from optc.models.zoo.builder import BATCH, GraphBuilder, Parameters, RandomParameters

_LEVELS = 4


def build_unet(parameters: Parameters | None = None, base: int = 32, size: int = 256) -> onnx.ModelProto:
    """`image` [N,3,size,size] -> `mask` [N,1,size,size] in 0..1; size is a multiple of 16."""
    b = GraphBuilder("unet", parameters or RandomParameters())
    x = b.input("image", (BATCH, 3, size, size))
    skipped = []
    for level in range(_LEVELS):
        x = _double(b, x, f"down{level}", base << level)
        skipped.append(x)
        x = b.pool("MaxPool", x, f"down{level}.pool", 2, 2)
    x = _double(b, x, "bottom", base << _LEVELS)
    for level in reversed(range(_LEVELS)):
        x = b.conv_transpose(x, f"up{level}.up", base << level, 2)
        x = _double(b, b.concat([x, skipped[level]], f"up{level}.concat"), f"up{level}", base << level)
    x = b.node("Sigmoid", [b.conv(x, "output.conv", 1, 1, bias=True)], "mask")
    b.output(x, (BATCH, 1, size, size))
    return b.model(
        f"U-Net. Input 'image': [N,3,{size},{size}] float32. Output 'mask': [N,1,{size},{size}] float32. "
        "Random weights."
    )


def _double(b: GraphBuilder, x: str, name: str, channels: int) -> str:
    for number in (1, 2):
        x = b.batch_norm(b.conv(x, f"{name}.conv{number}", channels, 3), f"{name}.bn{number}")
        x = b.relu(x, f"{name}.relu{number}")
    return x
