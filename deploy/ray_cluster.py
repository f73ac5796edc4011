"""Starting Ray on this machine, quietly and with a token only its owner can read. Torch-free."""

import logging
import os
import secrets
import stat
from pathlib import Path
from typing import Any

import psutil

from world_models.dreamer.config import DreamerConfig

LEAST_STORE = 512 * 1024**2
TOKEN = Path.home() / ".ray" / "auth_token"


def secure_token() -> Path:
    """Make Ray's token file, or tighten the one there is, to mode 0600: Ray itself writes it readable for everyone."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)
        return path
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def object_store_bytes(model: DreamerConfig) -> int:
    """Room for eight policy snapshots, by a rough count of the acting parameters, within a third of the free memory."""
    c, units = model.rssm, max(model.policy.units, model.encoder.units)
    stoch, wide = c.stoch * c.classes, 4 * model.encoder.depth
    recurrent = c.deter * (4 * c.deter // c.blocks + 3 * c.hidden)
    around = c.hidden * (2 * c.deter + stoch * 3 + 2 * c.hidden) + units * (c.deter + stoch + 6 * units)
    bytes_each = 4 * (recurrent + around + 16 * wide * (wide + c.hidden))
    return max(LEAST_STORE, min(8 * bytes_each, psutil.virtual_memory().available // 3))


def start_local(namespace: str, store_bytes: int) -> str:
    """Start Ray for this process alone; returns its address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    secure_token()
    import ray  # starting Ray reads the environment set above

    context: Any = ray.init(
        address="local",  # whatever RAY_ADDRESS says and whoever else runs Ray here
        namespace=namespace, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        object_store_memory=store_bytes, num_cpus=max(1, os.cpu_count() or 1),
    )  # fmt: skip
    return str(context.address_info["gcs_address"])
