"""`python -m tests.benchmarks.genie`: training steps of Genie's three models, and a frame with and without its cache.

Beside plain PyTorch programs of the same sizes (`genie_plain.py`), which take turns with ours, so that a busy machine
hits all alike; figures are CPU seconds of the process, medians over rounds; ratios are medians of each round's. Beside
them what a public program takes on a core of 90 GFLOP/s: `s@90` is ours scaled by this core's rate in the same run. One
thread. A batch is 4 clips of 8 frames of 64 pixels; blocks are 128 wide, 4 in each encoder and decoder, 4 in the
dynamics; their MLPs have the public program's number of products, one linear layer's.
"""

import argparse
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from learner.adamw import AdamW
from learner.pretrain.genie_objectives import DynamicsObjective
from tests.benchmarks import genie_plain
from tests.benchmarks.machine import at_reference, describe, matmul_rate, median, seconds, versions
from world_models.genie.config import (
    DynamicsConfig,
    GenieConfig,
    LatentActionConfig,
    TokenizerConfig,
    TransformerConfig,
)
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie
from world_models.genie.latent_action import LatentActionModel
from world_models.genie.st_transformer import Past
from world_models.genie.tokenizer import VideoTokenizer

BATCH, FRAMES, CONTEXT = 4, 8, 16
LIMITS = {"tokenizer": 1.0, "latent_action": 1.0, "dynamics": 1.0, "frame": 0.2}
"""Our time is to be at most this much of the plain program's, or of the frame's without a cache."""
PUBLIC = {"tokenizer": 5.81, "latent_action": 0.165, "dynamics": 2.27}
"""CPU seconds of the public program."""
AIM = 0.5
"""Of the public program's time."""
Programs = Mapping[str, Callable[[], object]]


def config(frames: int = FRAMES) -> GenieConfig:
    stack = TransformerConfig(width=128, depth=4, heads=8, mlp_ratio=0.5)
    clips: dict[str, Any] = {"frames": frames, "encoder": stack, "decoder": stack}
    return GenieConfig(
        tokenizer=TokenizerConfig(**clips),
        latent_action=LatentActionConfig(actions=6, **clips),
        dynamics=DynamicsConfig(transformer=stack),
    )


def trained(model: nn.Module, *inputs: Tensor) -> Callable[[], None]:
    """One update as the trainer makes it."""
    optimizer = AdamW((name, p) for name, p in model.named_parameters() if p.requires_grad)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack([loss.mean() for loss in model(*inputs).values()]).sum().backward()
        optimizer.step(1e-4, 1e-4)

    return step


def clips(frames: int = FRAMES, size: int = BATCH) -> Tensor:
    return torch.randint(256, (size, frames, 64, 64, 3), dtype=torch.uint8)


def of_tokenizer() -> Programs:
    ours, plain = VideoTokenizer(config().tokenizer), genie_plain.Tokenizer(config().tokenizer)
    frames = clips()
    return {"ours": trained(ours, frames), "plain": genie_plain.step(plain.loss, list(plain.parameters()), frames)}


def of_latent_action() -> Programs:
    """Six actions are tried."""
    ours, plain = LatentActionModel(config().latent_action), genie_plain.LatentActions(config().latent_action)
    inputs = clips(), torch.rand(BATCH, FRAMES - 1)
    return {"ours": trained(ours, *inputs), "plain": genie_plain.step(plain.loss, list(plain.parameters()), *inputs)}


def of_dynamics() -> Programs:
    """The frozen tokenizer and latent action model included."""
    c = config()
    ours = DynamicsObjective(c)
    plain = genie_plain.Dynamics(
        c.dynamics, genie_plain.Tokenizer(c.tokenizer), genie_plain.LatentActions(c.latent_action)
    )
    drawn = ours.draw(BATCH, torch.Generator().manual_seed(0))
    frames, masked = ours.inputs({"frames": clips()}, drawn, slice(0, BATCH))
    return {
        "ours": trained(ours.model.train(), frames, masked),
        "plain": genie_plain.step(plain.loss, plain.trained(), frames, masked),
    }


