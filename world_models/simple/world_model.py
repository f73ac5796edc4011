"""A first world model: latent states of single observations, one-step dynamics, rewards.

Legend: B batch, H steps, O observation, L latent, A action, E reward heads; `...` any leading axes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.distributions import symexp, symlog
from world_models.protocol import imagine_steps
from world_models.simple import files
from world_models.simple.config import as_config
from world_models.simple.transitions import batches
from world_models.space import Space, Spaces

STD = (0.01, 1.0)  # of a Gaussian latent


class Gaussian(NamedTuple):
    """A diagonal Gaussian over latents `[... L]`; a deterministic latent has `std` 0."""

    mean: Tensor
    std: Tensor


class SimpleWorldModel(nn.Module):
    """Encoder `z = e(o)`, dynamics `z' = z + d(z, a)`, decoder `o = g(z)` and reward `r = f(z, a)`, all MLPs.

    `config` is a `SimpleWorldModelConfig`, or a dict or dataclass with its fields. With `stochastic`, encoder and
    dynamics give Gaussians: `encode` returns the mean, `imagine` samples. The model keeps `PlanningModel`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, config: Any):
        super().__init__()
        c = self.config = as_config(config)
        latent = c.latent_dim * (2 if c.stochastic else 1)
        self.encoder = self._part(c.obs_dim, latent)
        self.dynamics = self._part(c.latent_dim + c.action_dim, latent)
        self.decoder = self._part(c.latent_dim, c.obs_dim)
        self.reward = nn.ModuleList(self._part(c.latent_dim + c.action_dim, 1) for _ in range(c.reward_heads))
        for name, side in zip(("low", "high"), c.bounds, strict=True):
            self.register_buffer(name, torch.tensor(side, dtype=torch.float32), persistent=False)
        self.generator: torch.Generator | None = None
        self._optimizer: torch.optim.Optimizer | None = None

    def _part(self, inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(self.config.layers):
            layers += [nn.Linear(inputs, inputs := self.config.hidden_dim), nn.SiLU()]
        return nn.Sequential(*layers, nn.Linear(inputs, outputs))

    @property
    def action_space(self) -> Spaces:
        low, high = (np.array(side, np.float32) for side in self.config.bounds)
        return {"action": Space(dtype=np.dtype(np.float32), shape=(self.config.action_dim,), low=low, high=high)}

    @property
    def observation_space(self) -> Spaces:
        return {"vector": Space(dtype=np.dtype(np.float32), shape=(self.config.obs_dim,))}

    @property
    def device(self) -> torch.device:
        return self.low.device

    def posterior(self, obs: Float[Tensor, "... O"]) -> Gaussian:
        """The latents of observations."""
        return self._gaussian(self.encoder(symlog(obs)), 0.0)

    def prior(self, states: Float[Tensor, "... L"], actions: Float[Tensor, "... A"]) -> Gaussian:
        """The latents that follow actions."""
        return self._gaussian(self.dynamics(self._with_action(states, actions)), states)

    def _gaussian(self, out: Tensor, offset: Tensor | float) -> Gaussian:
        if not self.config.stochastic:
            return Gaussian(offset + out, torch.zeros_like(out))
        mean, std = out.chunk(2, -1)
        low, high = STD
        return Gaussian(offset + mean, low + (high - low) * torch.sigmoid(std - 2))

    def _sample(self, latent: Gaussian) -> Float[Tensor, "... L"]:
        if not self.config.stochastic:
            return latent.mean
        noise = torch.randn(latent.mean.shape, generator=self.generator, device=latent.mean.device)
        return latent.mean + latent.std * noise

    def _with_action(self, states: Float[Tensor, "... L"], actions: Float[Tensor, "... A"]) -> Tensor:
        """States and the actions, mapped from their bounds to [-1, 1]."""
        scaled = (actions.float() - self.low) / (self.high - self.low) * 2 - 1
        return torch.cat([states, scaled], -1)

    def encode(
        self, observation: Any, before: Any = None, action: Any = None, is_first: Any = None
    ) -> Float[Tensor, "... L"]:
        """Latent states of observations `[... O]` (or dict observations, flattened); only these matter."""
        return self.posterior(self._flat(observation)).mean

    def _flat(self, observation: Any) -> Float[Tensor, "... O"]:
        if isinstance(observation, Mapping):
            parts = [torch.as_tensor(observation[key], device=self.device) for key in sorted(observation)]
            parts = [part / 255 if part.dtype == torch.uint8 and part.ndim > 3 else part for part in parts]
            observation = torch.cat([part.float().flatten(1) if part.ndim > 1 else part[:, None] for part in parts], 1)
        return self._checked("obs", observation, self.config.obs_dim)

    def _checked(self, name: str, values: Any, width: int) -> Tensor:
        tensor = torch.as_tensor(values, dtype=torch.float32, device=self.device)
        if tensor.shape[-1:] != (width,):
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}; its last axis must have {width} numbers.")
        return tensor

    def initial(self, rows: int) -> Float[Tensor, "N L"]:
        return torch.zeros(rows, self.config.latent_dim, device=self.device)

    def step(self, state: Float[Tensor, "... L"], action: Float[Tensor, "... A"]) -> Float[Tensor, "... L"]:
        return self._sample(self.prior(state, action))

    def decode(self, states: Float[Tensor, "... L"]) -> Float[Tensor, "... O"]:
        """Observations of latent states."""
        return symexp(self.decoder(states))

    def rewards(
        self, state: Float[Tensor, "... L"], action: Float[Tensor, "... A"], following: Any = None
    ) -> Float[Tensor, "E ..."]:
        """The reward of an action as each head predicts it."""
        inputs = self._with_action(state, action)
        return torch.stack([head(inputs).squeeze(-1) for head in self.reward])

    def features(self, state: Float[Tensor, "... L"]) -> Float[Tensor, "... L"]:
        return state

    def imagine(self, states: Any, actions: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What follows from `states` `[... L]`: the next states, their observations and the rewards.

        `actions` `[... A]` are one step each: `[... L]`, `[... O]`, `[...]`. With one axis more, `[... H A]`, they are
        H steps in a row: `[... H L]`, `[... H O]`, `[... H]`. ValueError: the shapes do not fit.
        """
        states = self._checked("states", states, self.config.latent_dim)
        actions = self._checked("actions", actions, self.config.action_dim)
        if actions.shape[:-1] == states.shape[:-1]:
            return self._outcome(states, actions, self.step(states, actions))
        if actions.shape[:-2] != states.shape[:-1]:
            raise ValueError(
                f"actions of the shape {tuple(actions.shape)} do not fit states of the shape {tuple(states.shape)}; "
                "give one action, or one sequence of actions, for each state."
            )
        lead = states.shape[:-1]
        flat, steps = states.reshape(-1, states.shape[-1]), actions.reshape(-1, *actions.shape[-2:])
        following = torch.stack(imagine_steps(self, flat, steps), 1)  # [N H L]
        before = torch.cat([flat[:, None], following[:, :-1]], 1)
        return tuple(x.unflatten(0, lead) if lead else x[0] for x in self._outcome(before, steps, following))  # type: ignore[return-value]

    def _outcome(self, states: Tensor, actions: Tensor, following: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return following, self.decode(following), self.rewards(states, actions).mean(0)

    @torch.no_grad()
    def imagine_parallel(self, states: Any, actions: Any = None, horizon: int = 10) -> tuple[Tensor, Tensor, Tensor]:
        """`imagine` for a batch of states `[B L]` at once, without gradients: the next states `[B H L]`, their
        observations and the rewards.

        `actions`: those of each state `[B H A]`, or the same for all `[H A]`; by default random ones within their
        bounds, for `horizon` steps.
        """
        states = self._checked("states", states, self.config.latent_dim)
        if actions is None:
            shape = (len(states), horizon, self.config.action_dim)
            unit = torch.rand(shape, generator=self.generator, device=self.device)
            actions = self.low + (self.high - self.low) * unit
        actions = self._checked("actions", actions, self.config.action_dim)
        return self.imagine(states, actions.expand(len(states), *actions.shape) if actions.ndim == 2 else actions)

    def losses(
        self, obs: Float[Tensor, "B O"], actions: Float[Tensor, "B A"], next_obs: Float[Tensor, "B O"],
        rewards: Float[Tensor, " B"],
    ) -> dict[str, Float[Tensor, " B"]]:  # fmt: skip
        """Latent, reconstruction and reward losses of transitions, unreduced.

        Latent: the squared error of the predicted next state, whose target has no gradient; of Gaussian ones
        `max(free, KL(posterior || prior))`. Reconstruction: the squared errors, in symlog space, of the observation
        and of the next one from the predicted state. Each is a mean over dimensions, so that none outweighs the others.
        """
        now, then = self.posterior(obs), self.posterior(next_obs)
        state = self._sample(now)
        following = self.prior(state, actions)
        if self.config.stochastic:
            ratio, gap = (then.std / following.std).square(), (then.mean - following.mean) / following.std
            nats = 0.5 * (ratio + gap.square() - 1 - ratio.log()).sum(-1)
            latent = nats.clamp_min(self.config.free_nats) / self.config.latent_dim
        else:
            latent = (following.mean - then.mean.detach()).square().mean(-1)
        seen = (self.decoder(state) - symlog(obs)).square().mean(-1)
        foreseen = (self.decoder(self._sample(following)) - symlog(next_obs)).square().mean(-1)
        reward = (self.rewards(state, actions) - rewards).square().mean(0)
        return {"latent": latent, "reconstruction": seen + foreseen, "reward": reward}

    def train_step(self, obs: Any, actions: Any, next_obs: Any, rewards: Any) -> Float[Tensor, ""]:
        """One step of Adam on B transitions; returns the loss. ValueError: a shape does not fit."""
        c = self.config
        obs, next_obs = self._checked("obs", obs, c.obs_dim), self._checked("next_obs", next_obs, c.obs_dim)
        actions = self._checked("actions", actions, c.action_dim)
        rewards = torch.as_tensor(rewards, dtype=torch.float32, device=self.device)
        rows = actions.shape[:-1].numel()
        if {obs.numel() // c.obs_dim, next_obs.numel() // c.obs_dim, rewards.numel()} != {rows}:
            raise ValueError(
                f"obs {tuple(obs.shape)}, actions {tuple(actions.shape)}, next_obs {tuple(next_obs.shape)} and rewards "
                f"{tuple(rewards.shape)} are not the same number of transitions."
            )
        losses = self.losses(
            obs.reshape(rows, -1), actions.reshape(rows, -1), next_obs.reshape(rows, -1), rewards.reshape(rows)
        )
        scales = {"latent": c.latent_scale, "reconstruction": c.reconstruction_scale, "reward": c.reward_scale}
        loss: Tensor = sum(scales[name] * value.mean() for name, value in losses.items())  # type: ignore[assignment]
        if self._optimizer is None:  # here, so that a model moved to a device keeps its state there
            self._optimizer = torch.optim.Adam(self.parameters(), lr=c.lr)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), c.clip)
        self._optimizer.step()
        return loss.detach()

    def pretrain(
        self, dataset: Mapping[str, Any] | Iterable[Any], epochs: int = 10, batch_size: int = 256, seed: int = 0
    ) -> list[float]:
        """Train on a data set of transitions; returns the mean loss of each epoch.

        `dataset`: arrays or lists of observations `[T O]`, actions `[T A]`, next observations and rewards `[T]`, as a
        tuple or as a dict with the keys `obs`, `actions`, `next_obs`, `rewards`; or an iterable over batches of such
        four, such as a DataLoader. Arrays are shuffled by `seed`. ValueError: there are none, or it is none of these.
        """
        history = []
        for epoch in range(epochs):
            losses = [self.train_step(*batch) for batch in batches(dataset, batch_size, seed + epoch)]
            if not losses:
                raise ValueError("dataset holds no transitions; give arrays of at least one, or an iterable of batches "
                                 "that can be read once for each epoch.")  # fmt: skip
            history.append(float(torch.stack(losses).mean()))
        return history

    def seed(self, number: int) -> None:
        if self.generator is None or self.generator.device != self.device:
            self.generator = torch.Generator(self.device)
        self.generator.manual_seed(number)

    def save(self, folder: str | Path, task: str = "") -> Path:
        """Write `model.safetensors` and `config.json` to a directory; `task` names its environment for `nexus plan`."""
        return files.save(self, folder, task)

    @classmethod
    def load(cls, folder: str | Path) -> "SimpleWorldModel":
        """The inverse of `save`. ValueError names what is missing, damaged or of another family."""
        model = cls(files.read_config(Path(folder)))
        files.load_weights(model, Path(folder))
        return model
