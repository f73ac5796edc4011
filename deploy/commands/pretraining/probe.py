"""`nexus probe`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deploy.commands.numbers import NotNegative, Positive
from deploy.commands.parsing import OptionalPath, parse
from deploy.wiring.output_path import require_writable_folder

EXAMPLE = "nexus probe runs/ijepa --data generated:digits --baselines --out runs/ijepa/probe"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Score how well classifiers read labels from a frozen encoder.

    Linear, attentive and kNN probes learn from the labels of --data and are scored on examples that nothing was chosen
    by: those of --test, the test split of generated data, or a share of --data. What they are compared with is trained
    in the same run (--baselines, --finetune). With --out, each probe of the encoder is saved as a head, to be scored on
    other data by --head.
    """

    path: Positional[Path]
    """A run of nexus pretrain ijepa, vjepa2, vjepa2-ac or latent, a checkpoint, or a model of nexus import-weights."""
    data: Annotated[str, arg(metavar="WHERE")]
    """Labelled data, such as a folder with a subfolder for each class, generated:digits or generated:motion. With
    --head: what the head is scored on."""
    test: Annotated[str, arg(metavar="WHERE", help_behavior_hint="(default: held out from --data)")] = ""
    """Other data to score on, with the same classes."""
    held_out: float = 0.2
    """Share of --data to score on, where there is no --test and no test split."""
    kind: tuple[Literal["linear", "attentive", "knn"], ...] = ("linear", "knn")
    """Probes: linear and kNN see the mean token, attentive probes all tokens."""
    head: OptionalPath = None
    """Folder of a saved head, which is scored in place of new probes."""
    baselines: bool = False
    """Also score a random encoder, raw pixels, frame differences of clips, shuffled frames where the encoder sees their
    order (V-JEPA 2), and an encoder of the same size trained on the labels from nothing (I-JEPA, V-JEPA 2)."""
    finetune: bool = False
    """Also train the encoder itself on the labels, from its weights: of I-JEPA and V-JEPA 2."""
    out: OptionalPath = None
    """Folder for probe.json, probe.png and the heads; with --head for scores.json and scores.png."""
    json: bool = False
    """Print one JSON object alone."""
    examples: NotNegative = 0
    """Training examples at most, of --tuning-data too; 0 for all."""
    test_examples: NotNegative = 0
    """Test examples at most; 0 for all."""
    validation: float = 0.2
    """Share of the training examples by which penalties and rates are chosen."""
    penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """L2 penalties of the linear probe, trained side by side."""
    neighbours: Positive = 20
    """Of kNN."""
    temperature: float = 0.07
    """Of kNN: a neighbour votes with exp(cosine similarity / temperature)."""
    depth: Positive = 4
    """Blocks of the attentive probe, the cross-attention included."""
    heads: NotNegative = 0
    """Attention heads of the attentive probe; 0 for 16, or the most below that divide the width."""
    epochs: Positive = 20
    """Passes over the training examples of the attentive probe."""
    lrs: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates of the attentive probe, each with each decay, trained side by side."""
    decays: tuple[float, ...] = (0.01, 0.4)
    """Weight decays of the attentive probe."""
    tuning_data: Annotated[str, arg(metavar="WHERE", help_behavior_hint="(default: --data)")] = ""
    """What --finetune and the encoder that --baselines trains from nothing learn from, such as
    generated:fresh_digits."""
    tuning_epochs: Positive = 20
    """Passes of both."""
    tuning_lr: float = 1e-3
    """Their learning rate."""
    stride: Positive = 1
    """Steps from one frame of a clip to the next."""
    fps: float = 0.0
    """If positive, videos have the stride that shows this many frames a second."""
    batch_size: Positive = 64
    """Examples to encode at once, and in an update."""
    memory: float = 8.0
    """GB that the features may take; attentive probes keep all tokens."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    seed: NotNegative = 0
    """Seed of every draw."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Probe, arguments, prog="nexus probe", example=EXAMPLE)
    if given.head and (given.baselines or given.finetune):
        raise ValueError("--head scores a saved head; --baselines and --finetune train new ones: leave them out.")
    if not 0 < given.held_out < 1:
        raise ValueError(f"--held-out {given.held_out:g} must lie between 0 and 1.")
    if given.out:
        require_writable_folder(given.out, "--out")
    from deploy.reports.pretraining.probing import ProbeSettings, probe_model
    from learner.probes.attentive import AttentiveConfig
    from learner.probes.evaluation import ProbeConfig
    from learner.probes.finetune import FinetuneConfig

    attentive = AttentiveConfig(
        depth=given.depth, heads=given.heads, epochs=given.epochs, batch_size=given.batch_size, lrs=given.lrs,
        decays=given.decays,
    )  # fmt: skip
    config = ProbeConfig(
        kinds=given.kind, decays=given.penalties, neighbours=given.neighbours, temperature=given.temperature,
        attentive=attentive, validation=given.validation, baselines=given.baselines, finetune=given.finetune,
        end_to_end=FinetuneConfig(epochs=given.tuning_epochs, batch_size=given.batch_size, lr=given.tuning_lr),
        examples=given.examples, test_examples=given.test_examples, batch_size=given.batch_size, memory=given.memory,
        seed=given.seed,
    )  # fmt: skip
    settings = ProbeSettings(
        data=given.data, test=given.test, held_out=given.held_out, tuning=given.tuning_data, stride=given.stride,
        fps=given.fps, head=given.head, out=given.out, json=given.json, device=given.device,
    )  # fmt: skip
    probe_model(given.path, settings, config)
    return 0
