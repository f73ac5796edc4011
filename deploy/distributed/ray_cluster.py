"""Starting Ray on this machine, for it alone, quietly, and with a token only its owner can read; or joining a cluster
that runs already. Torch-free."""

import contextlib
import gc
import ipaddress
import logging
import os
import secrets
import signal
import stat
import tempfile
import warnings
from pathlib import Path
from typing import Any

import psutil

from deploy.run_failed import RunFailedError
from world_models.dreamer.config import DreamerConfig

LEAST_STORE = 512 * 1024**2
_STARTS = 3
_LATE = "timed out during startup"
"""What Ray says if its processes are not there within 30 s."""
TOKEN = Path.home() / ".ray" / "auth_token"


def secure_token() -> Path:
    """Create Ray's token file with mode 0600, or restrict an existing one: Ray itself writes it world-readable."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name) as file:  # of mode 0600
            file.write(secrets.token_hex(32))
            file.flush()
            with contextlib.suppress(FileExistsError):  # another process was faster; nobody sees half a token
                os.link(file.name, path)
    if stat.S_IMODE(path.stat().st_mode) != 0o600:
        path.chmod(0o600)
    return path


def object_store_bytes(model: DreamerConfig) -> int:
    """Room for eight policy snapshots, within a third of the free memory."""
    return max(LEAST_STORE, min(8 * 4 * model.acting_parameters, psutil.virtual_memory().available // 3))


def start_local(namespace: str, store_bytes: int) -> str:
    """Start Ray for this process alone; returns its address. Nothing of it can be reached from another machine. Raises
    RunFailedError if it does not start in time."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # makes this node 127.0.0.1, on Linux too
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    secure_token()
    _authentication_from_environment()
    from ray._private import ray_constants  # starting Ray reads the environment set above

    ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment when Ray was imported, which may be long ago
    # Ray's processes inherit what is blocked here: when the terminal hangs up they must stay until the run is saved.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        with warnings.catch_warnings():
            # Ray frees a late start, which is ended here, without having waited for its processes.
            warnings.filterwarnings("ignore", "subprocess .* is still running", ResourceWarning)
            return _started(namespace, store_bytes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _started(namespace: str, store_bytes: int) -> str:
    for attempt in range(_STARTS):
        others = set(psutil.Process().children(recursive=True))
        try:
            context = join(
                "local",  # whatever RAY_ADDRESS says and whoever else runs Ray here
                namespace, include_dashboard=False, object_store_memory=store_bytes,
                num_cpus=max(1, os.cpu_count() or 1),
            )  # fmt: skip
            if attempt:
                gc.collect()
            return str(context.address_info["gcs_address"])
        except Exception as error:  # of this very class
            if _LATE not in str(error):
                raise
            _end(set(psutil.Process().children(recursive=True)) - others)
            if attempt == _STARTS - 1:
                raise RunFailedError(
                    f"Ray has not started in {_STARTS} attempts of 30 s: this machine's load is "
                    f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores. End other work, then give the same "
                    "command again."
                ) from error
    raise AssertionError("the last attempt returns or raises")


def _end(processes: set[psutil.Process]) -> None:
    """End what a start of Ray that failed has left."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def join_cluster(address: str, protected: bool, namespace: str, **options: Any) -> None:
    """Join the Ray cluster at `address`, with its token if it is `protected`."""
    os.environ.pop("RAY_ADDRESS", None)
    authenticate(protected)
    join(address, namespace, **options)


def authenticate(protected: bool) -> None:
    """Have this process use the token of its environment or user if `protected`, and none otherwise."""
    os.environ["RAY_AUTH_MODE"] = "token" if protected else "disabled"
    _authentication_from_environment()


def _authentication_from_environment() -> None:
    """Ray read the mode and the token when it was imported or first used, and would keep them; the processes that it
    starts read them anew."""
    from ray import _raylet

    raylet: Any = _raylet
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def join(address: str, namespace: str, **options: Any) -> Any:
    """`ray.init` without terminal output; returns its context."""
    import ray
    from ray._private import worker

    # Whatever log_to_driver says, Ray's driver prints the errors of every process, nine lines about the OOM killer for
    # each that dies, in a thread that no option turns off. The supervisor reports what died and why.
    worker.listen_error_messages = lambda *_: None
    return ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR, **options)


def lost_part() -> str:
    """Names of Ray processes started by this one that are gone; empty if all are alive."""
    there = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                there.add(child.name())
    return " and ".join(sorted({"gcs_server", "raylet"} - there))


def listening() -> list[tuple[str, str, int]]:
    """Name, address and port of every TCP socket on which this process and those it has started take connections."""
    found = []
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            sockets = process.net_connections("tcp")
            found += [(process.name(), *one.laddr) for one in sockets if one.status == psutil.CONN_LISTEN]
        except psutil.Error:  # it has just ended
            continue
    return found


def loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
