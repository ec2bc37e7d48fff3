"""Fewer channels: which go, how many for a target, and what is learned back."""
