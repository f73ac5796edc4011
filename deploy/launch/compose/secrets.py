"""The secrets of the containers: files that only their owner may read. Torch-free."""

import os
import secrets
from pathlib import Path

NAMES = ("ray_token", "redis_password", "monitor_token", "grafana_password")
USER = 1000
"""As whom containers run if root starts them."""


def owner() -> tuple[int, int]:
    """User and group that own the secrets, as whom the containers run that read them."""
    return (os.getuid(), os.getgid()) if os.getuid() else (USER, USER)


def make(folder: Path) -> list[str]:
    """Make those that do not exist; their names. ValueError: others may read one that does, or it is empty."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for name in NAMES:
        path = folder / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = path.stat()
            if found.st_mode & 0o077:
                raise ValueError(f"Others may read the secret in {path}; chmod 600 {path}") from None
            if not found.st_size:
                raise ValueError(f"The secret {path} is empty; delete it, and another one is made.") from None
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        if not os.getuid():
            os.chown(path, *owner())
        made.append(name)
    if not os.getuid():
        os.chown(folder, *owner())
    return made
