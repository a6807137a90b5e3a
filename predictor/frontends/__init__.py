"""Readers: every form that a model comes in, turned into a graph without its weights."""
