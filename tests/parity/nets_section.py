"""nets_<cfg>.npz: encoder, decoder, heads and policies, forward and backward."""

from typing import Any

import torch
from torch import Tensor

from tests.parity.check import Check
from tests.parity.official_config import load_part, networks, spaces
from tests.parity.rssm_section import compare_gradients
from world_models.distributions import BoundedNormal, TwoHot
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig, RSSMConfig
from world_models.dreamer.heads import feature
from world_models.space import Spaces


def check_nets(check: Check) -> None:
    """All networks but the RSSM; two agents, as the file has a policy for continuous and one for discrete actions."""
    config = check.json()
    observation = spaces(config["obs_space"])
    continuous, discrete = (
        build(observation, spaces(config[f"act_space_{kind}"]), config) for kind in ("cont", "disc")
    )
    parameters = check.inputs("params/")
    policies = {"polc": (continuous, "in/action_cont/"), "pold": (discrete, "in/action_disc/")}
    load_part(continuous, {k: v for k, v in parameters.items() if k.split("/")[0] not in policies})
    for name, (agent, _) in policies.items():
        load_part(agent, {k: v for k, v in parameters.items() if k.startswith(f"{name}/")}, (name, "pol"))

    deter, stoch = check.tensor("in/feat/deter"), check.tensor("in/feat/stoch").flatten(-2)
    seen = feature(deter, stoch)
    check.compare("in/feat_tensor", seen)
    check.input("in/reset")  # neither encoder nor decoder has a state to reset
    objective = check_encoder(check, continuous, check.tensors("in/obs/"))
    objective += check_decoder(check, continuous, observation, deter, stoch)
    objective += check_heads(check, continuous, seen)
    for name, (agent, actions) in policies.items():
        objective += check_policy(check, name, agent, seen, check.tensors(actions))
    objective.backward()
    check.compare("grad_objective/value", objective)
    compare_gradients(check, continuous, "grad/", {name: name for name in ("enc", "dec", "rew", "con", "val")})
    for name, (agent, _) in policies.items():
        compare_gradients(check, agent, "grad/", {"pol": name})


def build(observation: Spaces, action: Spaces, config: dict[str, Any]) -> Dreamer:
    rssm = RSSMConfig(
        deter=config["deter"], stoch=config["stoch"], classes=config["classes"], hidden=1, blocks=1,
    )  # fmt: skip
    return Dreamer(observation, action, DreamerConfig(**networks(config), rssm=rssm))


def check_encoder(check: Check, agent: Dreamer, obs: dict[str, Tensor]) -> Tensor:
    tokens = agent.encoder(obs)
    check.compare("enc/out/tokens", tokens)
    return (tokens * check.tensor("grad_objective/w_tokens")).mean()


def check_decoder(check: Check, agent: Dreamer, observation: Spaces, deter: Tensor, stoch: Tensor) -> Tensor:
    objective = torch.zeros(())
    for key, dist in agent.decoder(deter, stoch).items():
        target = check.tensor(f"in/obs/{key}")
        loss = dist.loss(target.float() / 255 if observation[key].is_image else target)
        pred = dist.pred()
        check.compare(f"dec/out/pred/{key}", pred, "exact" if observation[key].discrete else "forward")
        check.compare(f"dec/out/loss/{key}", loss)
        objective = objective + loss.mean()
    return objective


def check_heads(check: Check, agent: Dreamer, seen: Tensor) -> Tensor:
    objective = torch.zeros(())
    heads: dict[str, TwoHot] = {"rew": agent.reward(seen), "val": agent.value(seen)}
    target = check.tensor("in/reward_target")
    for name, dist in heads.items():
        loss = dist.loss(target)
        scale = (dist.log_probs.exp() * dist.bins.abs()).sum(-1)
        check.compare(f"{name}/out/logits", dist.logits)
        check.compare(f"{name}/out/pred", dist.pred(), "two_hot", scale=scale)
        check.compare(f"{name}/out/loss", loss)
        objective = objective + loss.mean()
    carry_on = agent.continuation(seen)
    loss = carry_on.loss(check.tensor("in/con_target"))
    check.compare("con/out/logit", carry_on.logit)
    check.compare("con/out/prob1", carry_on.prob())
    check.compare("con/out/loss", loss)
    return objective + loss.mean()


def check_policy(check: Check, name: str, agent: Dreamer, seen: Tensor, actions: dict[str, Tensor]) -> Tensor:
    objective = torch.zeros(())
    for key, dist in agent.policy(seen).items():
        logp, entropy = dist.logp(actions[key]), dist.entropy()
        parts = {"mean": dist.mean, "std": dist.std} if isinstance(dist, BoundedNormal) else {"logits": dist.logits}
        for part, value in (parts | {"logp": logp, "entropy": entropy}).items():
            check.compare(f"{name}/out/{part}/{key}", value)
        objective = objective - logp.mean() - 0.1 * entropy.mean()
    return objective
