"""Pruning: weights that matter least become zero."""
