"""Which images, of whom, labelled how, in which part; and as batches."""
