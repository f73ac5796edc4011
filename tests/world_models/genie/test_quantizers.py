import pytest
import torch

from world_models.genie.config import QuantizerConfig
from world_models.genie.quantizers import FiniteScalarQuantizer, VectorQuantizer, quantizer


def test_fsq_has_every_code_once_and_looks_it_up() -> None:
    fsq = FiniteScalarQuantizer(QuantizerConfig(kind="fsq", levels=(4, 3)))
    ids = torch.arange(12)
    values = fsq.lookup(ids)
    assert values.unique(dim=0).shape == (12, 2)
    assert values[:, 0].unique().tolist() == [-1.0, -0.5, 0.0, 0.5]  # an even number of levels has one more below 0
    assert values[:, 1].unique().tolist() == [-1.0, 0.0, 1.0]
    far = fsq(100 * (values + 0.25 * torch.tensor([1.0, 0.0])))
    assert far.ids.max() == 11 and far.ids.min() == 0


def test_fsq_passes_gradients_and_rounds_to_the_nearest_level() -> None:
    fsq = FiniteScalarQuantizer(QuantizerConfig(kind="fsq", levels=(5,)))
    x = torch.tensor([[-9.0], [-0.6], [0.1], [9.0]], requires_grad=True)
    out = fsq(x)
    assert out.values.flatten().tolist() == [-1.0, -0.5, 0.0, 1.0]
    assert torch.equal(fsq.lookup(out.ids), out.values)
    out.values.sum().backward()
    assert x.grad is not None and bool((x.grad >= 0).all()) and float(x.grad[2]) > 0.9


def test_vq_takes_the_nearest_code_and_commits_to_it() -> None:
    vq = VectorQuantizer(QuantizerConfig(codes=2, width=2, beta=0.5)).eval()
    vq.codebook.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x = torch.tensor([[3.0, 0.1], [0.2, 7.0]], requires_grad=True)
    out = vq(x)
    assert out.ids.tolist() == [0, 1]
    assert torch.allclose(out.values, vq.codebook)
    unit = torch.nn.functional.normalize(x.detach(), dim=-1)
    assert torch.allclose(out.loss, 0.5 * (unit - vq.codebook).square().mean(-1), atol=1e-5)


def test_vq_finds_clusters_and_replaces_codes_that_nothing_uses() -> None:
    torch.manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(8, 6), dim=-1)
    vq = VectorQuantizer(QuantizerConfig(codes=8, width=6, decay=0.8, dead=0.1)).train()
    for _ in range(60):
        vq(5.0 + 3 * (centres[torch.randint(8, (256,))] + 0.02 * torch.randn(256, 6)))  # far from the origin
    vq.eval()
    ids = vq(5.0 + 3 * centres).ids
    assert len(ids.unique()) == 8


def test_vq_in_evaluation_changes_nothing() -> None:
    vq = quantizer(QuantizerConfig(codes=4, width=2)).eval()
    before = {name: value.clone() for name, value in vq.state_dict().items()}
    vq(torch.randn(16, 2))
    assert all(torch.equal(before[name], value) for name, value in vq.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "none"}, "kind='none' is not one of vq, fsq"),
        ({"codes": 1}, "codes=1 must be at least 2"),
        ({"levels": (1, 5)}, "levels"),
        ({"dead": 1.0}, r"dead=1.0 must lie in \[0, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizerConfig(**options)
