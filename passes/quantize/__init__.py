"""Quantization: QuantizeLinear and DequantizeLinear pairs, and what their integers mean."""
