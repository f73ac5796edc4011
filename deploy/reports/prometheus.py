"""Prometheus metrics of a run: each replay shard, the rate limiter, progress."""

import threading
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Stats = Mapping[str, float]
LOOPBACK = "127.0.0.1"

GAUGES = {
    "items": ("nexus_replay_items", "Sequences that can be sampled", 1.0),
    "steps": ("nexus_replay_steps", "Stored environment steps", 1.0),
    "streams": ("nexus_replay_streams", "Streams with stored steps", 1.0),
    "queue": ("nexus_replay_online_queue_items", "Newest sequences that wait to be sampled once", 1.0),
    "gb": ("nexus_replay_size_bytes", "Bytes in use", 1e9),
    "max_gb": ("nexus_replay_size_limit_bytes", "Most bytes that the shard may use", 1e9),
    "age": ("nexus_replay_age_items", "Mean age of the sequences, in newer sequences", 1.0),
}
COUNTERS = {
    "inserted": ("nexus_replay_inserted_steps", "Steps appended"),
    "sampled": ("nexus_replay_sampled_steps", "Steps sampled"),
    "sampled_online": ("nexus_replay_sampled_online_items", "Sequences sampled from the online queue"),
    "written_back": ("nexus_replay_refreshed_steps", "Steps whose latents were refreshed by the learner"),
    "evicted": ("nexus_replay_evicted_items", "Sequences evicted to make room for newer ones"),
    "stale": ("nexus_replay_stale_latents", "Latents read as zeros because they were lost or torn"),
}

GPU = {
    "gpu/memory_gb": ("nexus_gpu_memory_bytes", "GPU memory in use, by all processes", 1e9),
    "gpu/memory_limit_gb": ("nexus_gpu_memory_limit_bytes", "GPU memory there is", 1e9),
    "gpu/learner_memory_gb": ("nexus_gpu_learner_memory_bytes", "GPU memory that the learner holds", 1e9),
    "gpu/utilisation": ("nexus_gpu_utilisation_ratio", "Share of the time in which the GPU works", 1.0),
}
"""Metrics of the learner; a CPU has none."""


class RunMetrics(Collector):
    """The newest values; the run updates them, the HTTP thread reads them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: dict[str, Stats] = {}
        self._down: set[str] = set()
        self._limiter: Stats = {}
        self._restarts: Stats = {}
        self._failures: Stats = {}
        self._frames = self._updates = 0
        self._lag: tuple[float, float] | None = None
        self._actors: Stats = {}
        self._scaled: Stats = {}
        self._line: Stats = {}

    def newest(self, line: Stats) -> None:
        """Set the newest line of `metrics.jsonl`."""
        with self._lock:
            self._line = dict(line)

    def update(
        self, frames: int, updates: int, shards: Mapping[str, Stats], down: Iterable[str] = (),
        limiter: Stats | None = None, restarts: Stats | None = None, failures: Stats | None = None,
        lag: tuple[float, float] | None = None, actors: Stats | None = None, scaled: Stats | None = None,
    ) -> None:  # fmt: skip
        """Set the run's values: statistics by shard, names of the shards that do not answer, the limiter's statistics,
        restarts by process, failures of environments by kind, updates and seconds that the acting policies are behind,
        actors by state, the autoscaler's decisions by kind.
        """
        with self._lock:
            self._restarts, self._failures = dict(restarts or {}), dict(failures or {})
            self._frames, self._updates, self._shards = frames, updates, dict(shards)
            self._down, self._limiter, self._lag = set(down), limiter or {}, lag
            self._actors, self._scaled = dict(actors or {}), dict(scaled or {})

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            shards, down, limiter, frames, updates, lag = (
                self._shards, self._down, self._limiter, self._frames, self._updates, self._lag
            )  # fmt: skip
            restarts, failures, line = self._restarts, self._failures, self._line
            actors, scaled = self._actors, self._scaled
        yield CounterMetricFamily("nexus_environment_frames", "Frames, action repeats counted", value=frames)
        yield CounterMetricFamily("nexus_learner_updates", "Gradient steps", value=updates)
        if line:
            newest = GaugeMetricFamily("nexus_metric", "Value in the newest line of metrics.jsonl", labels=["name"])
            for name, value in line.items():
                newest.add_metric([name], value)
            yield newest
        for name, (own, text, scale) in GPU.items():
            if name in line:
                yield GaugeMetricFamily(own, text, line[name] * scale)
        if lag is not None:
            text = "that the policies that act are behind the learner, mean over the actors"
            yield GaugeMetricFamily("nexus_policy_lag_updates", f"Updates {text}", lag[0])
            yield GaugeMetricFamily("nexus_policy_lag_seconds", "Mean age of the policies that act", lag[1])
        there = GaugeMetricFamily("nexus_actors", "Env workers that are asked for, or running", labels=["state"])
        for state, count in actors.items():
            there.add_metric([state], count)
        if actors:
            yield there
        decided = CounterMetricFamily("nexus_autoscale_decisions", "Changes made by the run itself", labels=["kind"])
        for kind, count in scaled.items():
            decided.add_metric([kind], count)
        if scaled:
            yield decided
        up = GaugeMetricFamily("nexus_replay_up", "1 while the shard answers", labels=["shard"])
        for name in shards.keys() | down:
            up.add_metric([name], float(name not in down))
        yield up
        for key, (name, text, scale) in GAUGES.items():
            yield from _family(GaugeMetricFamily(name, text, labels=["shard"]), shards, key, scale)
        for key, (name, text) in COUNTERS.items():
            yield from _family(CounterMetricFamily(name, text, labels=["shard"]), shards, key, 1.0)
        restarted = CounterMetricFamily("nexus_restarts", "Restarts of this process of the run", labels=["process"])
        for name, count in restarts.items():
            restarted.add_metric([name], count)
        if restarts:
            yield restarted
        failed = CounterMetricFamily("nexus_environment_failures", "Failures of environments", labels=["kind"])
        for kind, count in failures.items():
            failed.add_metric([kind], count)
        if failures:
            yield failed
        if limiter:
            yield GaugeMetricFamily(
                "nexus_limiter_ahead_steps", "Steps that inserting is ahead of sampling", limiter["ahead"]
            )
            waited = CounterMetricFamily("nexus_limiter_wait_seconds", "Time spent waiting", labels=["side"])
            for side in ("insert", "sample"):
                waited.add_metric([side], limiter[f"{side}_waited_seconds"])
            yield waited


def _family(family: Metric, shards: Mapping[str, Stats], key: str, scale: float) -> Iterable[Metric]:
    for name, stats in shards.items():
        if key in stats:
            family.add_metric([name], stats[key] * scale)  # type: ignore[attr-defined]
    if family.samples:
        yield family


def serve(metrics: RunMetrics, port: int, host: str = LOOPBACK) -> tuple[str, Callable[[], None]]:
    """Serve the metrics at an IP address (port 0: any free port). Returns the URL and a function that stops the server.
    Raises ValueError if the port cannot be opened."""
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ValueError(f"metrics_port={port} cannot be opened at {host} ({error.strerror}).") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    return f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics", stop
