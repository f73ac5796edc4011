"""The scan's backward through time as one kernel, in phases as in `forward.py`.

It does what `scan.Reverse.step` does, step by step from the last, and leaves the gradients that the weights' products
over all rows of all steps need.
"""

from typing import no_type_check

import triton
import triton.language as tl

from world_models.dreamer.kernels.products import (
    fresh,
    inner,
    leave_grad,
    meet,
    multiplied,
    multiplied_slide,
    row_sums,
    scaled,
)


@triton.jit(do_not_specialize=["begin", "end", "T", "N"])
@no_type_check
def backward_kernel(
    flow, keep, logits_in, slopes, probs, factors, carried,
    from_deter, from_stoch, shared, own, gate_own, posterior, between, to_logits,
    posterior_slope, posterior_unit, hidden_slope, hidden_unit, input_slope, input_unit,
    logits_grad, posterior_out, posterior_grad, gates_grad, hidden_out, hidden_grad, input_out, input_grad,
    dots, arrivals, begin, end, T, N,
    D: tl.constexpr, H: tl.constexpr, S: tl.constexpr, C: tl.constexpr, G: tl.constexpr, L: tl.constexpr,
    Q: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr, LATENTS: tl.constexpr,
    CLASSES: tl.constexpr, H1_WIDE: tl.constexpr, D1_WIDE: tl.constexpr, PROGRAMS: tl.constexpr,
    SPLIT: tl.constexpr, PRECISION: tl.constexpr, ONLY: tl.constexpr,
):  # fmt: skip
    """Steps `begin` to `end` of T, counted from the last. `flow [T+1 N F]` holds what reaches the state after each step
    from outside, behind zeros for the start; it becomes the whole gradient of each state."""
    Z: tl.constexpr = S * C
    F: tl.constexpr = D + Z
    P: tl.constexpr = D // G
    H1: tl.constexpr = (H + BH - 1) // BH
    P1: tl.constexpr = (P + BD - 1) // BD
    D1: tl.constexpr = G * P1
    Z1: tl.constexpr = (Z + BD - 1) // BD
    DOTS: tl.constexpr = (2 * H1 + L * D1 + Q * H1) * R
    program, part = tl.program_id(0), tl.program_id(1)
    rows = part * R + tl.arange(0, R)
    here = rows < N
    one = tl.full([R], 1.0, tl.float32)
    input_dots = dots + part * DOTS
    hidden_dots, posterior_dots = input_dots + 2 * H1 * R, input_dots + (2 * H1 + L * D1) * R
    arrivals += part * 32
    goal = 0

    for done in range(begin, end):
        t = T - 1 - done
        at = t * N + rows
        before, after = flow + at * F, flow + (at + N) * F

        # Through the unimixed softmax, and back to the last posterior layer's output.
        if ONLY < 0 or ONLY == 0:
            for item in range(program, H1, PROGRAMS):
                columns = item * BH + tl.arange(0, BH)
                wanted = columns < H
                acc = tl.zeros([SPLIT, R, BH], tl.float32)
                for first in range(0, S, LATENTS):
                    latent, number = first + tl.arange(0, LATENTS), tl.arange(0, CLASSES)
                    place = latent[None, :, None] * C + number[None, None, :]
                    ok = here[:, None, None] & (latent < S)[None, :, None] & (number < C)[None, None, :]
                    there = at[:, None, None] * Z + place
                    weighted = fresh(after[:, None, None] + D + place, ok) * tl.load(slopes + there, mask=ok, other=0.0)
                    weighted -= tl.load(probs + there, mask=ok, other=0.0) * tl.sum(weighted, 2)[:, :, None]
                    weighted += tl.load(logits_in + there, mask=ok, other=0.0)
                    rounded = weighted.to(logits_grad.dtype.element_ty)
                    tl.store(logits_grad + there, rounded, mask=ok & ((first // LATENTS) % H1 == item))
                    flat = inner(0, LATENTS * CLASSES, SPLIT)
                    k = (first + flat // CLASSES) * C + flat % CLASSES
                    k_ok = (first + flat // CLASSES < S) & (flat % CLASSES < C)
                    x = tl.permute(tl.reshape(rounded, [R, SPLIT, LATENTS * CLASSES // SPLIT]), [1, 0, 2])
                    acc = multiplied(acc, x, to_logits, k, k_ok, 1, columns, wanted, Z, PRECISION)
                leave_grad(
                    tl.sum(acc, 0), posterior_out, posterior_slope, posterior_unit,
                    ((Q - 1) * T * N + at)[:, None] * H + columns[None, :], here[:, None] & wanted[None, :],
                    posterior_dots + ((Q - 1) * H1 + item) * R, R,
                )  # fmt: skip
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # Further posterior layers, from the last.
        for i in tl.static_range(1, Q):
            if ONLY < 0 or i == ONLY:
                layer = Q - i
                mean = row_sums(posterior_dots + layer * H1 * R, H1, H1_WIDE, R) / H
                for item in range(program, H1, PROGRAMS):
                    columns = item * BH + tl.arange(0, BH)
                    wanted = columns < H
                    acc = multiplied_slide(
                        posterior_out, posterior_slope, posterior_unit, posterior_grad,
                        (layer * T * N + at) * H, here, mean, between + (layer - 1) * H * H, 1, columns, wanted, H,
                        item, H1, H, R, BH, BK, SPLIT, PRECISION,
                    )  # fmt: skip
                    leave_grad(
                        acc, posterior_out, posterior_slope, posterior_unit,
                        ((layer - 1) * T * N + at)[:, None] * H + columns[None, :], here[:, None] & wanted[None, :],
                        posterior_dots + ((layer - 1) * H1 + item) * R, R,
                    )  # fmt: skip
                goal += PROGRAMS
                if ONLY < 0:
                    meet(arrivals, goal, PROGRAMS)

        # The whole gradient of the new recurrent state, and that of the gates.
        if ONLY < 0 or ONLY == Q:
            mean = row_sums(posterior_dots, H1, H1_WIDE, R) / H
            for item in range(program, D1, PROGRAMS):
                block, column = item // P1, (item % P1) * BD + tl.arange(0, BD)
                wanted, columns = column < P, block * P + column
                acc = multiplied_slide(
                    posterior_out, posterior_slope, posterior_unit, posterior_grad,
                    at * H, here, mean, posterior, 1, columns, wanted, H, item, D1, H, R, BD, BK, SPLIT,
                    PRECISION,
                )  # fmt: skip
                ok = here[:, None] & wanted[None, :]
                acc += fresh(after[:, None] + columns[None, :], ok)
                tl.store(after[:, None] + columns[None, :], acc, mask=ok)
                place = ((t * G + block) * N + rows)[:, None] * 3 * P + column[None, :]
                for gate in tl.static_range(3):
                    grad = acc * tl.load(factors + place + gate * P, mask=ok, other=0.0)
                    tl.store(gates_grad + place + gate * P, grad.to(gates_grad.dtype.element_ty), mask=ok)
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # Back through the gates' layer.
        if ONLY < 0 or ONLY == Q + 1:
            for item in range(program, D1, PROGRAMS):
                block, column = item // P1, (item % P1) * BD + tl.arange(0, BD)
                wanted, columns = column < P, block * P + column
                acc = tl.zeros([SPLIT, R, BD], tl.float32)
                for first in range(0, 3 * P, BK):
                    k = inner(first, BK, SPLIT)
                    found = ((t * G + block) * N + rows)[None, :, None] * 3 * P + k[:, None, :]
                    x = fresh(gates_grad + found, here[None, :, None] & (k < 3 * P)[:, None, :])
                    weight = gate_own + block * P * 3 * P
                    acc = multiplied(acc, x, weight, k, k < 3 * P, 1, column, wanted, 3 * P, PRECISION)
                leave_grad(
                    tl.sum(acc, 0), hidden_out, hidden_slope, hidden_unit,
                    ((L - 1) * T * N + at)[:, None] * D + columns[None, :], here[:, None] & wanted[None, :],
                    hidden_dots + ((L - 1) * D1 + item) * R, R,
                )  # fmt: skip
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # Further block layers, from the last.
        for i in tl.static_range(1, L):
            if ONLY < 0 or Q + 1 + i == ONLY:
                layer = L - i
                mean = row_sums(hidden_dots + layer * D1 * R, D1, D1_WIDE, R) / D
                for item in range(program, D1, PROGRAMS):
                    block, column = item // P1, (item % P1) * BD + tl.arange(0, BD)
                    wanted, columns = column < P, block * P + column
                    acc = multiplied_slide(
                        hidden_out, hidden_slope, hidden_unit, hidden_grad,
                        (layer * T * N + at) * D + block * P, here, mean, own + (layer * G + block) * P * P, 1, column,
                        wanted, P, item % P1, P1, P, R, BD, BK, SPLIT, PRECISION,
                    )  # fmt: skip
                    leave_grad(
                        acc, hidden_out, hidden_slope, hidden_unit,
                        ((layer - 1) * T * N + at)[:, None] * D + columns[None, :], here[:, None] & wanted[None, :],
                        hidden_dots + ((layer - 1) * D1 + item) * R, R,
                    )  # fmt: skip
                goal += PROGRAMS
                if ONLY < 0:
                    meet(arrivals, goal, PROGRAMS)

        # Back from the first block layer to the outputs of the inputs' layers.
        if ONLY < 0 or ONLY == Q + L + 1:
            mean = row_sums(hidden_dots, D1, D1_WIDE, R) / D
            for item in range(program, 2 * H1, PROGRAMS):
                half, column = item // H1, (item % H1) * BH + tl.arange(0, BH)
                wanted, columns = column < H, half * H + column
                acc = multiplied_slide(
                    hidden_out, hidden_slope, hidden_unit, hidden_grad, at * D, here,
                    mean, shared, 1, columns, wanted, D, item, 2 * H1, D, R, BH, BK, SPLIT, PRECISION,
                )  # fmt: skip
                leave_grad(
                    acc, input_out, input_slope, input_unit, at[:, None] * 2 * H + columns[None, :],
                    here[:, None] & wanted[None, :], input_dots + item * R, R,
                )  # fmt: skip
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # What reaches the state before: directly, from the first block layer, and from the inputs' layers.
        if ONLY < 0 or ONLY == Q + L + 2:
            kept = tl.load(keep + at, mask=here, other=0.0)
            deter_mean = row_sums(input_dots, H1, H1_WIDE, R) / H
            stoch_mean = row_sums(input_dots + H1 * R, H1, H1_WIDE, R) / H
            for item in range(program, D1 + Z1, PROGRAMS):
                if item < D1:
                    block, column = item // P1, (item % P1) * BD + tl.arange(0, BD)
                    wanted, place = column < P, block * P + column
                    acc = scaled(
                        hidden_grad + at * D + block * P, here, one, own + block * P * P, 1, column, wanted, P,
                        P, R, BD, BK, SPLIT, PRECISION,
                    )  # fmt: skip
                    acc += multiplied_slide(
                        input_out, input_slope, input_unit, input_grad, at * 2 * H, here, deter_mean, from_deter,
                        1, place, wanted, H, item, D1, H, R, BD, BK, SPLIT, PRECISION,
                    )  # fmt: skip
                    ok = here[:, None] & wanted[None, :]
                    remaining = ((t * G + block) * N + rows)[:, None] * P + column[None, :]
                    direct = tl.load(carried + remaining, mask=ok, other=0.0)
                    acc += fresh(after[:, None] + place[None, :], ok) * direct
                else:
                    column = (item - D1) * BD + tl.arange(0, BD)
                    wanted, place = column < Z, D + column
                    acc = multiplied_slide(
                        input_out, input_slope, input_unit, input_grad, at * 2 * H + H, here, stoch_mean,
                        from_stoch, 1, column, wanted, H, item - D1, Z1, H, R, BD, BK, SPLIT, PRECISION,
                    )  # fmt: skip
                ok = here[:, None] & wanted[None, :]
                there = before[:, None] + place[None, :]
                tl.store(there, fresh(there, ok) + acc * kept[:, None], mask=ok)
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)
