"""Sweeps over runs with Ray Tune: `trainable(TASK)` is what a `ray.tune.Tuner` takes.

```python
from ray import tune
from deploy.distributed.tune import trainable

tuner = tune.Tuner(
    tune.with_resources(trainable("gym:CartPole-v1", preset="quick", overrides={"frames": 50_000}), {"cpu": 2}),
    param_space={
        "learner.train_ratio": tune.grid_search([16.0, 64.0]),
        "learner.optimizer.lr": tune.loguniform(1e-4, 1e-2),
    },
    tune_config=tune.TuneConfig(metric="score", mode="max", num_samples=4),
)
best = tuner.fit().get_best_result()
```

`best.checkpoint` is a run's directory, for `nexus eval`, `nexus plot` and `load_policy`.
"""

try:
    import ray.tune  # noqa: F401  and what it needs
except ImportError as error:
    raise ImportError('Sweeps need ray.tune, which is not fully installed: pip install "nexus-worlds[tune]"') from error

from deploy.distributed.tune.trainable import RunTrainable, trainable

__all__ = ["RunTrainable", "trainable"]
