"""What both kernels of the scan are made of: products of few rows with a tile of a weight, norms, and meetings.

A program works on a tile of rows `[R]`. It is given pointers to the first of K values of each row, and multiplies them
with `weight[k, columns]`; strides are of the weight's memory, so that a transposed weight needs no copy. It reads BK
values at a time, in SPLIT parts with a sum each: with so few rows all warps would otherwise read the same values, and
wait for one sum. Values that another program may have written are read past the first cache.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def meet(arrivals, goal, PROGRAMS: tl.constexpr):
    """Wait until `goal` arrivals have been counted: then all have written what they wrote before.

    It needs all programs to run at the same time, which only a cooperative launch promises.
    """
    tl.debug_barrier()  # all threads of this program have written
    if PROGRAMS > 1:
        seen = tl.atomic_add(arrivals, 1, sem="acq_rel") + 1
        while seen < goal:
            seen = tl.atomic_add(arrivals, 0, sem="acquire")
        tl.debug_barrier()


@triton.jit
@no_type_check
def fresh(pointers, ok):
    """Values that may have been written by another program of this launch, as float32; 0 where not `ok`."""
    return tl.load(pointers, mask=ok, other=0.0, cache_modifier=".cg").to(tl.float32)


@triton.jit
@no_type_check
def inner(first, BK: tl.constexpr, SPLIT: tl.constexpr):
    """BK indices from `first` on, `[SPLIT BK/SPLIT]`."""
    part: tl.constexpr = BK // SPLIT
    return first + tl.arange(0, SPLIT)[:, None] * part + tl.arange(0, part)[None, :]


@triton.jit
@no_type_check
def multiplied(acc, x, weight, k, k_ok, k_stride, columns, wanted, stride, PRECISION: tl.constexpr):
    """`acc + x weight[k, columns]`, a sum for each part of k: x `[SPLIT R BK/SPLIT]`, k `[SPLIT BK/SPLIT]`."""
    pointers = weight + k[:, :, None] * k_stride + columns[None, None, :] * stride
    w = tl.load(pointers, mask=k_ok[:, :, None] & wanted[None, None, :], other=0.0)
    x = x.to(w.dtype)
    if PRECISION == "interpreted":  # Triton's interpreter multiplies the bits of bfloat16 as integers
        return tl.dot(x.to(tl.float32), w.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(x, w, acc, input_precision=PRECISION)


@triton.jit
@no_type_check
def scaled(
    x, here, scale, weight, k_stride, columns, wanted, stride,
    K: tl.constexpr, R: tl.constexpr, B: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`(scale x) weight`, `[R B]`."""
    acc = tl.zeros([SPLIT, R, B], tl.float32)
    for first in range(0, K, BK):
        k = inner(first, BK, SPLIT)
        found = fresh(x[None, :, None] + k[:, None, :], here[None, :, None] & (k < K)[:, None, :])
        acc = multiplied(
            acc, found * scale[None, :, None], weight, k, k < K, k_stride, columns, wanted, stride, PRECISION
        )  # fmt: skip
    return tl.sum(acc, 0)


@triton.jit
@no_type_check
def row_sums(parts, TILES: tl.constexpr, WIDE: tl.constexpr, R: tl.constexpr):
    """The sums `[R]` of what the tiles of columns have left in `parts [TILES R]`; WIDE is a power of two."""
    tile, row = tl.arange(0, WIDE), tl.arange(0, R)
    found = fresh(parts + tile[None, :] * R + row[:, None], (tile < TILES)[None, :] & (row < R)[:, None])
    return tl.sum(found, 1)


@triton.jit
@no_type_check
def inverse_rms(parts, WIDTH: tl.constexpr, TILES: tl.constexpr, WIDE: tl.constexpr, R: tl.constexpr):
    """As in `layers.norm_silu`, from the sums of squares of tiles."""
    return tl.rsqrt(row_sums(parts, TILES, WIDE, R) / WIDTH + 1e-4)


@triton.jit
@no_type_check
def normed(x, inverse, gain, k, here, K: tl.constexpr):
    """`layers.norm_silu` of values k of the rows, `[SPLIT R BK/SPLIT]`."""
    ok = here[None, :, None] & (k < K)[:, None, :]
    unit = fresh(x[None, :, None] + k[:, None, :], ok) * inverse[None, :, None]
    pre = unit * tl.load(gain + k, mask=k < K, other=0.0).to(tl.float32)[:, None, :]
    return pre * tl.sigmoid(pre)


@triton.jit
@no_type_check
def multiplied_norm(
    x, here, inverse, gain, weight, k_stride, columns, wanted, stride,
    K: tl.constexpr, R: tl.constexpr, B: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`norm_silu(x) weight`, `[R B]`."""
    acc = tl.zeros([SPLIT, R, B], tl.float32)
    for first in range(0, K, BK):
        k = inner(first, BK, SPLIT)
        acc = multiplied(
            acc, normed(x, inverse, gain, k, here, K), weight, k, k < K, k_stride, columns, wanted, stride, PRECISION
        )  # fmt: skip
    return tl.sum(acc, 0)


@triton.jit
@no_type_check
def leave(pre, out, columns, wanted, here, squares, R: tl.constexpr):
    """Write pre-activations `[R columns]` in the type of `out`, and the sums of their squares for the norm."""
    rounded = pre.to(out.dtype.element_ty)
    tl.store(out[:, None] + columns[None, :], rounded, mask=here[:, None] & wanted[None, :])
    wide = rounded.to(tl.float32)
    tl.store(squares + tl.arange(0, R), tl.sum(wide * wide, 1))


@triton.jit
@no_type_check
def multiplied_slide(
    out, slope, unit, grad, start, here, mean, weight, k_stride, columns, wanted, stride, share, shares,
    K: tl.constexpr, R: tl.constexpr, B: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`g weight`, `[R B]`, with the gradients g of pre-activations from those of what `norm_silu` made of them
    (`layers.NormSiluGradients.step`). The `share`th of `shares` programs that need the same g writes its part."""
    acc = tl.zeros([SPLIT, R, B], tl.float32)
    for first in range(0, K, BK):
        k = inner(first, BK, SPLIT)
        place, ok = start[None, :, None] + k[:, None, :], here[None, :, None] & (k < K)[:, None, :]
        weighted = fresh(out + place, ok) * tl.load(slope + place, mask=ok, other=0.0)
        wide = weighted - tl.load(unit + place, mask=ok, other=0.0) * mean[None, :, None]
        g = wide.to(grad.dtype.element_ty)
        tl.store(grad + place, g, mask=ok & ((first // BK) % shares == share))
        acc = multiplied(acc, g, weight, k, k < K, k_stride, columns, wanted, stride, PRECISION)
    return tl.sum(acc, 0)


@triton.jit
@no_type_check
def leave_grad(acc, out, slope, unit, offsets, ok, dots, R: tl.constexpr):
    """Write gradients of what `norm_silu` made, and for its backward the sums of their products with slope and unit."""
    rounded = acc.to(out.dtype.element_ty)
    tl.store(out + offsets, rounded, mask=ok)
    weighted = rounded.to(tl.float32) * tl.load(slope + offsets, mask=ok, other=0.0)
    tl.store(dots + tl.arange(0, R), tl.sum(weighted * tl.load(unit + offsets, mask=ok, other=0.0), 1))
