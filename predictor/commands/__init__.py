"""One command each file: a module ``name`` here, with an attribute ``command``, is a command."""

HELPERS = frozenset({"model", "options", "output", "profile_import"})
"""Modules here that are no commands."""
