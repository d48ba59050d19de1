"""Partitioning: which device runs which part of a model."""
