"""agent_<cfg>.npz: one whole training step and four acting steps, with every intermediate that the file holds."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.batch import DeviceBatch, to_device
from learner.config import LearnerConfig
from learner.dreamer_step import DreamerStep, Update
from learner.optimizer import learning_rate
from replay.step import FLAGS
from tests.parity.check import Check
from tests.parity.official_config import agent_config, loss_name, optimizer_config, spaces
from world_models.distributions import BoundedNormal
from world_models.dreamer.acting import ActingModel, Carry
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.draws import Draws
from world_models.dreamer.official_names import export_official, import_official, official_names, to_official, trainable
from world_models.dreamer.rssm import State

# A gradient this far below the tensor's largest may come out with the other sign; the README of the vectors measured
# 1e-5 between float32 and float64.
NOISE = 1e-4
METRICS = {
    "adv": "imagination/advantage",
    "adv_std": "imagination/advantage_std",
    "adv_mag": "imagination/advantage_magnitude",
    "con": "imagination/continue",
    "rew": "imagination/reward",
    "ret": "imagination/return",
    "ret_min": "imagination/return_min",
    "ret_max": "imagination/return_max",
    "ret_rate": "imagination/return_rate",
    "slowval": "imagination/slow_value",
    "tar": "imagination/target",
    "val": "imagination/value",
    "weight": "imagination/weight",
    "dyn_ent": "dynamics_entropy",
    "rep_ent": "representation_entropy",
    "opt/grad_norm": "optimizer/grad_norm",
    "opt/grad_rms": "optimizer/grad_rms",
    "opt/param_rms": "optimizer/param_rms",
    "opt/update_rms": "optimizer/update_rms",
}


def check_agent(check: Check, compiled: bool = False) -> None:
    """Load the file's parameters, take one `DreamerStep` on its batch with its samples, compare everything. `compiled`:
    with the imagined steps of `learner.compile`, which must be possible here."""
    fields = check.json()
    observation, action = spaces(check.json("obs_space")), spaces(check.json("act_space"))
    config = agent_config(fields)
    agent = Dreamer(observation, action, config)
    import_official(agent, check.inputs("params/"))
    check_acting(check, copy.deepcopy(agent))

    data = check.inputs("data/")
    arrays = {key: data[key] for key in (*observation, *action, *FLAGS, "consec")}
    # Of the latents that replay stores, those of the context column alone are read.
    arrays |= {key: data[f"dyn/{key}"][:, 0] for key in ("deter", "stoch")}
    batch = to_device(arrays, observation, action, config.rssm.classes, torch.device("cpu"))
    assert batch.steps["reward"].shape == (int(check.input("B")), int(check.input("T")))
    draws = Draws(
        check.tensor("samples/post_index").long(),
        check.tensor("samples/img_index").long(),
        check.tensors("samples/img_act/"),
        forced=True,
    )
    check_loss_gradients(check, copy.deepcopy(agent), batch, draws)
    rows, columns = batch.steps["is_first"].shape
    learner = LearnerConfig(
        batch_size=rows, batch_length=columns, optimizer=optimizer_config(fields["opt"]), device="cpu",
        precision="float32", compile=compiled,
    )  # fmt: skip
    step = DreamerStep(agent, learner)
    state = State(check.tensor("carry/dyn/deter"), check.tensor("carry/dyn/stoch"))
    step.carry = Carry(state, check.tensors("carry/prevact/"))  # garbage, to be ignored as nothing continues
    update = step(batch, draws)
    assert not compiled or getattr(agent.rssm.compiled_steps, "taken", 0) == config.imagination_length, step.compiling

    check_losses(check, agent, update.output)
    check_world_model(check, agent, update.output)
    check_imagination(check, agent, update.output)
    check_metrics(check, agent, update)
    check_parameters(check, step)
    check.compare("out/replay/dyn/deter", update.latents["deter"])
    check.compare("out/replay/dyn/stoch", update.output.sequence.stoch)
    check.compare("out/replay/stepid", data["stepid"][:, 1:], "exact")
    check.compare("out/carry/dyn/deter", update.carry.state.deter)
    check.compare("out/carry/dyn/stoch", update.carry.state.stoch)
    for key, value in update.carry.action.items():
        check.compare(f"out/carry/prevact/{key}", value)


def check_losses(check: Check, agent: Dreamer, output: Output) -> None:
    for name, loss in output.losses.items():
        check.compare(f"out/loss/{loss_name(name)}", loss)
        check.compare(f"out/metrics/loss/{loss_name(name)}", exact_mean(loss))
    total = agent.total({name: loss.detach().double() for name, loss in output.losses.items()}).float()
    check.compare("out/total", total)
    check.compare("out/metrics/opt/loss", total)


def exact_mean(x: Tensor) -> Tensor:
    """Mean summed in float64: the order of a float32 sum costs 1e-5."""
    return x.detach().double().mean().float()


def check_world_model(check: Check, agent: Dreamer, output: Output) -> None:
    values, sequence = output.values, output.sequence
    outputs: dict[str, Any] = {
        "tokens": values["tokens"],
        "deter": sequence.deter,
        "post_logit": sequence.posterior_logits,
        "prior_logit": values["prior_logits"],
        "rep_rew": values["replay_reward"].pred(),
        "rep_con": values["replay_continue"].prob(),
    }
    for key, dist in values["reconstruction"].items():
        outputs[f"recon/{key}"] = dist.pred()
    if "replayed" in values:
        replayed = values["replayed"].values
        outputs |= {"rep_value": replayed["value"], "rep_slowvalue": replayed["slow_value"]}
        outputs |= {"rep_ret": replayed["return"], "rep_boot": values["bootstrap"]}
    for name, value in outputs.items():
        check.compare(f"out/inter/{name}", value)


def check_imagination(check: Check, agent: Dreamer, output: Output) -> None:
    values, imagined = output.values, output.values["imagined"]
    losses, inner = values["imagination"].losses, values["imagination"].values
    outputs: dict[str, Any] = {
        "deter": imagined.features[:, 1:, : agent.config.rssm.deter],
        "logit": imagined.logits,
        "rew": values["reward"],
        "con": values["continue"],
        "value": inner["value"],
        "slowvalue": inner["slow_value"],
        "ret": inner["return"],
        "loss/policy": losses["policy"],
        "loss/value": losses["value"],
    }
    for key, dist in inner["policy"].items():
        outputs |= {f"logpi/{key}": dist.logp(imagined.actions[key]), f"ent/{key}": dist.entropy()}
        if isinstance(dist, BoundedNormal):
            outputs |= {f"polmean/{key}": dist.mean, f"polstd/{key}": dist.std}
        else:
            outputs[f"pollogits/{key}"] = dist.logits
    for name, value in outputs.items():
        check.compare(f"out/inter/img_{name}", value)


def check_metrics(check: Check, agent: Dreamer, update: Update) -> None:
    names = dict(METRICS)
    for key in agent.action_space:
        names |= {f"ent/{key}": f"imagination/entropy/{key}", f"rand/{key}": f"imagination/randomness/{key}"}
    for theirs, ours in names.items():
        if ours in update.metrics:
            check.compare(f"out/metrics/{theirs}", update.metrics[ours])
    parameters = sum(p.numel() for _, p in trainable(agent))
    check.compare("out/metrics/opt/param_count", np.float32(parameters), "exact")
    check.compare("out/metrics/opt/updates", 1, "exact")


def check_parameters(check: Check, step: DreamerStep) -> None:
    """Gradients before clipping, their norms, the optimiser's state, and every number after the update."""
    agent = step.agent
    names = official_names(agent)
    rate = float(learning_rate(step.optimizer.config, torch.zeros(()).double()))
    grads: dict[str, np.ndarray] = {}
    for ours, p in trainable(agent):
        grads[names[ours]] = to_official(agent, ours, p.grad if p.grad is not None else torch.zeros_like(p))
    squares: dict[str, float] = {}
    for name, grad in grads.items():
        check.compare(f"out/grad/{name}", grad, "gradient")
        square = float(np.square(grad, dtype=np.float64).sum())
        for module in (name.split("/")[0], "_all"):
            squares[module] = squares.get(module, 0.0) + square
    for module, square in squares.items():
        check.compare(f"out/gradnorm/{module}", np.sqrt(square), "norms", scale=np.sqrt(square))

    noise = {name: np.abs(grad) < NOISE * np.abs(grad).max(initial=0.0) for name, grad in grads.items()}
    for name, value in export_official(agent).items():
        module, rest = name.split("/", 1)
        at = f"out/new_params/{name}"
        if module == "slowval_count":
            check.compare(at, value.astype(np.int32), "exact")
        elif module == "retnorm":
            check.compare(at, value)
        else:  # the slow value follows flips of the value
            slow = module == "slowval"
            step_size = rate * (agent.config.slow_rate if slow else 1)
            check.compare(
                at, value, "parameters", scale=np.maximum(1, np.abs(value) / 8),
                noise=noise[f"val/{rest}" if slow else name], step=step_size,
            )  # fmt: skip
    check_moments(check, step, noise)


