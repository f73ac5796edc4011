"""The losses that keep tokens apart, on tokens whose spread is known."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from world_models.jepa import presets
from world_models.jepa.config import AgreementConfig, SpreadConfig
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.losses import spread, spread_losses
from world_models.jepa.vjepa2 import VJEPA2


def test_the_terms_by_hand() -> None:
    variance, covariance = spread_losses(torch.ones(4, 3, 2))
    assert float(variance) == pytest.approx(1 - 0.01, abs=1e-6) and float(covariance) == 0  # sqrt(1e-4) keeps gradients
    signs = torch.tensor([[2.0, 2], [-2, 2], [2, -2], [-2, -2]])[:, None]  # uncorrelated, variance 16/3
    assert [float(term) for term in spread_losses(signs)] == pytest.approx([0, 0], abs=1e-6)
    alike = torch.tensor([[0.5, 0.5], [-0.5, -0.5], [0.5, 0.5], [-0.5, -0.5]])[:, None]  # variance and covariance 1/3
    assert [float(term) for term in spread_losses(alike)] == pytest.approx([1 - (1 / 3 + 1e-4) ** 0.5, 1 / 9], abs=1e-6)


def test_tokens_and_their_means_are_both_spread() -> None:
    tokens = torch.randn(200, 5, 3, generator=torch.Generator().manual_seed(0))
    tokens = tokens - tokens.mean(1, keepdim=True)  # vary within, not between
    config = SpreadConfig(variance=2.0, covariance=0.5)
    out = spread([tokens], config, 200)
    parts = [spread_losses(tokens), spread_losses(tokens.mean(1, keepdim=True))]
    assert out["variance"].shape == (200,)
    assert float(out["variance"][0]) == pytest.approx(2 * sum(float(v) for v, _ in parts), rel=1e-5)
    assert float(out["covariance"][0]) == pytest.approx(0.5 * sum(float(c) for _, c in parts), rel=1e-4)
    assert spread([tokens], SpreadConfig(), 200) == {}
    assert bool(torch.isfinite(spread([tokens[:1]], config, 1)["variance"]).all())
    with pytest.raises(ValueError, match=r"spread.variance=-1.0 and spread.covariance=0.0 must not be negative"):
        SpreadConfig(variance=-1.0)


def test_models_that_are_spread_predict_as_before() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    image = IJEPA(replace(presets.ijepa(), spread=presets.APART))
    clip = VJEPA2(replace(presets.vjepa2("motion"), agreement=AgreementConfig()))
    pictures = torch.rand(3, 3, 32, 32), *image.masks()(3, generator)
    clips = [torch.rand(3, 3, 8, 32, 32)], [[sample(3, generator) for sample in clip.masks()]]
    cases: list[tuple[Any, Any]] = [(image, pictures), (clip, clips)]
    for made, given in cases:
        out = made.losses(*given)
        assert set(out) == {"prediction", "variance", "covariance"} and {len(value) for value in out.values()} == {3}
        out["variance"].mean().backward()
        assert bool(made.encoder.norm.weight.grad.any())
        plain = type(made)(replace(made.config, spread=SpreadConfig()))
        plain.load_state_dict(made.state_dict())
        alone = plain.losses(*given)
        torch.testing.assert_close(alone["prediction"], out["prediction"])
        assert set(alone) == {"prediction"}


def test_the_covariance_keeps_its_precision_under_autocast() -> None:
    tokens = torch.randn(200, 5, 3, generator=torch.Generator().manual_seed(0))
    config = SpreadConfig(variance=1.0, covariance=1.0)
    plain = spread([tokens], config, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = spread([tokens], config, 2)
    for name, value in plain.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=0)
