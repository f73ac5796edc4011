"""Lambda-returns: literal numbers and limits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from world_models.returns import lambda_return

ZERO = torch.zeros(1, 4)
REWARD = torch.tensor([[9.0, 1.0, 2.0, 3.0]])  # the first is never read
VALUE = torch.tensor([[9.0, 10.0, 20.0, 30.0]])


def test_literal() -> None:
    # R_2 = 3 + 0.5 * 30; R_1 = 2 + 0.5 * (0.2 * 20 + 0.8 * 18); R_0 = 1 + 0.5 * (0.2 * 10 + 0.8 * 11.2)
    out = lambda_return(ZERO, ZERO, REWARD, VALUE, 0.5, 0.8)
    assert out.tolist()[0] == pytest.approx([6.48, 11.2, 18.0])


def test_lambda_one_is_the_discounted_sum_and_lambda_zero_one_step() -> None:
    full = lambda_return(ZERO, ZERO, REWARD, VALUE, 0.9, 1.0)
    assert full[0, 0].item() == pytest.approx(1 + 0.9 * 2 + 0.81 * 3 + 0.81 * 0.9 * 30)
    one_step = lambda_return(ZERO, ZERO, REWARD, VALUE, 0.9, 0.0)
    assert torch.allclose(one_step, REWARD[:, 1:] + 0.9 * VALUE[:, 1:])


def test_a_terminal_cuts_the_future_and_a_last_step_bootstraps() -> None:
    end = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    assert lambda_return(ZERO, end, REWARD, VALUE, 0.9, 0.95)[0, 0].item() == 1
    assert lambda_return(end, ZERO, REWARD, VALUE, 0.9, 0.95)[0, 0].item() == pytest.approx(1 + 0.9 * 10)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-10, 10))
def test_a_value_that_is_already_right_stays(discount: float, lam: float, value: float) -> None:
    """If v = r + g v everywhere, every lambda-return is v."""
    values = torch.full((2, 5), value)
    out = lambda_return(torch.zeros(2, 5), torch.zeros(2, 5), values * (1 - discount), values, discount, lam)
    assert torch.allclose(out, values[:, 1:], atol=1e-4)
