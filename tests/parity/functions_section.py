"""functions.npz: squashing, distributions, layers, returns, normalisers, the slow value, the train ratio."""

import numpy as np
import torch
from torch import Tensor, nn

from learner.train_ratio import TrainRatio
from tests.parity.check import Check
from tests.parity.official_config import normalize_config
from world_models.distributions import (
    Binary,
    BoundedNormal,
    Categorical,
    SquaredError,
    TwoHot,
    categorical_entropy,
    categorical_kl,
    one_hot,
    straight_through,
    symexp,
    symlog,
    two_hot_bins,
    unimix,
)
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.return_scale import ReturnScale
from world_models.layers import NORM_EPS, BlockLinear, Conv2d, concat_dict, rms_norm
from world_models.returns import lambda_return
from world_models.space import Space, Spaces


def check_functions(check: Check) -> None:
    """Every group of arrays, by the start of its name."""
    groups = {
        "symlog": check_squash,
        "symexp": check_squash,
        "twohot": check_two_hot,
        "onehot": check_one_hot,
        "categorical": check_categorical,
        "bounded_normal": check_bounded_normal,
        "binary": check_binary,
        "mse": check_squared_error,
        "rmsnorm": check_rms_norm,
        "silu": check_silu,
        "blocklinear": check_block_linear,
        "conv2d": check_conv2d,
        "dictconcat": check_dict_concat,
        "lambda_return": check_returns,
        "normalize": check_normalize,
        "slowmodel": check_slow_model,
        "ratio": check_train_ratio,
    }
    for group in check.groups():
        for start, section in groups.items():
            if group.startswith(start):
                section(check, group)


def check_squash(check: Check, at: str) -> None:
    function = symlog if at.startswith("symlog") else symexp
    check.compare(f"{at}/y", function(check.tensor(f"{at}/x")))


def check_two_hot(check: Check, at: str) -> None:
    logits = check.tensor(f"{at}/logits").requires_grad_()
    bins = two_hot_bins(logits.shape[-1])
    dist = TwoHot(logits, bins)
    loss = dist.loss(check.tensor(f"{at}/target"))
    loss.sum().backward()
    check.compare(f"{at}/bins", bins)
    check.compare(f"{at}/loss", loss)
    check.compare(f"{at}/pred", dist.pred(), "two_hot", scale=(dist.log_probs.exp() * bins.abs()).sum(-1))
    check.compare(f"{at}/dloss_dlogits", logits.grad, "gradient")


def check_one_hot(check: Check, at: str) -> None:
    mix = float(check.input(f"{at}/unimix"))
    logits = check.tensor(f"{at}/logits").requires_grad_()
    index = check.tensor(f"{at}/index").long()
    ours, other = unimix(logits, mix), unimix(check.tensor(f"{at}/logits2"), mix)
    kl, entropy = categorical_kl(ours, other), categorical_entropy(ours)
    sample = straight_through(ours.exp(), index)
    (sample * check.tensor(f"{at}/st_weight")).sum().backward()
    check.compare(f"{at}/dist_logits", ours)
    check.compare(f"{at}/probs", ours.exp())
    check.compare(f"{at}/logp", ours.gather(-1, index[..., None])[..., 0])
    check.compare(f"{at}/entropy", entropy)
    check.compare(f"{at}/entropy_sum", entropy.sum(-1))
    check.compare(f"{at}/kl", kl)
    check.compare(f"{at}/kl_sum", kl.sum(-1))
    check.compare(f"{at}/pred", one_hot(ours.argmax(-1), ours.shape[-1]), "exact")
    check.compare(f"{at}/st_value", sample)
    check.compare(f"{at}/st_dlogits", logits.grad, "gradient")


def check_categorical(check: Check, at: str) -> None:
    dist = Categorical(check.tensor(f"{at}/logits"))
    assert dist.entropy_range is not None
    check.compare(f"{at}/logp", dist.logp(check.tensor(f"{at}/action")))
    check.compare(f"{at}/entropy", dist.entropy())
    check.compare(f"{at}/pred", dist.pred(), "exact")
    for name, bound in zip(("minent", "maxent"), dist.entropy_range, strict=True):
        check.compare(f"{at}/{name}", bound)


def check_bounded_normal(check: Check, at: str) -> None:
    mean, std = check.tensor(f"{at}/raw_mean"), check.tensor(f"{at}/raw_std")
    limits = float(check.input(f"{at}/minstd")), float(check.input(f"{at}/maxstd"))
    dist, single = BoundedNormal(mean, std, *limits), BoundedNormal(mean, std, *limits, event=0)
    assert single.entropy_range is not None
    check.compare(f"{at}/mean", dist.mean)
    check.compare(f"{at}/std", dist.std)
    check.compare(f"{at}/pred", dist.pred())
    check.compare(f"{at}/logp", dist.logp(check.tensor(f"{at}/action")))
    check.compare(f"{at}/entropy", dist.entropy())
    check.compare(f"{at}/agg_has_minent", dist.entropy_range is not None, "exact")
    for name, bound in zip(("minent", "maxent"), single.entropy_range, strict=True):
        check.compare(f"{at}/{name}", np.full(mean.shape, bound))


def check_binary(check: Check, at: str) -> None:
    dist = Binary(check.tensor(f"{at}/logit"))
    check.compare(f"{at}/loss", dist.loss(check.tensor(f"{at}/target")))
    check.compare(f"{at}/prob1", dist.prob())
    check.compare(f"{at}/pred", dist.pred(), "exact")


