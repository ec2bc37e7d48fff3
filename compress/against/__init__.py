"""Beside the peers: the same networks, quantized by others' defaults, timed and judged in the same run."""
