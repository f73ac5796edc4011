"""RLlib's algorithms with the settings of a baseline."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPO
from ray.rllib.algorithms.sac import SACConfig as RLlibSAC
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env

from deploy.distributed.baselines.replay import ArraySAC, Replay
from deploy.wiring.baselines import BaselineConfig, PPOConfig, SACConfig

FRAGMENT = 4
"""Environment steps that SAC takes before the updates due for them."""


_makers: list[Callable[[], gymnasium.Env[Any, Any]]] = []  # RLlib copies what it is given, so it is given a number


def create(context: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """An environment of the algorithm that `build` numbered."""
    return _makers[context["number"]]()


def build(config: BaselineConfig, make: Callable[[], gymnasium.Env[Any, Any]]) -> Algorithm:
    """The algorithm over environments that `make` makes, all in this process."""
    register_env("nexus", create)
    _makers.append(make)
    settings: Any = _ppo(config) if isinstance(config, PPOConfig) else _sac(config)
    settings = (
        settings.environment("nexus", env_config={"number": len(_makers) - 1})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=config.environments)
        .learners(num_learners=0, num_gpus_per_learner=0)
        .debugging(seed=config.seed, log_level="ERROR")
        .reporting(min_time_s_per_iteration=0)
    )
    algorithm: Algorithm = settings.build_algo()
    if isinstance(algorithm, ArraySAC):
        assert isinstance(config, SACConfig)
        algorithm.replay = Replay(config.capacity, config.seed)
        algorithm.updates_per_step, algorithm.start = config.updates_per_step, config.start
    return algorithm


def _ppo(config: PPOConfig) -> Any:
    return RLlibPPO().training(
        lr=config.lr, gamma=config.discount, lambda_=config.gae, train_batch_size_per_learner=config.batch_size,
        minibatch_size=config.minibatch_size, num_epochs=config.epochs, clip_param=config.clip,
        vf_clip_param=float("inf"), vf_loss_coeff=config.value_scale, entropy_coeff=config.entropy, use_kl_loss=False,
        grad_clip=config.clip_gradient,
    ).rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(config.hidden), fcnet_activation="tanh", head_fcnet_hiddens=[], vf_share_layers=False
        )
    )  # fmt: skip


def _sac(config: BaselineConfig) -> Any:
    assert isinstance(config, SACConfig)
    return RLlibSAC(algo_class=ArraySAC).training(
        lr=None, actor_lr=config.actor_lr, critic_lr=config.critic_lr, alpha_lr=config.alpha_lr, gamma=config.discount,
        tau=config.tau, n_step=1, train_batch_size_per_learner=config.batch_size, target_network_update_freq=0,
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 1},
    ).env_runners(
        rollout_fragment_length=FRAGMENT
    ).reporting(
        min_sample_timesteps_per_iteration=100
    ).rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(config.hidden), fcnet_activation="relu", head_fcnet_hiddens=[]
        )
    )  # fmt: skip
