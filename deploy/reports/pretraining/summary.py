"""The end of a pretraining run: a picture of its curves, and how to use its model."""

from pathlib import Path
from typing import Any

from deploy.reports.figure_style import FAINT, STYLE
from deploy.reports.metrics import METRICS, read_lines
from deploy.wiring.pretraining import PretrainConfig
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import newest_model

PANELS = {
    "loss": {"train/loss/total": "training", "probe/loss": "held out", "probe/trivial_loss": "trivial"},
    "accuracy": {"probe/linear_accuracy": "linear probe", "probe/knn_accuracy": "kNN"},
    "effective rank": {"probe/effective_rank": ""},
    "PSNR, dB": {"probe/tokenizer_psnr": "tokenizer", "probe/psnr_1": "next frame", "probe/copy_psnr_1": "last frame"},
    "actions": {
        "probe/action_nmi": "NMI",
        "probe/action_shuffle_ratio": "shuffle ratio",
        "probe/delta_psnr_1": "delta PSNR",
    },
    "error / no change's": {"probe/prediction_ratio": "next latent", "probe/rollout_ratio": "end of clip"},
    "latents": {"probe/latent_std": "std", "probe/latent_std_least": "least std", "probe/state_r2": "R2 of states"},
    "codes used": {"probe/codebook_used": "tokens", "probe/actions_used": "latent actions"},
}
"""Keys of metrics.jsonl in each panel, and their names."""
MEASURED = {
    "probe/loss": "held-out loss",
    "probe/trivial_loss": "trivial loss",
    "probe/linear_accuracy": "linear probe",
    "probe/knn_accuracy": "kNN",
    "probe/effective_rank": "effective rank",
    "probe/prediction_ratio": "next latent",
    "probe/rollout_ratio": "end of clip",
    "probe/latent_std": "latent std",
    "probe/latent_std_least": "least std",
    "probe/state_r2": "R2 of states",
    "probe/tokenizer_psnr": "tokenizer PSNR",
    "probe/codebook_used": "codes used",
    "probe/psnr_1": "next-frame PSNR",
    "probe/copy_psnr_1": "last-frame PSNR",
    "probe/delta_psnr_1": "delta PSNR",
    "probe/action_nmi": "action NMI",
    "probe/actions_used": "actions used",
    "probe/action_shuffle_ratio": "shuffle ratio",
}
"""Keys of metrics.jsonl and their names, of which the first and the last value are printed."""
COLORS = ("#2563eb", "#d97706", "#9ca3af")

USES = {
    "pretrain ijepa": ("images", "[B 1 S S 3]", "tokens = model.encode(normalise(images)[:, :, 0])  # [B N D]"),
    "pretrain vjepa2": ("clips", "[B T S S 3]", "tokens = model.encode(normalise(clips))  # [B N D]"),
    "pretrain vjepa2-ac": (
        "clips",
        "[B T S S 3]",
        "tokens = model.encode(normalise(clips))  # [B T N D]",
    ),
    "pretrain genie-tokenizer": ("clips", "[B T S S C]", "tokens = model.encode(clips)  # [B T N]"),
    "pretrain genie-latent-action": ("clips", "[B T S S C]", "actions = model.infer(clips)  # [B T-1]"),
    "pretrain genie-dynamics": (
        "clips",
        "[B T S S C]",
        "frames = model.generate(clips, actions)  # [B K]: [B K S S C]",
    ),
    "pretrain latent": ("clips", "[B T S S 3]", "latents = model.encode(normalise(clips))  # [B T D]"),
}


def summarize(config: PretrainConfig, logdir: Path) -> None:
    """Print the last measurements, where the curves and the checkpoint are, and three lines that use it."""
    lines = list(read_lines(logdir / METRICS)) if (logdir / METRICS).exists() else []
    print()
    for text in measured(lines):
        print(text)
    try:
        print(f"{'curves:':<12}{draw(lines, logdir / 'curve.png')}")
    except OSError as error:
        print(f"{'curves:':<12}none: {error.strerror or error}")
    checkpoint = newest_model(logdir)
    print(f"{'checkpoint:':<12}{checkpoint}")
    print("\n".join(["To use it:", *(f"  {line}" for line in use(config, checkpoint))]))


def use(config: PretrainConfig, checkpoint: Path) -> list[str]:
    """Python that uses the model on a batch."""
    name, shape, call = USES[config.command]
    return [
        *(["from world_models.frames import normalise"] if "normalise" in call else []),
        "from world_models.loading import load_model",
        f"model = load_model({str(checkpoint)!r})",
        f"{call}; {name}: uint8 {shape}, S = {config.size}",
    ]


def measured(lines: list[dict[str, Any]]) -> list[str]:
    """The first and the last measurement of each kind."""
    out = []
    for key, name in MEASURED.items():
        values = [(line["updates"], line[key]) for line in lines if line.get(key) is not None]
        if values:
            (first, before), (last, now) = values[0], values[-1]
            out.append(f"{name + ':':<17}{now:.4g} at update {last:,} ({before:.4g} at {first:,})")
    return out


def draw(lines: list[dict[str, Any]], file: Path) -> Path:
    """A picture of the measurements by updates; panels without values are left out."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {
        name: keys for name, keys in PANELS.items() if any(line.get(key) is not None for line in lines for key in keys)
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, max(1, len(panels)), figsize=(4.2 * max(1, len(panels)), 3.2), squeeze=False)
        for axis, (name, keys) in zip(axes[0], panels.items(), strict=False):
            for color, (key, label) in zip(COLORS, keys.items(), strict=False):
                points = [(line["updates"], line[key]) for line in lines if line.get(key) is not None]
                if points:
                    axis.plot(*zip(*points, strict=True), color=color, label=label, linewidth=1.5)
            axis.set_title(name, loc="left", color=FAINT)
            axis.set_xlabel("updates")
            axis.set_ylim(min(0, 1.05 * axis.dataLim.y0), 1.05 * axis.dataLim.y1)
            if any(keys.values()):
                axis.legend(frameon=False)
        figure.tight_layout()
        with whole_file(file) as fresh:
            figure.savefig(fresh, dpi=150)
        plt.close(figure)
    return file