def of_frame() -> Programs:
    """The next frame of one world behind 16 frames."""
    model, frames = Genie(config(CONTEXT + 1)).eval(), clips(CONTEXT, 1)
    state, action = model.start(frames), torch.zeros(1, dtype=torch.int64)
    return {"ours": partial(model.step, state, action), "plain": partial(Uncached(model, frames).step, action)}


class Uncached:
    """`Genie.step` behind given frames, of which every step of MaskGIT, and decoding, starts from the tokens."""

    def __init__(self, model: Genie, frames: Tensor):
        self.model, self.tokens = copy.deepcopy(model), model.encode(frames)
        self.conditions = model.dynamics.conditions(model.vectors(model.infer_actions(frames)))
        self.model.dynamics.extend = self.extend  # type: ignore[method-assign, assignment]

    @torch.no_grad()
    def step(self, action: Tensor, sampling: Sampling | None = None) -> Tensor:
        vector, sampling = self.model.vectors(action[:, None])[:, 0], sampling or Sampling()
        tokens, _ = self.model.dynamics.sample(self.tokens[:, -1], vector, (), self.tokens.shape[1], sampling)
        return self.model.decode(torch.cat([self.tokens, tokens[:, None]], 1))[:, -1]

    def extend(
        self, tokens: Tensor, before: Tensor, conditions: Tensor, past: Past, time: int, fill: bool
    ) -> tuple[Tensor, Past]:
        dynamics = self.model.dynamics
        tokens, conditions = torch.cat([self.tokens, tokens], 1), torch.cat([self.conditions, conditions], 1)
        earlier = dynamics._earlier(tokens, None)
        x = dynamics.transformer(dynamics._inputs(tokens, earlier, conditions))
        return dynamics._logits(x[:, -1:, -dynamics.tokens :], earlier[:, -1:]), past


CASES = {"tokenizer": of_tokenizer, "latent_action": of_latent_action, "dynamics": of_dynamics, "frame": of_frame}


def measure(programs: Programs, rounds: int) -> dict[str, Any]:
    """Seconds of each program, ours relative to the plain one's, and the core's rate meanwhile."""
    cpu = torch.device("cpu")
    for run in programs.values():
        run()
    rates, taken = [], []
    for _ in range(rounds):
        rates += matmul_rate(cpu, repeats=1)
        taken.append({name: seconds(run, cpu)[0] for name, run in programs.items()})
    return {
        "seconds": {name: median([row[name] for row in taken]) for name in programs},
        "ratio": median([row["ours"] / row["plain"] for row in taken]),
        "gflops": median(rates),
    }


def compared(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """A case beside its limit and, if there is one, the public program's time."""
    case = case | {"limit": LIMITS[name]}
    if name in PUBLIC:
        scaled = at_reference(case["seconds"]["ours"], case["gflops"])
        case |= {"at_reference": scaled, "public": PUBLIC[name], "of_public": scaled / PUBLIC[name]}
    return case


def line(name: str, case: dict[str, Any]) -> str:
    """A case as text."""
    times, plain = case["seconds"], "without a cache" if name == "frame" else "plain"
    text = f"{name:14} {times['ours']:.3f} s, {plain} {times['plain']:.3f} s; ours {case['ratio']:.2f} of it"
    text += f" (at most {case['limit']:.2f}); {case['gflops']:.0f} GFLOP/s"
    if "public" in case:
        text += f"; s@90 {case['at_reference']:.3f}, public {case['public']:.3f}: {case['of_public']:.2f} of it"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.genie", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="what to measure")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each program, behind one that warms up")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = {name: compared(name, measure(CASES[name](), options.rounds)) for name in options.cases}
    if not options.json:
        print("\n".join(line(name, case) for name, case in cases.items()))
    report = {
        "name": "genie", "value": max(case["ratio"] / case["limit"] for case in cases.values()),
        "unit": "largest time relative to its limit", "device": describe(torch.device("cpu")), "versions": versions(),
        "threads": 1, "rounds": options.rounds, "cases": cases,
        "over_limit": [name for name, case in cases.items() if case["ratio"] > case["limit"]],
        "over_aim": [name for name, case in cases.items() if case.get("of_public", 0) > AIM],
    }  # fmt: skip
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
