"""`python -m tests.world_models.compiled_scan`: the scan's kernels, compiled for an H100 on a machine without a GPU.

Prints one JSON object: for each kernel its PTX's meetings and matrix products, and what a program needs.
"""

import json
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from world_models.dreamer.kernels.backward import backward_kernel
from world_models.dreamer.kernels.forward import forward_kernel

WIDE = {
    "states", "keep", "draw", "input_gain", "gain", "posterior_gain", "bias", "gate_bias", "gates", "candidates",
    "logits", "squares", "flow", "logits_in", "slopes", "probs", "factors", "carried", "posterior_slope",
    "posterior_unit", "hidden_slope", "hidden_unit", "input_slope", "input_unit", "dots",
}  # fmt: skip
"""Tensors that are float32 whatever products are computed in."""
SIZE1M = {
    "D": 512, "H": 64, "S": 32, "C": 4, "G": 8, "L": 1, "Q": 1, "R": 16, "BD": 16, "BH": 16, "BK": 128, "CLASSES": 4,
    "H1_WIDE": 4, "D1_WIDE": 32, "PROGRAMS": 32, "SPLIT": 4, "PRECISION": "ieee", "FORCED": False, "ONLY": -1,
}  # fmt: skip
OTHER = {"begin": "i32", "end": "i32", "T": "i32", "N": "i32", "mix": "fp32", "indices": "*i64", "arrivals": "*i32"}


def compiled(kernel: Any, dtype: str, latents: int) -> dict[str, int]:
    constants = {k: v for k, v in (SIZE1M | {"LATENTS": latents}).items() if k in kernel.arg_names}
    signature, aligned = {}, {}
    for i, name in enumerate(kernel.arg_names):
        pointer = "*fp32" if name in WIDE else f"*{dtype}"
        signature[name] = "constexpr" if name in constants else OTHER.get(name, pointer)
        if signature[name].startswith("*"):
            aligned[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"launch_cooperative_grid": True}
    found = triton.compile(source, GPUTarget("cuda", 90, 32), options)
    ptx = found.asm["ptx"]
    return {
        "arrivals": ptx.count("atom.global.gpu.acq_rel.add"), "acquired": ptx.count(".acquire."),
        "products": ptx.count("mma.sync"), "shared": found.metadata.shared, "binary": len(found.asm["cubin"]),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps({
        "forward": compiled(forward_kernel, "bf16", 4), "backward": compiled(backward_kernel, "bf16", 32),
    }))  # fmt: skip
