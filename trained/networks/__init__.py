"""Architectures, heads and initial weights."""
