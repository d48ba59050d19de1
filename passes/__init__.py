"""Graph passes: pruning, quantization, canonicalization, verification. Imports models, nothing above."""
