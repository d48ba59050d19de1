"""ONNX to TVM Relax, shared by every target."""
