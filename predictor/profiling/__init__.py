"""Measuring: what to measure, how, where, and a journal that loses nothing of it."""
