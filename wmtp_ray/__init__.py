"""Weighted multi-token prediction on Ray."""

__version__ = "0.1.0"
