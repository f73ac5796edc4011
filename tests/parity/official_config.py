"""The configuration of danijar/dreamerv3 (JSON in the vectors) as ours, and its parameters loaded into our modules."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from learner.config import OptimizerConfig
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import (
    DecoderConfig,
    DreamerConfig,
    EncoderConfig,
    HeadConfig,
    LossScales,
    NormalizeConfig,
    PolicyConfig,
    RSSMConfig,
)
from world_models.dreamer.official_names import export_official, import_official
from world_models.space import Space, Spaces

Fields = Mapping[str, Any]

FLAGS = ("is_first", "is_last", "is_terminal", "reward")
LOSS_NAMES = {
    "dynamics": "dyn",
    "representation": "rep",
    "reward": "rew",
    "continuation": "con",
    "policy": "policy",
    "value": "value",
    "replay_value": "repval",
}
# Options of the official program that Nexus has in one form only.
_ONLY = {
    "act": "silu",
    "norm": "rms",
    "winit": "trunc_normal_in",
    "outer": False,
    "strided": False,
    "absolute": False,
    "typ": ("rssm", "simple"),
    "momentum": True,
    "policy_dist_disc": "categorical",
    "policy_dist_cont": "bounded_normal",
    "ac_grads": False,
    "replay_context": 1,
}


def _understood(fields: Fields, where: str, **only: Any) -> None:
    for name, allowed in (_ONLY | only).items():
        options = allowed if isinstance(allowed, tuple) else (allowed,)
        if name in fields and fields[name] not in options:
            raise ValueError(f"{where}.{name}={fields[name]!r}: Nexus has {' or '.join(map(repr, options))} only.")


def loss_name(ours: str) -> str:
    """Official name of one of our losses; reconstruction losses carry the observation key."""
    return LOSS_NAMES.get(ours) or ours.removeprefix("reconstruction/")


def spaces(fields: Fields) -> Spaces:
    """Spaces without the flags and the reward, which are no model inputs."""
    out = {key: Space.from_json(value) for key, value in fields.items() if key not in FLAGS}
    # The official program calls pixels discrete with 255 classes; an image is not.
    return {key: replace(space, classes=0) if space.is_image else space for key, space in out.items()}


def rssm_config(fields: Fields) -> RSSMConfig:
    _understood(fields, "rssm", outscale=1.0)
    names = ("deter", "hidden", "stoch", "classes", "blocks", "unimix", "free_nats")
    return RSSMConfig(
        **{name: fields[name] for name in names},
        dynamics_layers=fields["dynlayers"],
        prior_layers=fields["imglayers"],
        posterior_layers=fields["obslayers"],
    )


def encoder_config(fields: Fields) -> EncoderConfig:
    _understood(fields, "enc")
    names = ("depth", "layers", "units", "kernel", "symlog")
    return EncoderConfig(mults=tuple(fields["mults"]), **{name: fields[name] for name in names})


def decoder_config(fields: Fields) -> DecoderConfig:
    _understood(fields, "dec", outscale=1.0)
    names = ("depth", "layers", "units", "kernel")
    return DecoderConfig(
        mults=tuple(fields["mults"]),
        blocks=fields["bspace"],
        symlog=fields.get("symlog", True),
        **{name: fields[name] for name in names},
    )


def head_config(fields: Fields) -> HeadConfig:
    _understood(fields, "head", output=("symexp_twohot", "binary"))
    bins = {"bins": fields["bins"]} if "bins" in fields else {}
    return HeadConfig(layers=fields["layers"], units=fields["units"], out_scale=fields["outscale"], **bins)


def policy_config(fields: Fields) -> PolicyConfig:
    """The official policy head ignores its `unimix`, and so do we."""
    _understood(fields, "policy")
    return PolicyConfig(
        layers=fields["layers"],
        units=fields["units"],
        out_scale=fields["outscale"],
        min_std=fields["minstd"],
        max_std=fields["maxstd"],
    )


def normalize_config(fields: Fields) -> NormalizeConfig:
    names = {"perclo": "low", "perchi": "high"}
    return NormalizeConfig(**{names.get(name, name): value for name, value in fields.items()})


def optimizer_config(fields: Fields) -> OptimizerConfig:
    _understood(fields, "opt")
    names = ("lr", "agc", "eps", "beta1", "beta2", "schedule", "warmup", "anneal", "pmin")
    return OptimizerConfig(weight_decay=fields["wd"], **{name: fields[name] for name in names if name in fields})


def networks(fields: Fields) -> dict[str, Any]:
    """The parts that every file which has networks configures under the same names."""
    simple = {name: fields[name].get("simple", fields[name]) for name in ("enc", "dec")}
    return {
        "encoder": encoder_config(simple["enc"]),
        "decoder": decoder_config(simple["dec"]),
        "reward": head_config(fields["rewhead"]),
        "continuation": head_config(fields["conhead"]),
        "policy": policy_config(fields["policy"]),
        "value": head_config(fields["value"]),
    }


def agent_config(fields: Fields) -> DreamerConfig:
    """The whole agent."""
    _understood(fields, "agent")
    imagination, replayed = fields["imag_loss"], fields["repl_loss"]
    _understood(replayed, "repl_loss", lam=imagination["lam"], slowreg=imagination["slowreg"])
    for name in ("valnorm", "advnorm"):
        _understood(fields[name], name, impl="none")
    scales = {"rec": "reconstruction"} | {theirs: ours for ours, theirs in LOSS_NAMES.items()}
    return DreamerConfig(
        **networks(fields),
        rssm=rssm_config(fields["dyn"]["rssm"]),
        loss_scales=LossScales(**{scales[name]: value for name, value in fields["loss_scales"].items()}),
        return_scale=normalize_config(fields["retnorm"]),
        horizon=fields["horizon"],
        discount_in_continue=fields["contdisc"],
        imagination_length=fields["imag_length"],
        imagination_last=fields["imag_last"],
        lam=imagination["lam"],
        entropy=imagination["actent"],
        slow_regularizer=imagination["slowreg"],
        slow_target=imagination["slowtar"],
        slow_rate=fields["slowvalue"]["rate"],
        slow_every=fields["slowvalue"]["every"],
        reward_gradient=fields["reward_grad"],
        replay_value=fields["repval_loss"],
        replay_value_gradient=fields["repval_grad"],
    )


def load_part(agent: Dreamer, arrays: Mapping[str, np.ndarray], rename: tuple[str, str] = ("", "")) -> None:
    """Load official arrays that belong to some modules of `agent` only: all of those modules, and nothing else.

    `rename` replaces a leading module name (`polc` -> `pol`).
    """
    ours = export_official(agent)
    theirs = {re.sub(f"^{rename[0]}/", f"{rename[1]}/", name): value for name, value in arrays.items()}
    modules = {name.split("/")[0] for name in theirs}
    rest = {name: value for name, value in ours.items() if name.split("/")[0] not in modules}
    import_official(agent, rest | theirs)
