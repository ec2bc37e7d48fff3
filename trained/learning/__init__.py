"""The training loop and everything it is asked for."""
