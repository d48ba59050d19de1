"""Targets: what a model is built for. Imports passes and models, nothing above."""
