"""Integer programs: what a quantized model computes in integers, recognized once, executed in numpy."""
