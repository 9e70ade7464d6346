"""Espalier: curate instruction data, train on it, evaluate what came out, report it."""

__version__ = "0.1.0"
