"""Tensors by name: what changes them, how they are written down, and where they are kept."""
