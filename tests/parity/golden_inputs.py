"""Inputs in the schema of the official vectors, of any size and with any key names, drawn from a seed.

Parameters are redrawn, so that they do not look like a fresh initialisation: biases not zero, gains not one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tests.parity.official_config import agent_config, spaces
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.official_names import export_official

Arrays = dict[str, np.ndarray]


def space(dtype: str, *shape: int, classes: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "discrete": classes > 0, "classes": classes}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes and key names of one set."""

    seed: int = 0
    observation: Mapping[str, Any] = field(
        default_factory=lambda: {
            "pose": space("float32", 2),
            "gear": space("int32", classes=3),
            "view": space("uint8", 12, 12, 1, classes=255),
        }
    )
    action: Mapping[str, Any] = field(
        default_factory=lambda: {"steer": space("float32", 2), "button": space("int32", classes=3)}
    )
    deter: int = 8
    hidden: int = 6
    stoch: int = 3
    classes: int = 4
    blocks: int = 2
    units: int = 6
    layers: int = 1
    rssm_layers: int = 1
    bins: int = 11
    batch: int = 2
    length: int = 4
    horizon: int = 3

    def official(self) -> dict[str, Any]:
        """The configuration as the official program writes it."""
        net = {"units": self.units, "layers": self.layers, "act": "silu", "norm": "rms", "winit": "trunc_normal_in"}
        conv = {"depth": 2, "mults": [1, 2], "kernel": 3, "outer": False, "strided": False}
        rssm = {"deter": self.deter, "hidden": self.hidden, "stoch": self.stoch, "classes": self.classes,
                "blocks": self.blocks, "unimix": 0.02, "free_nats": 0.5, "outscale": 1.0, "absolute": False,
                "imglayers": 1, "obslayers": self.rssm_layers, "dynlayers": self.rssm_layers}  # fmt: skip
        two_hot = net | {"output": "symexp_twohot", "outscale": 0.0, "bins": self.bins}
        loss = {"slowtar": False, "lam": 0.9, "slowreg": 0.5}
        return {
            "dyn": {"typ": "rssm", "rssm": rssm},
            "enc": {"typ": "simple", "simple": net | conv | {"symlog": True}},
            "dec": {"typ": "simple", "simple": net | conv | {"bspace": self.blocks, "outscale": 1.0}},
            "rewhead": two_hot,
            "conhead": net | {"output": "binary", "outscale": 1.0},
            "value": two_hot,
            "policy": net | {"minstd": 0.2, "maxstd": 0.9, "outscale": 0.01, "unimix": 0.01},
            "imag_loss": loss | {"actent": 0.01},
            "repl_loss": loss,
            "imag_last": 0,
            "imag_length": self.horizon,
            "horizon": 50,
            "contdisc": True,
            "ac_grads": False,
            "slowvalue": {"rate": 0.1, "every": 1},
            "retnorm": {"impl": "perc", "rate": 0.1, "limit": 0.1, "perclo": 10.0, "perchi": 90.0, "debias": False},
            "valnorm": {"impl": "none", "rate": 0.01, "limit": 1e-8},
            "advnorm": {"impl": "none", "rate": 0.01, "limit": 1e-8},
            "reward_grad": True,
            "repval_loss": True,
            "repval_grad": True,
            "loss_scales": {"rec": 0.9, "rew": 1.1, "con": 1.2, "dyn": 0.8, "rep": 0.2, "policy": 1.3, "value": 0.7,
                            "repval": 0.4},
            "opt": optimizer(lr=1e-3, warmup=0),
        }  # fmt: skip

    def agent(self, action: Mapping[str, Any] | None = None) -> Dreamer:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Dreamer(spaces(self.observation), spaces(action or self.action), agent_config(self.official()))


def optimizer(**changes: Any) -> dict[str, Any]:
    default = {"lr": 1e-2, "agc": 0.3, "eps": 1e-20, "beta1": 0.9, "beta2": 0.99, "wd": 0.0}
    return default | {"momentum": True, "schedule": "const", "warmup": 0, "anneal": 0} | changes


