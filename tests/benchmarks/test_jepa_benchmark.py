"""The JEPA benchmark runs, and its plain programs compute what ours do."""

import json

import pytest
import torch

from tests.benchmarks import jepa, jepa_plain
from world_models.jepa.vjepa2_ac import VJEPA2AC


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert jepa.main(["--cases", "cem", "--rounds", "1"]) == 0
    table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    case = report["cases"]["cem"]
    assert table.startswith("cem") and report["threads"] == 1
    assert case["seconds"].keys() == {"ours", "plain"} and case["ratio"]["plain"] > 0
    assert report["value"] == pytest.approx(case["ratio"]["plain"] / case["limit"])


def copied(plain: jepa_plain.ActionConditioned, ours: VJEPA2AC) -> None:
    """Our parameters in the plain program, whose modules are made in the same order."""

    def blocks(theirs: torch.nn.ModuleList, own: torch.nn.ModuleList) -> None:
        for block, source in zip(theirs, own, strict=True):
            names = {"qkv": "attn.qkv", "proj": "attn.proj", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
            for name in ("norm1", "norm2", "qkv", "proj", "mlp.0", "mlp.2"):
                state = source.get_submodule(names.get(name, name)).state_dict()
                block.get_submodule(name).load_state_dict(state)

    encoder, predictor = ours.encoder, ours.predictor
    blocks(plain.encoder.blocks, encoder.blocks)
    blocks(plain.blocks, predictor.predictor_blocks)
    plain.encoder.embed.load_state_dict(encoder.patch_embed.proj.state_dict())
    plain.encoder.norm.load_state_dict(encoder.norm.state_dict())
    for name, source in (
        ("enter", "predictor_embed"), ("leave", "predictor_proj"), ("action", "action_encoder"),
        ("state", "state_encoder"), ("norm", "predictor_norm"),
    ):  # fmt: skip
        plain.get_submodule(name).load_state_dict(predictor.get_submodule(source).state_dict())


def test_both_programs_of_v_jepa_2_ac_compute_the_same() -> None:
    torch.manual_seed(0)
    ours, plain = jepa.action_conditioned()
    copied(plain, ours)
    clips, actions, states = torch.randn(2, 3, 3, 64, 64), torch.randn(2, 2, 7), torch.randn(2, 3, 7)
    latents = ours.encode(clips)
    assert torch.allclose(plain.encode(clips), latents.flatten(1, 2), atol=1e-4)
    forced, _ = ours.predictor(latents[:, :-1], actions, states[:, :-1])
    expected = torch.nn.functional.layer_norm(forced, forced.shape[-1:]).flatten(1, 2)
    assert torch.allclose(plain.predict(latents[:, :-1].flatten(1, 2), actions, states[:, :-1]), expected, atol=1e-4)
