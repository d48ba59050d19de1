"""Pre-activation: BatchNormalization and Relu in front of layers, moved into them as far as they go."""
