"""The scan forward as one kernel: each step in phases, between which its programs meet.

A phase is one product with all columns of a weight, whose tiles the programs share; what the next phase reads is in
the second cache by then. Names and sizes are those of `recurrence.py`, with H1 tiles of hidden columns, D1 of deter
columns; L block layers before the gates, Q posterior layers.
"""

from typing import no_type_check

import triton
import triton.language as tl

from world_models.dreamer.kernels.products import (
    inner,
    inverse_rms,
    leave,
    meet,
    multiplied,
    multiplied_norm,
    normed,
    scaled,
)


@triton.jit(do_not_specialize=["begin", "end", "T", "N"])
@no_type_check
def forward_kernel(
    states, keep, base, token, draw,
    from_deter, from_stoch, input_bias, input_gain, shared, own, bias, gain, gate_own, gate_bias,
    posterior, between, between_bias, posterior_gain, to_logits, logits_bias,
    inputs, hidden, gates, candidates, posteriors, logits, indices,
    squares, arrivals, begin, end, T, N, mix,
    D: tl.constexpr, H: tl.constexpr, S: tl.constexpr, C: tl.constexpr, G: tl.constexpr, L: tl.constexpr,
    Q: tl.constexpr, R: tl.constexpr, BD: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr, LATENTS: tl.constexpr,
    CLASSES: tl.constexpr, H1_WIDE: tl.constexpr, D1_WIDE: tl.constexpr, PROGRAMS: tl.constexpr,
    SPLIT: tl.constexpr, FORCED: tl.constexpr, PRECISION: tl.constexpr, ONLY: tl.constexpr,
):  # fmt: skip
    """Steps `begin` to `end` of T for N rows: fills `states [T+1 N F]` behind the first and what `Past` holds.

    The layers of `own [L G P P]`, `hidden [L T N D]`, `between [Q-1 H H]` and `posteriors [Q T N H]` are stacked.
    With `ONLY` at 0 or more it does that phase alone, so that launches can stand in for meetings.
    """
    Z: tl.constexpr = S * C
    F: tl.constexpr = D + Z
    P: tl.constexpr = D // G
    H1: tl.constexpr = (H + BH - 1) // BH
    P1: tl.constexpr = (P + BD - 1) // BD
    D1: tl.constexpr = G * P1
    SQUARES: tl.constexpr = (2 * H1 + L * D1 + Q * H1) * R
    program, part = tl.program_id(0), tl.program_id(1)
    rows = part * R + tl.arange(0, R)
    here = rows < N
    one = tl.full([R], 1.0, tl.float32)
    deter_squares, stoch_squares = squares + part * SQUARES, squares + part * SQUARES + H1 * R
    hidden_squares, posterior_squares = stoch_squares + H1 * R, stoch_squares + (H1 + L * D1) * R
    arrivals += part * 32
    goal = 0

    for t in range(begin, end):
        kept = tl.load(keep + t * N + rows, mask=here, other=0.0)
        before, after = states + (t * N + rows) * F, states + ((t + 1) * N + rows) * F
        at = t * N + rows

        # What the inputs' layers make of the latents; of deter only at the first step, else the step before did it.
        if ONLY < 0 or ONLY == 0:
            for item in range(program, tl.where(t == 0, 2 * H1, H1), PROGRAMS):
                columns = (item % H1) * BH + tl.arange(0, BH)
                wanted = columns < H
                if item < H1:
                    acc = scaled(
                        before + D, here, kept, from_stoch, H, columns, wanted, 1, Z, R, BH, BK, SPLIT, PRECISION
                    )  # fmt: skip
                    acc += tl.load(input_bias + H + columns, mask=wanted, other=0.0).to(tl.float32)[None, :]
                    leave(acc, inputs + (at * 2 + 1) * H, columns, wanted, here, stoch_squares + item * R, R)
                else:
                    acc = scaled(
                        before, here, kept, from_deter, H, columns, wanted, 1, D, R, BH, BK, SPLIT, PRECISION
                    )  # fmt: skip
                    acc += tl.load(input_bias + columns, mask=wanted, other=0.0).to(tl.float32)[None, :]
                    leave(acc, inputs + at * 2 * H, columns, wanted, here, deter_squares + (item - H1) * R, R)
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # The first block layer.
        if ONLY < 0 or ONLY == 1:
            deter_inverse = inverse_rms(deter_squares, H, H1, H1_WIDE, R)
            stoch_inverse = inverse_rms(stoch_squares, H, H1, H1_WIDE, R)
            for item in range(program, D1, PROGRAMS):
                block, column = item // P1, (item % P1) * BD + tl.arange(0, BD)
                wanted, columns = column < P, block * P + column
                acc = scaled(
                    before + block * P, here, kept, own + block * P * P, P, column, wanted, 1,
                    P, R, BD, BK, SPLIT, PRECISION,
                )  # fmt: skip
                acc += multiplied_norm(
                    inputs + at * 2 * H, here, deter_inverse, input_gain, shared, D, columns, wanted, 1,
                    H, R, BD, BK, SPLIT, PRECISION,
                )  # fmt: skip
                acc += multiplied_norm(
                    inputs + (at * 2 + 1) * H, here, stoch_inverse, input_gain + H, shared + H * D, D, columns,
                    wanted, 1, H, R, BD, BK, SPLIT, PRECISION,
                )  # fmt: skip
                ok = here[:, None] & wanted[None, :]
                acc += tl.load(base + at[:, None] * D + columns[None, :], mask=ok, other=0.0).to(tl.float32)
                leave(acc, hidden + at * D, columns, wanted, here, hidden_squares + item * R, R)
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # Further block layers.
        for layer in tl.static_range(1, L):
            if ONLY < 0 or 1 + layer == ONLY:
                inverse = inverse_rms(hidden_squares + (layer - 1) * D1 * R, D, D1, D1_WIDE, R)
                for item in range(program, D1, PROGRAMS):
                    block, column = item // P1, (item % P1) * BD + tl.arange(0, BD)
                    wanted, columns = column < P, block * P + column
                    acc = multiplied_norm(
                        hidden + ((layer - 1) * T * N + at) * D + block * P, here, inverse,
                        gain + (layer - 1) * D + block * P, own + (layer * G + block) * P * P, P, column,
                        wanted, 1, P, R, BD, BK, SPLIT, PRECISION,
                    )  # fmt: skip
                    acc += tl.load(bias + (layer - 1) * D + columns, mask=wanted, other=0.0).to(tl.float32)[None, :]
                    leave(
                        acc, hidden + (layer * T * N + at) * D, columns, wanted, here,
                        hidden_squares + (layer * D1 + item) * R, R,
                    )  # fmt: skip
                goal += PROGRAMS
                if ONLY < 0:
                    meet(arrivals, goal, PROGRAMS)

        # Gates and the next recurrent state (`recurrence.gates_`).
        if ONLY < 0 or ONLY == L + 1:
            inverse = inverse_rms(hidden_squares + (L - 1) * D1 * R, D, D1, D1_WIDE, R)
            for item in range(program, D1, PROGRAMS):
                block, column = item // P1, (item % P1) * BD + tl.arange(0, BD)
                wanted, columns = column < P, block * P + column
                reset = tl.zeros([SPLIT, R, BD], tl.float32)
                new, update = reset, reset
                weight = gate_own + block * P * 3 * P
                for first in range(0, P, BK):
                    k = inner(first, BK, SPLIT)
                    x = normed(
                        hidden + ((L - 1) * T * N + at) * D + block * P, inverse, gain + (L - 1) * D + block * P, k,
                        here, P,
                    )  # fmt: skip
                    reset = multiplied(reset, x, weight, k, k < P, 3 * P, column, wanted, 1, PRECISION)
                    new = multiplied(new, x, weight + P, k, k < P, 3 * P, column, wanted, 1, PRECISION)
                    update = multiplied(update, x, weight + 2 * P, k, k < P, 3 * P, column, wanted, 1, PRECISION)
                reset, new, update = tl.sum(reset, 0), tl.sum(new, 0), tl.sum(update, 0)
                biases = gate_bias + block * 3 * P + column
                reset += tl.load(biases, mask=wanted, other=0.0).to(tl.float32)[None, :]
                new += tl.load(biases + P, mask=wanted, other=0.0).to(tl.float32)[None, :]
                update += tl.load(biases + 2 * P, mask=wanted, other=0.0).to(tl.float32)[None, :]
                reset, update = tl.sigmoid(reset), tl.sigmoid(update - 1)
                candidate = 2 * tl.sigmoid(2 * (new * reset)) - 1
                ok = here[:, None] & wanted[None, :]
                old = tl.load(before[:, None] + columns[None, :], mask=ok, other=0.0, cache_modifier=".cg")
                old *= kept[:, None]
                tl.store(after[:, None] + columns[None, :], old + update * (candidate - old), mask=ok)
                row = (t * G + block) * N + rows
                found = gates + row[:, None] * 3 * P + column[None, :]
                tl.store(found, reset, mask=ok)
                tl.store(found + P, new, mask=ok)
                tl.store(found + 2 * P, update, mask=ok)
                tl.store(candidates + row[:, None] * P + column[None, :], candidate, mask=ok)
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # What the new recurrent state gives to the posterior, and to the inputs of the next step.
        if ONLY < 0 or ONLY == L + 2:
            for item in range(program, tl.where(t + 1 < T, 2 * H1, H1), PROGRAMS):
                columns = (item % H1) * BH + tl.arange(0, BH)
                wanted = columns < H
                if item < H1:
                    acc = scaled(
                        after, here, one, posterior, H, columns, wanted, 1, D, R, BH, BK, SPLIT, PRECISION
                    )  # fmt: skip
                    ok = here[:, None] & wanted[None, :]
                    acc += tl.load(token + at[:, None] * H + columns[None, :], mask=ok, other=0.0).to(tl.float32)
                    leave(acc, posteriors + at * H, columns, wanted, here, posterior_squares + item * R, R)
                else:
                    carried = tl.load(keep + (t + 1) * N + rows, mask=here, other=0.0)
                    acc = scaled(
                        after, here, carried, from_deter, H, columns, wanted, 1, D, R, BH, BK, SPLIT, PRECISION
                    )  # fmt: skip
                    acc += tl.load(input_bias + columns, mask=wanted, other=0.0).to(tl.float32)[None, :]
                    leave(
                        acc, inputs + (at + N) * 2 * H, columns, wanted, here, deter_squares + (item - H1) * R, R
                    )  # fmt: skip
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)

        # Further posterior layers.
        for layer in tl.static_range(1, Q):
            if ONLY < 0 or L + 2 + layer == ONLY:
                inverse = inverse_rms(posterior_squares + (layer - 1) * H1 * R, H, H1, H1_WIDE, R)
                for item in range(program, H1, PROGRAMS):
                    columns = item * BH + tl.arange(0, BH)
                    wanted = columns < H
                    acc = multiplied_norm(
                        posteriors + ((layer - 1) * T * N + at) * H, here, inverse, posterior_gain + (layer - 1) * H,
                        between + (layer - 1) * H * H, H, columns, wanted, 1, H, R, BH, BK, SPLIT, PRECISION,
                    )  # fmt: skip
                    acc += tl.load(between_bias + (layer - 1) * H + columns, mask=wanted, other=0.0)[None, :]
                    leave(
                        acc, posteriors + (layer * T * N + at) * H, columns, wanted, here,
                        posterior_squares + (layer * H1 + item) * R, R,
                    )  # fmt: skip
                goal += PROGRAMS
                if ONLY < 0:
                    meet(arrivals, goal, PROGRAMS)

        # Logits, and latents as `distributions.pick_class` picks them.
        if ONLY < 0 or ONLY == L + Q + 2:
            inverse = inverse_rms(posterior_squares + (Q - 1) * H1 * R, H, H1, H1_WIDE, R)
            for item in range(program, (S + LATENTS - 1) // LATENTS, PROGRAMS):
                flat = tl.arange(0, LATENTS * CLASSES)
                columns = (item * LATENTS + flat // CLASSES) * C + flat % CLASSES
                wanted = (item * LATENTS + flat // CLASSES < S) & (flat % CLASSES < C)
                acc = multiplied_norm(
                    posteriors + ((Q - 1) * T * N + at) * H, here, inverse, posterior_gain + (Q - 1) * H, to_logits, Z,
                    columns, wanted, 1, H, R, LATENTS * CLASSES, BK, SPLIT, PRECISION,
                )  # fmt: skip
                acc += tl.load(logits_bias + columns, mask=wanted, other=0.0).to(tl.float32)[None, :]
                tl.store(logits + at[:, None] * Z + columns[None, :], acc, mask=here[:, None] & wanted[None, :])
                latent, number = item * LATENTS + tl.arange(0, LATENTS), tl.arange(0, CLASSES)
                there = here[:, None] & (latent < S)[None, :]
                drawn = draw + at[:, None] * S + latent[None, :]
                if FORCED:
                    index = tl.load(drawn, mask=there, other=0).to(tl.int32)
                else:
                    each = tl.reshape(tl.where(wanted[None, :], acc, -1e30), [R, LATENTS, CLASSES])
                    powers = tl.exp(each - tl.max(each, 2)[:, :, None])
                    real = (number < C)[None, None, :]
                    probs = (1 - mix) * (powers / tl.sum(powers, 2)[:, :, None]) + mix / C
                    cumulative = tl.cumsum(tl.where(real, probs, 0.0), 2)
                    total = tl.sum(tl.where((number == C - 1)[None, None, :], cumulative, 0.0), 2)
                    level = tl.load(drawn, mask=there, other=0.0) * total
                    passed = (cumulative <= level[:, :, None]) & (number < C - 1)[None, None, :]
                    index = tl.sum(passed.to(tl.int32), 2)
                tl.store(indices + (rows[:, None] * T + t) * S + latent[None, :], index.to(tl.int64), mask=there)
                one_hot = tl.where(number[None, None, :] == index[:, :, None], 1.0, 0.0)
                place = after[:, None, None] + D + latent[None, :, None] * C + number[None, None, :]
                tl.store(place, one_hot, mask=there[:, :, None] & (number < C)[None, None, :])
            goal += PROGRAMS
            if ONLY < 0:
                meet(arrivals, goal, PROGRAMS)
