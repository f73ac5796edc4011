"""Launching the scan's kernels: whether they can, with which tiles, and on which memory.

Legend: T time, N rows, D deter, Z flattened latents, F = D + Z, H hidden, O outputs of the first block layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float, Shaped
from torch import Tensor
from triton import knobs

from world_models.dreamer.kernels.backward import backward_kernel
from world_models.dreamer.kernels.forward import forward_kernel
from world_models.dreamer.recurrence import Kernels, Past
from world_models.dreamer.scan import Reverse, Walked

MOST_ROWS = 128
"""With more, the programs are not sure to run at once, and products are large enough not to need these kernels."""


@dataclass(frozen=True)
class Tiles:
    """How a product is divided; powers of two, at least 16 where a tensor core multiplies."""

    rows: int
    """Rows of a program."""
    deter: int
    """Columns of a tile of one block of the recurrent state."""
    hidden: int
    """Columns of a tile of the hidden layers."""
    inner: int
    """Values of a row that are read at a time."""
    programs: int
    """Programs that share the columns of the same rows; all run at once, and meet after each phase."""
    split: int = 4
    """Parts of those, each with a sum of its own: one for each warp."""
    warps: int = 4


def refusal(kernels: Kernels, rows: int) -> str:
    """Why the kernels cannot do such a scan, as the end of a sentence; empty if they can."""
    if kernels.shared.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"they do not compute in {kernels.shared.dtype}"
    if not kernels.gain:
        return "they need rssm.dynamics_layers of at least 1"
    if rows > MOST_ROWS:
        return f"they take at most {MOST_ROWS} sequences"
    if kernels.shared.device.type != "cuda" and not knobs.runtime.interpret:
        return f"they run on a GPU and not on {kernels.shared.device.type}"
    return ""


def choose_tiles(kernels: Kernels, rows: int, processors: int | None = None) -> Tiles:
    """One program on each of the GPU's `processors`, or fewer if there is less to share."""
    if processors is None:
        processors = torch.cuda.get_device_properties(kernels.shared.device).multi_processor_count
    deter, (blocks, _, width) = kernels.posterior[0].shape[0], kernels.own[0].shape
    here = 16 if rows <= 16 else 32  # with more, values of a program no longer fit into its registers
    share = max(1, processors // triton.cdiv(rows, here))
    columns = min(32, max(16, triton.next_power_of_2(triton.cdiv(deter, share))))
    most = max(blocks * triton.cdiv(width, columns), triton.cdiv(2 * kernels.input_bias.shape[1], 16))
    inner = 64 if kernels.shared.dtype == torch.float32 or here > 16 else 128
    return Tiles(here, columns, 16, inner, min(share, most))


class _Launch(NamedTuple):
    """What both kernels are told of sizes and tiles, and their grid."""

    constants: dict[str, Any]
    grid: tuple[int, int]
    tiles: Tiles
    phases: int
    parts: int
    """Sums `[rows]` that a kernel leaves between phases."""

    def run(self, kernel: Any, steps: int, *given: Any, apart: bool) -> None:
        """Launch `kernel` once for all steps; or `apart`, once for every phase of each."""
        constants, device = self.constants, given[0].device
        assert all(x.is_contiguous() for x in given[:-1])
        parts = torch.empty(self.grid[1] * self.parts * self.tiles.rows, device=device)
        # A cache line each, so that programs of other rows do not disturb.
        arrivals = torch.zeros(self.grid[1] * 32, dtype=torch.int32, device=device)
        head, tail = given[:-1], given[-1]
        whole = [(0, steps, -1)]
        single = [(step, step + 1, phase) for step in range(steps) for phase in range(self.phases)]
        for begin, end, only in single if apart else whole:
            kernel[self.grid](
                *head, parts, arrivals, begin, end, *tail, **constants, ONLY=only, num_warps=self.tiles.warps,
                launch_cooperative_grid=not apart,
            )  # fmt: skip


def _plan(kernels: Kernels, latents: tuple[int, int], rows: int, tiles: Tiles) -> _Launch:
    (deter, hidden), (blocks, width, _) = kernels.posterior[0].shape, kernels.own[0].shape
    layers, posteriors = len(kernels.gain), len(kernels.posterior_gain)
    hidden_tiles, deter_tiles = triton.cdiv(hidden, tiles.hidden), blocks * triton.cdiv(width, tiles.deter)
    tensor_float = kernels.shared.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    constants = {
        "D": deter, "H": hidden, "S": latents[0], "C": latents[1], "G": blocks, "L": layers, "Q": posteriors,
        "R": tiles.rows, "BD": tiles.deter, "BH": tiles.hidden, "BK": tiles.inner,
        "CLASSES": triton.next_power_of_2(latents[1]), "H1_WIDE": triton.next_power_of_2(hidden_tiles),
        "D1_WIDE": triton.next_power_of_2(deter_tiles), "PROGRAMS": tiles.programs, "SPLIT": tiles.split,
        "PRECISION": "interpreted" if knobs.runtime.interpret else "tf32" if tensor_float else "ieee",
    }  # fmt: skip
    grid = (tiles.programs, triton.cdiv(rows, tiles.rows))
    parts = (2 + posteriors) * hidden_tiles + layers * deter_tiles
    return _Launch(constants, grid, tiles, layers + posteriors + 3, parts)


@dataclass(frozen=True)
class Fused:
    """A `scan.Walk` of two kernels; `tiles` are chosen by size if they are not given.

    `apart` launches phase by phase, which needs no programs to meet: the same numbers, to check the meetings by.
    """

    tiles: Tiles | None = None
    apart: bool = False

    def takes(self, kernels: Kernels, rows: int) -> bool:
        return not refusal(kernels, rows)

    def forward(
        self, kernels: Kernels, mix: float, state: Float[Tensor, "N F"], latents: tuple[int, int],
        keep: Float[Tensor, "T N 1"], base: Float[Tensor, "T N O"], token: Float[Tensor, "T N H"],
        draw: Shaped[Tensor, "T N S"],
    ) -> Walked:  # fmt: skip
        (time, rows, _), k, new = keep.shape, kernels, kernels.shared.new_empty
        tiles = self.tiles or choose_tiles(k, rows)
        (blocks, _, gates), (deter, hidden) = k.own[-1].shape, k.posterior[0].shape
        states = state.new_empty(time + 1, *state.shape, dtype=torch.float32)
        states[0] = state
        block_layers, posteriors = new(len(k.gain), time, rows, deter), new(len(k.posterior_gain), time, rows, hidden)
        past = Past(
            inputs=new(time, rows, 2, hidden),
            hidden=block_layers.unbind(),
            gates=states.new_empty(time, blocks, rows, gates),
            candidates=states.new_empty(time, blocks, rows, gates // 3),
            posteriors=posteriors.unbind(),
        )
        logits = states.new_empty(time, rows, *latents)
        indices = torch.empty(rows, time, latents[0], dtype=torch.int64, device=state.device)
        weights = (
            *k.inputs, k.input_bias, k.input_gain, k.shared, _stack(k.own[:-1]), _stack(k.bias[:-1]), _stack(k.gain),
            k.own[-1], k.bias[-1], k.posterior[0], _stack(k.posterior[1:-1]), _stack(k.posterior_bias[:-1]),
            _stack(k.posterior_gain), k.posterior[-1], k.posterior_bias[-1],
        )  # fmt: skip
        launch = _plan(k, latents, rows, tiles)
        launch.constants["FORCED"] = not draw.is_floating_point()
        launch.constants["LATENTS"] = max(1, 16 // launch.constants["CLASSES"])
        launch.run(
            forward_kernel, time, states, *(x.contiguous() for x in (keep, base, token, draw)),
            *(_laid_out(x, k.shared) for x in weights), past.inputs, block_layers, past.gates, past.candidates,
            posteriors, logits, indices, (time, rows, float(mix)), apart=self.apart,
        )  # fmt: skip
        return Walked(past, states[:-1] * keep, states[1:], logits, indices)

    def backward(
        self, reverse: Reverse, keep: Float[Tensor, "T N 1"], incoming: Float[Tensor, "T N F"],
        grad_logits: Float[Tensor, "T N S C"],
    ) -> Float[Tensor, "N F"]:  # fmt: skip
        r, k = reverse, reverse.kernels
        time, rows, number, classes = r.probs.shape
        tiles = self.tiles or choose_tiles(k, rows)
        flow = torch.cat([torch.zeros_like(incoming[:1]), incoming])
        layers = [
            [_stack([getattr(norm, name) for norm in norms]) for name in ("slope", "unit", "grad_out", "grad")]
            for norms in (r.posteriors, r.hidden)
        ]
        (posterior_slope, posterior_unit, *posteriors), (hidden_slope, hidden_unit, *hidden) = layers
        weights = (
            *k.inputs, k.shared, _stack(k.own[:-1]), k.own[-1], k.posterior[0], _stack(k.posterior[1:-1]),
            k.posterior[-1],
        )  # fmt: skip
        launch = _plan(k, (number, classes), rows, tiles)
        launch.constants["LATENTS"] = max(1, tiles.inner // launch.constants["CLASSES"])
        launch.run(
            backward_kernel, time, flow, *(x.contiguous() for x in (keep, grad_logits, r.slopes, r.probs)),
            r.gate_factors, r.carried, *(_laid_out(x, k.shared) for x in weights), posterior_slope, posterior_unit,
            hidden_slope, hidden_unit, r.inputs.slope, r.inputs.unit, r.grad_logits, *posteriors, r.grad_gates,
            *hidden, r.inputs.grad_out, r.inputs.grad, (time, rows), apart=self.apart,
        )  # fmt: skip
        for norms, (outs, grads) in ((r.posteriors, posteriors), (r.hidden, hidden)):
            for i, norm in enumerate(norms):
                norm.grad_out, norm.grad = outs[i], grads[i]
        return flow[0]


def _stack(layers: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape behind one another; a single one is not copied, and none are an empty tensor."""
    if len(layers) > 1:
        return torch.stack(list(layers))
    return layers[0][None] if layers else torch.empty(0)


def _laid_out(weight: Tensor, other: Tensor) -> Tensor:
    """Contiguous; in place of a layer that is not there, which is never read, any memory of the device."""
    return weight.contiguous() if weight.numel() else other
