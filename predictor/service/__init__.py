"""Predictions over HTTP: ``predict-latency serve``."""