def check_squared_error(check: Check, at: str) -> None:
    mean, target = check.tensor(f"{at}/mean"), check.tensor(f"{at}/target")
    check.compare(f"{at}/loss", SquaredError(mean, event=1).loss(target))
    check.compare(f"{at}/symlog_loss", SquaredError(mean, event=1, symlog_target=True).loss(target))


def check_rms_norm(check: Check, at: str) -> None:
    check.compare(f"{at}/y", rms_norm(check.tensor(f"{at}/x"), check.tensor(f"{at}/scale")))
    check.compare(f"{at}/eps", NORM_EPS)


def check_silu(check: Check, at: str) -> None:
    check.compare(f"{at}/y", nn.functional.silu(check.tensor(f"{at}/x")))


def check_block_linear(check: Check, at: str) -> None:
    kernel, x = check.tensor(f"{at}/kernel"), check.tensor(f"{at}/x")
    layer = BlockLinear(x.shape[-1], kernel.shape[0] * kernel.shape[2], kernel.shape[0])
    _fill(layer, kernel, check.tensor(f"{at}/bias"))
    check.compare(f"{at}/y", layer(x))


def check_conv2d(check: Check, at: str) -> None:
    kernel = check.tensor(f"{at}/kernel").permute(3, 2, 0, 1)  # HWIO to OIHW
    layer = Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2])
    _fill(layer, kernel, check.tensor(f"{at}/bias"))
    check.compare(f"{at}/y", layer(check.tensor(f"{at}/x").permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def _fill(layer: BlockLinear | Conv2d, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


def check_dict_concat(check: Check, at: str) -> None:
    values = {key: check.tensor(f"{at}/{key}") for key in check.groups(f"{at}/") if key != "out"}
    integers = {key: x for key, x in values.items() if x.dtype == torch.int32}
    others = sum(x[0].numel() * (2 if x.dtype == torch.bool else 1) for key, x in values.items() if key not in integers)
    # The file does not say how many classes an integer key has: what the output's width leaves.
    left = check.arrays[f"{at}/out"].shape[-1] - others
    classes = left // max(1, sum(x[0].numel() for x in integers.values()))
    spaces: Spaces = {
        key: Space(dtype=x.numpy().dtype, shape=tuple(x.shape[1:]), classes=classes if key in integers else 0)
        for key, x in values.items()
    }
    check.compare(f"{at}/out", concat_dict(spaces, values, squash=True))


def check_returns(check: Check, at: str) -> None:
    for case in check.groups(f"{at}/"):
        names = ("last", "term", "rew", "val", "boot", "disc", "lam")  # the formula does not use `val`
        x = {name: check.input(f"{at}/{case}/{name}") for name in names}
        last, term, rew, boot = (torch.from_numpy(x[name]) for name in ("last", "term", "rew", "boot"))
        check.compare(f"{at}/{case}/ret", lambda_return(last, term, rew, boot, float(x["disc"]), float(x["lam"])))


def check_normalize(check: Check, at: str) -> None:
    scale = ReturnScale(normalize_config(check.json(f"{at}/config")))
    rows: dict[str, list[Tensor | float]] = {}
    for name, value in zip(("offset", "scale"), scale.stats(), strict=True):
        check.compare(f"{at}/{name}_before", torch.as_tensor(value))
    state = {"lo": "low", "hi": "high", "mean": "mean", "sqrs": "square", "corr": "correction"}
    for x in check.tensor(f"{at}/x"):
        scale.update(x)
        offset, size = scale.stats()
        now = {"offset": offset, "scale": size} | {
            f"state/norm/{theirs}/value": getattr(scale, ours).clone()
            for theirs, ours in state.items()
            if hasattr(scale, ours)
        }
        for name, value in now.items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        check.compare(f"{at}/{name}", torch.stack([torch.as_tensor(value) for value in values]))


class SlowOnly(Dreamer):
    """An agent reduced to what `update_slow` moves."""

    def __init__(self, config: DreamerConfig, start: dict[str, Tensor]):
        nn.Module.__init__(self)
        self.config = config
        self.value, self.slow_value = (  # type: ignore[assignment]
            nn.ParameterList([nn.Parameter(start[name].clone()) for name in sorted(start)]) for _ in range(2)
        )
        self.register_buffer("slow_count", torch.zeros((), dtype=torch.int64))


def check_slow_model(check: Check, at: str) -> None:
    config = DreamerConfig(slow_rate=float(check.input(f"{at}/rate")), slow_every=int(check.input(f"{at}/every")))
    start, source = check.tensors(f"{at}/init/"), check.tensors(f"{at}/source/")
    agent = SlowOnly(config, start)
    slow: dict[str, list[Tensor]] = {name: [] for name in sorted(start)}
    for call in range(len(next(iter(source.values())))):
        with torch.no_grad():
            for name, p in zip(slow, agent.value.parameters(), strict=True):
                p.copy_(source[name][call])
        agent.update_slow()
        for name, p in zip(slow, agent.slow_value.parameters(), strict=True):
            slow[name].append(p.detach().clone())
    for name, values in slow.items():
        check.compare(f"{at}/slow/{name}", torch.stack(values))


def check_train_ratio(check: Check, at: str) -> None:
    for case in check.groups(f"{at}/"):
        ratio = TrainRatio(float(check.input(f"{at}/{case}/ratio")))
        repeats = [ratio(int(step)) for step in check.input(f"{at}/{case}/step")]
        check.compare(f"{at}/{case}/repeats", repeats, "exact")
