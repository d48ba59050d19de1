"""Exact passes that bring a model to one simple form."""
