"""INT8 that holds: one calibration, a plan, and a graph fit for each engine and CPU."""
