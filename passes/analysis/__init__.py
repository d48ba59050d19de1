"""Analyses: facts about a model; they change nothing."""