def text(value: Any) -> np.ndarray:
    return np.array(json.dumps(value))


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    draw = scale * rng.standard_normal(shape)
    return (np.round(draw * 256) / 256).astype(np.float32)  # few digits, so that the files pack well


def one_hot(rng: np.random.Generator, *shape: int, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[rng.integers(classes, size=shape)]


def values(rng: np.random.Generator, keys: Mapping[str, Any], *lead: int) -> Arrays:
    """Something legal for every key."""
    out = {}
    for key, fields in keys.items():
        shape = (*lead, *fields["shape"])
        if fields["dtype"] == "float32":
            out[key] = normal(rng, *shape, scale=1.5)
        else:
            out[key] = rng.integers(fields["classes"], size=shape).astype(fields["dtype"])
    return out


def under(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: value for name, value in arrays.items()}


def parameters(rng: np.random.Generator, agent: Dreamer) -> Arrays:
    out: Arrays = {}
    for name, value in export_official(agent).items():
        if name.startswith("slowval_count"):
            out[name] = np.zeros((), np.int32)
        elif name.startswith("retnorm"):
            out[name] = np.array(-0.3 if "/lo/" in name else 0.8, np.float32)
        elif name.endswith("/scale"):
            out[name] = 1 + normal(rng, *value.shape, scale=0.2)
        elif name.endswith("head/logits/bias") and len(value) == agent.config.value.bins:
            # Little mass on the far bins, whose values reach 4.85e8.
            out[name] = (normal(rng, len(value)) - 1.6 * np.abs(np.linspace(-20, 20, len(value)))).astype(np.float32)
        elif name.endswith("/bias"):
            out[name] = normal(rng, *value.shape, scale=0.2)
        else:
            fan_in = np.prod(value.shape[:-1])
            out[name] = normal(rng, *value.shape, scale=fan_in**-0.5)
    return out


def of_agent(plan: Plan) -> Arrays:
    rng, b, t = np.random.default_rng(plan.seed), plan.batch, plan.length
    flags = {key: space("bool") for key in ("is_first", "is_last", "is_terminal")} | {"reward": space("float32")}
    latents = {
        "dyn/deter": np.tanh(normal(rng, b, 1 + t, plan.deter)),
        "dyn/stoch": one_hot(rng, b, 1 + t, plan.stoch, classes=plan.classes),
    }
    data = values(rng, plan.observation, b, 1 + t) | values(rng, plan.action, b, 1 + t) | latents
    data |= {key: rng.random((b, 1 + t)) < 0.2 for key in ("is_first", "is_last", "is_terminal")}
    data |= {"reward": normal(rng, b, 1 + t), "consec": np.zeros((b, 1 + t), np.int32)}
    data |= {"stepid": rng.integers(256, size=(b, 1 + t, 20)).astype(np.uint8)}
    acting = values(rng, plan.observation, 2, 4) | {key: np.zeros((2, 4), bool) for key in flags if key != "reward"}
    acting["is_first"][:, [0, 2]] = True
    return (
        {"config": text(plan.official()), "obs_space": text({**plan.observation, **flags})}
        | {"act_space": text(plan.action), "B": np.array(b), "T": np.array(t)}
        | under("params/", parameters(rng, plan.agent()))
        | under("data/", data)
        | under("carry/", {key: value[:, 0][::-1].copy() for key, value in latents.items()})
        | under("carry/prevact/", values(rng, plan.action, b))
        | {
            "samples/post_index": rng.integers(plan.classes, size=(b, t, plan.stoch)).astype(np.int32),
            "samples/img_index": rng.integers(plan.classes, size=(b * t, plan.horizon, plan.stoch)).astype(np.int32),
        }
        | under("samples/img_act/", values(rng, plan.action, b * t, plan.horizon + 1))
        | under("policy/obs/", acting)
        | under("policy/act/", values(rng, plan.action, 2, 4))
        | {"policy/index": rng.integers(plan.classes, size=(2, 4, plan.stoch)).astype(np.int32)}
    )


def of_rssm(plan: Plan) -> Arrays:
    rng, b, t, tokens = np.random.default_rng(plan.seed), plan.batch, plan.length, plan.units
    narrow = Plan(**{**vars(plan), "observation": {"x": space("float32", 1)}})  # its tokens are `units` wide
    every = parameters(rng, narrow.agent())

    def state(*lead: int) -> Arrays:
        return {
            "deter": np.tanh(normal(rng, *lead, plan.deter)),
            "stoch": one_hot(rng, *lead, plan.stoch, classes=plan.classes),
        }

    width = sum(s.width for s in spaces(plan.action).values())
    logits = (12, plan.stoch, plan.classes)
    return (
        {"config": text({"rssm": plan.official()["dyn"]["rssm"], "act_space": plan.action, "tokens": tokens})}
        | under("params/", {name: value for name, value in every.items() if name.startswith("dyn/")})
        | under("core/in/", state(b) | {"action": normal(rng, b, width, scale=1.5)})
        | {"prior/in/deter": state(b)["deter"], "post/in/deter": state(b)["deter"]}
        | {"post/in/tokens": normal(rng, b, tokens), "kl/in/post": normal(rng, *logits)}
        | {"kl/in/prior": normal(rng, *logits, scale=0.5), "in/tokens": normal(rng, b, t, tokens)}
        | under("in/carry/", state(b))
        | under("in/action/", values(rng, plan.action, b, t))
        | {"in/reset": rng.random((b, t)) < 0.3, "observe/grad_w": normal(rng, plan.stoch, plan.classes)}
        | {"observe/post_index": rng.integers(plan.classes, size=(b, t, plan.stoch)).astype(np.int32)}
        | under("imagine/in/carry/", state(b))
        | under("imagine/in/action/", values(rng, plan.action, b, 3))
        | {"imagine/index": rng.integers(plan.classes, size=(b, 3, plan.stoch)).astype(np.int32)}
    )


def of_nets(plan: Plan) -> Arrays:
    rng, b, t = np.random.default_rng(plan.seed), plan.batch, plan.length
    discrete = {key: fields for key, fields in plan.action.items() if fields["discrete"]}
    continuous = {key: fields for key, fields in plan.action.items() if not fields["discrete"]}
    config = plan.official()
    names = ("enc", "dec", "rewhead", "conhead", "policy", "value")
    config = {name: config[name].get("simple", config[name]) for name in names}
    config |= {"deter": plan.deter, "stoch": plan.stoch, "classes": plan.classes, "obs_space": plan.observation}
    config |= {"act_space_cont": continuous, "act_space_disc": discrete}
    params: Arrays = {}
    for name, actions in (("polc", continuous), ("pold", discrete)):
        for key, value in parameters(rng, plan.agent(actions)).items():
            if key.split("/")[0] in ("enc", "dec", "rew", "con", "val"):
                params[key] = value
            elif key.startswith("pol/"):
                params[f"{name}/{key.removeprefix('pol/')}"] = value
    deter = np.tanh(normal(rng, b, t, plan.deter))
    stoch = one_hot(rng, b, t, plan.stoch, classes=plan.classes)
    tokens = plan.agent().encoder.width
    return (
        {"config": text(config), "in/reset": np.zeros((b, t), bool), "in/feat/deter": deter, "in/feat/stoch": stoch}
        | under("params/", params)
        | under("in/obs/", values(rng, plan.observation, b, t))
        | {"in/reward_target": normal(rng, b, t, scale=3), "in/con_target": rng.random((b, t)).astype(np.float32)}
        | under("in/action_cont/", values(rng, continuous, b, t))
        | under("in/action_disc/", values(rng, discrete, b, t))
        | {"grad_objective/w_tokens": normal(rng, tokens)}
    )


def of_init(plan: Plan) -> Arrays:
    config = plan.official()
    config = {name: config[name] for name in ("rewhead", "conhead", "policy", "value", "enc", "dec")}
    config |= {"rssm": plan.official()["dyn"]["rssm"], "obs_space": plan.observation, "act_space": plan.action}
    return {"config": text(config)}
