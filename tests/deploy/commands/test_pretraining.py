"""`nexus pretrain` from another model's weights, and in the wrong way: each mistake is named before a run begins."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.commands.pretrain import run
from deploy.commands.pretraining import genie
from deploy.commands.pretraining.ijepa import IJEPACommand
from deploy.commands.pretraining.start import parse_pretrain
from deploy.commands.pretraining.vjepa2 import VJEPA2Command
from deploy.pretrain_run import build_trainer
from deploy.reports.metrics import METRICS, read_lines
from learner.checkpoint import Checkpoints, read_arrays
from learner.processes import Processes
from world_models.jepa import presets
from world_models.jepa.vjepa2 import VJEPA2
from world_models.loading import load_model
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny V-JEPA 2."""
    model = VJEPA2(presets.vjepa2())
    document = ModelDocument(config=model.config).to_json()
    return Checkpoints(tmp_path_factory.mktemp("video")).save(
        "model", {"model": as_arrays(model)}, {"config": document}
    )


def recordings(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir()
    np.savez(folder / "0.npz", allow_pickle=False, **arrays)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.encoder.patch", "8"], "--model.encoder.patch 8: --encoder .* has 4, which its weights need"),
        (["--model.action", "3"], "--model.action 3: those of --data .* have 2 numbers; leave it out"),
        (["--model.state", "1", "--model.state-update", "hold"], "--model.state 1: .* have 2 numbers"),
        (["--model.rollout", "8"], "rollout=8 must be less than frames=8"),
    ],
)
def test_options_that_do_not_fit_encoder_or_data(options: list[str], message: str, video: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures, moves = rng.integers(0, 255, (20, 32, 32, 3), np.uint8), rng.random((20, 2), np.float32)
    data = recordings(tmp_path / "data", image=pictures, action=moves, place=moves)
    logdir = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        run(["vjepa2-ac", "--data", str(data), "--encoder", str(video), "--logdir", str(logdir), *options])
    assert not logdir.exists()


def test_recordings_without_what_is_needed(video: Path, tmp_path: Path) -> None:
    pictures, vectors = np.zeros((20, 32, 32, 3), np.uint8), np.zeros((20, 3), np.float32)
    data = recordings(tmp_path / "pictures", image=pictures)
    with pytest.raises(ValueError, match=r"has no actions, only frames; .* name them with --data\.actions"):
        run(["vjepa2-ac", "--data", str(data), "--encoder", str(video)])
    data = recordings(tmp_path / "floats", image=pictures.astype(np.float32), place=vectors)
    for method in ("ijepa", "vjepa2"):
        with pytest.raises(ValueError, match=r"has no images \(uint8 .* of a step are image float32 \[32, 32, 3\], pl"):
            run([method, "--data", str(data), "--logdir", str(tmp_path / "run")])


def test_a_latent_world_takes_the_actions_of_its_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures, moves = rng.integers(0, 255, (20, 64, 64, 3), np.uint8), rng.random((20, 3), np.float32)
    data = recordings(tmp_path / "data", image=pictures, action=moves, place=moves)
    logdir = tmp_path / "run"
    words = ["latent", "--data", str(data), "--logdir", str(logdir)]
    for options, message in (
        (["--model.action", "2"], "--model.action 2: those of --data .* have 3 numbers; leave it out"),
        (["--model.rollout", "8"], "frames=8 must be at least history=1 plus rollout=8"),
        (["--preset", "bass"], "has no preset 'bass'; the nearest: base"),
        (["--encoded-clips", "4"], "--encoded-clips 4: latents stay as they are with a finished encoder alone"),
        (["--encoded-clips", "-1"], "encoded_clips=-1 must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            run([*words, *options])
    still = recordings(tmp_path / "still", image=pictures)
    with pytest.raises(ValueError, match=r"has no actions, only frames; .* name them with --data\.actions"):
        run(["latent", "--data", str(still)])
    assert not logdir.exists()
    for number in range(1, 8):
        np.savez(data / f"{number}.npz", allow_pickle=False, image=pictures, action=moves, place=moves)
    few = ["--training.batch-size", "2", "--training.updates", "2", "--training.threads", "1", "--data.threads", "0"]
    probe = ["--probe.examples", "8", "--probe.batch-size", "4", "--probe.held-out", "0"]
    assert run([*words, *few, *probe, "--model.inverse", "1"]) == 0
    model = load_model(logdir)
    assert model.config.action == 3 and model.config.inverse == 1  # type: ignore[union-attr]
    last = list(read_lines(logdir / METRICS))[-1]
    measured = ("loss", "trivial_loss", "effective_rank", "latent_std", "latent_std_least", "prediction_ratio")
    losses = ("prediction", "rollout", "regulariser", "inverse")
    assert {f"probe/{name}" for name in (*measured, "rollout_ratio", "state_r2")} <= last.keys()
    assert {f"train/loss/{name}" for name in losses} <= last.keys()
    words = ["latent", "--data", str(data), "--encoder", str(logdir), "--logdir", str(tmp_path / "second")]
    with pytest.raises(ValueError, match="--model.latent 8: --encoder .* has 32, which its weights need; leave the"):
        run([*words, "--model.latent", "8"])
    with pytest.raises(ValueError, match="--model.encoder.width 8: --encoder .* has 16, which its weights need"):
        run([*words, "--model.encoder.width", "8"])
    assert run([*words, *few, *probe, "--model.predictor.width", "32", "--encoded-clips", "3"]) == 0
    again = load_model(tmp_path / "second")
    assert again.config.inverse == again.config.regulariser.weight == 0  # type: ignore[union-attr]
    for key, value in again.get_submodule("encoder").state_dict().items():
        assert torch.equal(value, model.get_submodule("encoder").state_dict()[key]), key


def test_an_encoder_that_is_none(tmp_path: Path) -> None:
    words = ["vjepa2-ac", "--data", "generated:point_reach", "--encoder"]
    (tmp_path / "file").touch()
    (tmp_path / "model.safetensors").touch()
    for path, message in (
        (tmp_path / "absent", "absent is no directory; give a run directory"),
        (tmp_path / "file", "file is a file; give a run directory"),
        (tmp_path, "No config.json under .*; give a run directory"),
    ):
        with pytest.raises(ValueError, match=message):
            run([*words, str(path)])


def test_the_cooldown_goes_on_from_the_weights_and_moments_of_a_run(tmp_path: Path) -> None:
    data = recordings(tmp_path / "data", image=np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8))
    few = ["--training.batch-size", "2", "--training.updates", "2", "--training.threads", "1", "--probe.every", "0"]
    words = ["--data", str(data), *few, "--data.fps", "0", "--data.threads", "0"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(["vjepa2", *words, "--logdir", str(first), "--model.encoder.width", "32"]) == 0
    more = [*words, "--init", str(first), "--preset", "cooldown", "--logdir", str(second)]
    config, _ = parse_pretrain("vjepa2", VJEPA2Command, more, "")
    assert (config.model_config.encoder.width, config.frames) == (32, 64)
    assert [config.training.lr.at(k, 2) for k in (1, 2)] == pytest.approx([(5.25e-4 + 1e-6) / 2, 1e-6])
    trainer = build_trainer(config, Processes(), fresh=True)
    weights, state = as_arrays(load_model(first)), trainer.state()
    assert all(np.array_equal(weights[name], value) for name, value in as_arrays(trainer.model).items())
    moments = read_arrays(first / "checkpoints" / "0000000002" / "training.safetensors")
    assert moments.keys() == state.keys() and all(
        np.array_equal(moments[k], state[k]) for k in moments.keys() - {"updates"}
    )
    assert trainer.updates == 0
    assert run(["vjepa2", *more, "--model.frames", "16"]) == 0
    with pytest.raises(ValueError, match=r"--model\.predictor\.heads 2: --init .* has 4, which its weights need"):
        run(["vjepa2", *more, "--model.predictor.heads", "2"])


def test_a_run_begins_with_an_imported_model_of_its_family_alone(video: Path, tmp_path: Path) -> None:
    words = ["--data", "generated:motion", "--init"]
    config, _ = parse_pretrain("vjepa2", VJEPA2Command, [*words, str(video), "--model.frames", "4"], "")
    weights = as_arrays(load_model(video))
    trainer = build_trainer(config, Processes(), fresh=True)
    assert all(np.array_equal(weights[name], value) for name, value in as_arrays(trainer.model).items())
    with pytest.raises(ValueError, match=r"--init .* holds a model of family 'vjepa2'; give a run, .* of ijepa"):
        parse_pretrain("ijepa", IJEPACommand, [*words, str(video)], "")
    with pytest.raises(ValueError, match="--preset cooldown goes on from a model; name a run or an imported one"):
        parse_pretrain("vjepa2", VJEPA2Command, ["--data", "generated:motion", "--preset", "cooldown"], "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dynamics.model.dynamics.conditioning", "nothing"], "conditioning='nothing' is not one of prepend, add"),
        (["--dynamics.model.dynamics.mask-low", "2"], "mask_low=2"),
        (["--latent-action.model.actions", "1"], "actions=1 must be at least 2"),
    ],
)
def test_all_stages_of_a_world_are_checked_before_the_first_begins(
    tmp_path: Path, options: list[str], message: str
) -> None:
    logdir = tmp_path / "world"
    with pytest.raises(ValueError, match=message):
        genie.run(["--data", "generated:block_world", "--logdir", str(logdir), *options])
    assert not logdir.exists()


def test_data_that_cannot_be_read_does_not_take_the_directory(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"")
    words = ["--logdir", str(tmp_path / "run"), "--training.updates", "1", "--training.batch-size", "2"]
    with pytest.raises(ValueError, match="1 of 1 example cannot be read"):
        run(["ijepa", "--data", str(tmp_path / "bad"), *words])
    assert not (tmp_path / "run" / "config.yaml").exists()
