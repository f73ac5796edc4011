"""Settings every test shares."""

import os

from hypothesis import settings
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: more threads only wait for each other
os.environ.setdefault("MPLBACKEND", "Agg")

# Shapes in annotations are checked, in tests only; so before anything imports these modules.
WITH_SHAPES = ("acting", "agent", "decoder", "encoder", "heads", "imagination", "losses", "return_scale", "rssm")
install_import_hook(
    ["world_models.distributions", "world_models.layers", "world_models.returns"]
    + [f"world_models.dreamer.{name}" for name in WITH_SHAPES],
    "beartype.beartype",
)

# Time is measured in benchmarks, never asserted in tests.
settings.register_profile("nexus", deadline=None)
settings.load_profile("nexus")
