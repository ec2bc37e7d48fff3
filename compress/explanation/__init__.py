"""Where a network looked, without torch: the tensors a heat map is made of, and the small graph that makes it."""
