"""Tensor parallelism: layouts of values over devices, and the rules by which operators take them."""