def check_moments(check: Check, step: DreamerStep, noise: dict[str, np.ndarray]) -> None:
    """The official chain numbers its states; those with a tensor per parameter are nu, then mu (golden files: nu)."""
    agent, optimizer, at = step.agent, step.optimizer, "out/new_opt/opt"
    names, count = official_names(agent), np.int32(optimizer.count)
    states = check.groups(f"{at}/state/") or ["1", "2", "3"]
    tensors = [state for state in states if check.names(f"{at}/state/{state}/1/")] or states[:2]
    for state, kind, moments in zip(tensors, ("nu", "mu"), (optimizer.nu, optimizer.mu), strict=False):
        check.compare(f"{at}/state/{state}/0", count, "exact")
        for ours, value in zip(optimizer.names, moments, strict=True):
            name = names[ours]
            array, place = to_official(agent, ours, value), f"{at}/state/{state}/1/{name}"
            if kind == "nu":
                check.compare(place, array, "second_moment")
            else:
                check.compare(place, array, "momentum", noise=noise[name], step=1 - optimizer.config.beta1)
    for state in states:
        if state not in tensors:
            check.compare(f"{at}/state/{state}/count", count, "exact")
    check.compare(f"{at}/step/value", np.int32(step.updates), "exact")


def check_loss_gradients(check: Check, agent: Dreamer, batch: DeviceBatch, draws: Draws) -> None:
    """Gradient norm of every single loss in every module: zeros show where gradients are stopped."""
    output = agent.loss(batch.steps, batch.start, batch.previous_action, draws)
    losses = {loss_name(name): loss.mean() for name, loss in output.losses.items()}
    names, parameters = official_names(agent), dict(trainable(agent))
    modules = sorted({names[ours].split("/")[0] for ours in parameters})
    at = "out/loss_module_gradnorm"
    rows, columns = check.labels(f"{at}/losses", list(losses)), check.labels(f"{at}/modules", modules)
    matrix = np.zeros((len(rows), len(columns)))
    for i, loss in enumerate(rows):
        grads = torch.autograd.grad(losses[loss], list(parameters.values()), retain_graph=True, allow_unused=True)
        for ours, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                matrix[i, columns.index(names[ours].split("/")[0])] += float(grad.double().square().sum())
    matrix = np.sqrt(matrix)
    check.compare(f"{at}/matrix", matrix, "norms", scale=matrix)
    scales = {loss_name(name): getattr(agent.config.loss_scales, name.split("/")[0]) for name in output.losses}
    check.compare("out/loss_scales", np.array([scales[name] for name in rows], np.float64))


def check_acting(check: Check, agent: Dreamer) -> None:
    """Acting with the parameters before the update: latents and actions forced, the carried action the sampled one."""
    obs, index = check.tensors("policy/obs/"), check.tensor("policy/index").long()
    actions = check.tensors("policy/act/")
    model = ActingModel.sharing(agent)
    carry = model.initial(len(index))
    rows: dict[str, list[Tensor]] = {}
    for step in range(index.shape[1]):
        now = {key: value[:, step] for key, value in obs.items()}
        carry, _, dists = model.act(carry, now, now["is_first"], index[:, step], None)
        carry = Carry(carry.state, {key: value[:, step] for key, value in actions.items()})
        parts = {"deter": carry.state.deter}
        for key, dist in dists.items():
            if isinstance(dist, BoundedNormal):
                parts |= {f"mean/{key}": dist.mean, f"std/{key}": dist.std}
            else:
                parts[f"logits/{key}"] = dist.logits
        for name, value in parts.items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        check.compare(f"policy/{name}", torch.stack(values, 1))
