"""Settings every test shares."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: more threads only wait for each other
os.environ.setdefault("MPLBACKEND", "Agg")

# Time is measured in benchmarks, never asserted in tests.
settings.register_profile("nexus", deadline=None)
settings.load_profile("nexus")
