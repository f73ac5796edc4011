"""Configuration of DreamerV3. Defaults are the official ones at size200m; presets are functions over these."""

from dataclasses import dataclass, field, replace
from typing import ClassVar


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if value <= 0:
            raise ValueError(f"{type(owner).__name__}.{name}={value} must be positive; raise it.")


def _positive_stages(owner: object, mults: tuple[int, ...]) -> None:
    if not mults or min(mults) < 1:
        raise ValueError(
            f"{type(owner).__name__}.mults={mults} must be one or more numbers of at least 1, e.g. 2 3 4 4."
        )


@dataclass(frozen=True, kw_only=True)
class RSSMConfig:
    """Recurrent state-space model with a block-diagonal GRU (paper, Methods)."""

    deter: int = 8192
    """Width of the deterministic recurrent state."""
    hidden: int = 1024
    """Units of the layers inside the RSSM."""
    stoch: int = 32
    """Number of categorical latents."""
    classes: int = 64
    """Classes of each latent."""
    blocks: int = 8
    """Blocks of the GRU."""
    dynamics_layers: int = 1
    """Layers before the GRU's gates."""
    prior_layers: int = 2
    """Layers from the recurrent state to the prior."""
    posterior_layers: int = 1
    """Layers from recurrent state and observation to the posterior."""
    unimix: float = 0.01
    """Weight of the uniform distribution mixed into the latents."""
    free_nats: float = 1.0
    """KL below this many nats per step is not penalised."""

    def __post_init__(self) -> None:
        _positive(self, "deter", "hidden", "stoch", "classes", "blocks", "prior_layers", "posterior_layers")
        if self.deter % self.blocks:
            raise ValueError(f"rssm.deter={self.deter} must be a multiple of rssm.blocks={self.blocks}.")
        if self.classes > 127:
            raise ValueError(f"rssm.classes={self.classes} exceeds 127, the most that fit replay's int8; lower it.")
        if not 0 <= self.unimix < 1:
            raise ValueError(f"rssm.unimix={self.unimix} must lie in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Vector MLP and image convolutions (`encoder.py`)."""

    depth: int = 64
    """Base number of convolution channels."""
    mults: tuple[int, ...] = (2, 3, 4, 4)
    """Channel multiple per stage; each stage halves the image."""
    layers: int = 3
    """Layers of the MLP for vectors."""
    units: int = 1024
    """Units per layer."""
    kernel: int = 5
    """Size of the convolution kernels."""
    symlog: bool = True
    """Apply symlog to vectors."""

    def __post_init__(self) -> None:
        _positive(self, "depth", "layers", "units", "kernel")
        _positive_stages(self, self.mults)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Mirror image of the encoder (`decoder.py`)."""

    depth: int = 64
    """Base number of convolution channels."""
    mults: tuple[int, ...] = (2, 3, 4, 4)
    """Channel multiple per stage; each stage doubles the image."""
    layers: int = 3
    """Layers of the MLP for vectors."""
    units: int = 1024
    """Units per layer."""
    kernel: int = 5
    """Size of the convolution kernels."""
    symlog: bool = True
    """Predict vectors in symlog space."""
    blocks: int = 8
    """Blocks of the layer from the recurrent state to the first feature map."""

    def __post_init__(self) -> None:
        _positive(self, "depth", "layers", "units", "kernel", "blocks")
        _positive_stages(self, self.mults)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Reward, continue and value heads (`heads.py`)."""

    layers: int = 1
    """Hidden layers."""
    units: int = 1024
    """Units per layer."""
    out_scale: float = 1.0
    """Scale of the output layer at initialisation; 0 starts at exactly zero."""
    bins: int = 255
    """Bins of a two-hot output (unused by other outputs)."""

    def __post_init__(self) -> None:
        _positive(self, "layers", "units")
        if self.bins < 2:
            raise ValueError(f"bins={self.bins} must be at least 2; the official value is 255.")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The actor (`heads.py`)."""

    layers: int = 3
    """Hidden layers."""
    units: int = 1024
    """Units per layer."""
    out_scale: float = 0.01
    """Scale of the output layer at initialisation."""
    min_std: float = 0.1
    """Smallest standard deviation of continuous actions."""
    max_std: float = 1.0
    """Largest standard deviation of continuous actions."""

    def __post_init__(self) -> None:
        _positive(self, "layers", "units", "min_std")
        if self.max_std < self.min_std:
            raise ValueError(f"policy.max_std={self.max_std} is below policy.min_std={self.min_std}; raise it.")


@dataclass(frozen=True, kw_only=True)
class NormalizeConfig:
    """Running scale of a signal (`return_scale.py`)."""

    impl: str = "perc"
    """`perc`: percentile range; `meanstd`: mean and deviation; `none`."""
    rate: float = 0.01
    """Rate of the running average."""
    limit: float = 1.0
    """Smallest scale."""
    low: float = 5.0
    """Lower percentile."""
    high: float = 95.0
    """Upper percentile."""
    debias: bool = False
    """Correct the running average for its start at 0."""

    def __post_init__(self) -> None:
        allowed = ("perc", "meanstd", "none")
        if self.impl not in allowed:
            raise ValueError(f"normalize impl={self.impl!r} is not one of {allowed}.")


@dataclass(frozen=True, kw_only=True)
class LossScales:
    """Weight of each loss in the total."""

    reconstruction: float = 1.0
    """Prediction of every observation key."""
    reward: float = 1.0
    """Prediction of the reward."""
    continuation: float = 1.0
    """Prediction of whether the episode goes on."""
    dynamics: float = 1.0
    """KL that pulls the prior to the posterior."""
    representation: float = 0.1
    """KL that pulls the posterior to the prior."""
    policy: float = 1.0
    """REINFORCE loss of the policy."""
    value: float = 1.0
    """Value loss on imagined states."""
    replay_value: float = 0.3
    """Value loss on replayed states."""


@dataclass(frozen=True, kw_only=True)
class DreamerConfig:
    """The whole agent: networks, losses, horizon, imagination."""

    family: ClassVar[str] = "dreamer"

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    reward: HeadConfig = field(default_factory=lambda: HeadConfig(out_scale=0.0))
    continuation: HeadConfig = field(default_factory=HeadConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    value: HeadConfig = field(default_factory=lambda: HeadConfig(layers=3, out_scale=0.0))
    loss_scales: LossScales = field(default_factory=LossScales)
    return_scale: NormalizeConfig = field(default_factory=NormalizeConfig)
    horizon: int = 333
    """Discount is 1 - 1 / horizon."""
    discount_in_continue: bool = True
    """The continue head also predicts the discount, so imagination applies none of its own."""
    imagination_length: int = 15
    """Imagined steps from each state."""
    imagination_last: int = 0
    """Imagine only from this many last steps of each sequence; 0 means from all."""
    lam: float = 0.95
    """Lambda of the lambda returns."""
    entropy: float = 3e-4
    """Scale of the policy's entropy bonus."""
    slow_rate: float = 0.02
    """Rate at which the slow value tracks the fast one."""
    slow_every: int = 1
    """Updates between two updates of the slow value."""
    slow_regularizer: float = 1.0
    """Weight of the loss that keeps the value near the slow one."""
    slow_target: bool = False
    """Bootstrap from the slow value instead of the fast one."""
    reward_gradient: bool = True
    """Reward gradients reach the world model."""
    reward_heads: int = 1
    """Reward heads, trained alike; imagination is rewarded by the least of their predictions. Not in DreamerV3."""
    replay_value: bool = True
    """Also train the value on replayed sequences."""
    replay_value_gradient: bool = True
    """Gradients of the replayed value loss reach the world model."""

    def __post_init__(self) -> None:
        _positive(self, "horizon", "imagination_length", "slow_every", "reward_heads")

    @property
    def acting_parameters(self) -> int:
        """Approximate number of parameters of encoder, RSSM and policy, estimated without knowing the spaces; a whole
        agent has 1.2 to 1.8 times as many."""
        c, units = self.rssm, max(self.policy.units, self.encoder.units)
        stoch, wide = c.stoch * c.classes, 4 * self.encoder.depth
        recurrent = c.deter * (4 * c.deter // c.blocks + 3 * c.hidden)
        around = c.hidden * (2 * c.deter + stoch * 3 + 2 * c.hidden) + units * (c.deter + stoch + 6 * units)
        return recurrent + around + 16 * wide * (wide + c.hidden)


@dataclass(frozen=True, kw_only=True)
class ExplorationConfig:
    """Exploration by disagreement, as in Plan2Explore (`disagreement.py`): a way to train, no part of the model."""

    disagreement: float = 0.0
    """Weight of the intrinsic reward: the variance of an ensemble's predictions of the next latents, in units of its
    moving average on replayed steps, thus about 1 a step. 0 turns it off."""
    task: float = 1.0
    """Weight of the task's reward beside it; 0 explores without a task."""
    members: int = 8
    """Networks of the ensemble."""
    units: int = 0
    """Units per layer; 0 takes as many as the policy has."""
    layers: int = 0
    """Hidden layers; 0 takes as many as the policy has."""

    def __post_init__(self) -> None:
        for name, what in (
            ("disagreement", "turns exploration off"), ("task", "explores without a task"),
            ("units", "takes as many as the policy has"), ("layers", "takes as many as the policy has"),
        ):  # fmt: skip
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"exploration.{name}={value:g} must not be negative; 0 {what}.")
        if self.members < 2:
            raise ValueError(f"exploration.members={self.members} must be at least 2: one network agrees with itself.")
        if self.task != 1 and not self.disagreement:
            raise ValueError(
                f"exploration.task={self.task:g} weighs the task's reward against the intrinsic one, which "
                "exploration.disagreement=0 turns off; set that too, e.g. 1."
            )

    def shape(self, model: DreamerConfig) -> tuple[int, int]:
        """Units and layers of each network."""
        return self.units or model.policy.units, self.layers or model.policy.layers

    def parameters(self, model: DreamerConfig) -> int:
        """Parameters of the ensemble, those for the actions left out; 0 if it is off."""
        (units, layers), latents = self.shape(model), model.rssm.stoch * model.rssm.classes
        hidden = (model.rssm.deter + latents + 2) * units + (layers - 1) * (units + 2) * units
        return self.members * (hidden + (units + 1) * latents) if self.disagreement else 0


@dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """A penalty for leaving an older copy of the world model (`anchor.py`): a way to train, no part of the model."""

    weight: float = 0.0
    """Weight of the KL, in nats a step, of the latents from those of the copy; 0 turns it off."""
    every: int = 1000
    """Updates after which the copy is renewed; 0 keeps the model that the run has started with."""

    def __post_init__(self) -> None:
        for name, what in (("weight", "turns the penalty off"), ("every", "keeps the first copy")):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"anchor.{name}={value:g} must not be negative; 0 {what}.")


