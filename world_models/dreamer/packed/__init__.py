"""The acting part of DreamerV3 for CPUs: the same numbers from weights laid out for few rows."""
