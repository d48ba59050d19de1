"""Checking a transformed model against the one it came from."""