# name: deter, hidden, classes, depth, units
SIZES = {
    "size1m": (512, 64, 4, 4, 64),
    "size12m": (2048, 256, 16, 16, 256),
    "size25m": (3072, 384, 24, 24, 384),
    "size50m": (4096, 512, 32, 32, 512),
    "size100m": (6144, 768, 48, 48, 768),
    "size200m": (8192, 1024, 64, 64, 1024),
    "size400m": (12288, 1536, 96, 96, 1536),
}


def resize(
    config: DreamerConfig, *, deter: int, hidden: int, classes: int, depth: int, units: int, **rssm: int
) -> DreamerConfig:
    """`config` with these widths; `rssm` sets further RSSM fields."""
    return replace(
        config,
        rssm=replace(config.rssm, deter=deter, hidden=hidden, classes=classes, **rssm),
        encoder=replace(config.encoder, depth=depth, units=units),
        decoder=replace(config.decoder, depth=depth, units=units),
        **{name: replace(getattr(config, name), units=units) for name in ("reward", "continuation", "policy", "value")},
    )


def sized(size: str, config: DreamerConfig | None = None) -> DreamerConfig:
    """One of the official sizes `size1m .. size400m`."""
    if size not in SIZES:
        raise ValueError(f"size {size!r} is not one of {', '.join(SIZES)}.")
    widths = dict(zip(("deter", "hidden", "classes", "depth", "units"), SIZES[size], strict=True))
    return resize(config or DreamerConfig(), **widths)
