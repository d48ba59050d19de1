"""Structured pruning: whole channels go, and every tensor that holds them shrinks."""
