"""NVIDIA GPUs, compiled without a GPU or a CUDA toolkit."""
