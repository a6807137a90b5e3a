"""One command each file: a module ``name`` here, with an attribute ``command``, is a command."""

HELPERS = frozenset({"model", "options", "output"})
"""Modules here that are no commands."""
