"""The settings of a run fitted to the model that it begins with, and to its data."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy.stored.pretraining_data import first_example
from deploy.wiring.pretrain_presets import COOLDOWN, preset
from deploy.wiring.pretraining import GenieDynamicsRun, LatentRun, PretrainConfig, VJEPA2ACRun
from learner.datasets.dataset import Example
from world_models.checkpoint_files import newest_model
from world_models.genie.config import LatentActionConfig, TokenizerConfig
from world_models.jepa.config import VJEPA2Config
from world_models.latent.config import LatentWorldConfig
from world_models.model_document import ModelDocument, read_model_document


def fitted_to_init(config: PretrainConfig, name: str) -> PretrainConfig:
    """`config`, of the preset `name`, with the model that it begins with. ValueError: that is of another family."""
    kind, init = type(config.model_config), getattr(config, "init", "")
    if not init:
        if name == COOLDOWN:
            raise ValueError(
                f"--preset {COOLDOWN} goes on from a model; name a run or an imported one, e.g. --init runs/vjepa2."
            )
        return config
    model = _document(init, "--init", kind).config
    if name == COOLDOWN:
        model = replace(model, frames=config.frames)
    return replace(config, model=model)  # type: ignore[call-arg]


def require_init(config: PretrainConfig, fitted: PretrainConfig) -> None:
    """ValueError: options ask for another network than the one to begin with."""
    if init := getattr(config, "init", ""):
        free = ("recompute", "size") if isinstance(config.model_config, VJEPA2Config) else ("recompute",)
        for part in ("encoder", "predictor"):
            given, found = (getattr(one.model_config, part) for one in (config, fitted))
            _require_same(f"--model.{part}", given, found, f"--init {init}", free)


def fitted_to_encoder(config: VJEPA2ACRun, name: str, example: str) -> VJEPA2ACRun:
    """The preset `name` for the encoder that `config` names, and for the actions and states of its data. ValueError:
    there is no such encoder, or there are no actions."""
    if not config.encoder:
        raise ValueError(f"nexus pretrain vjepa2-ac needs --encoder, a run of nexus pretrain vjepa2, e.g. {example}")
    document = _document(config.encoder, "--encoder", VJEPA2Config)
    shown = _with_actions(config)
    actions, states = shown["actions"][0], shown.get("states", np.zeros((1, 0, 0)))[0]
    fitted = preset("vjepa2-ac", name, actions.shape[-1], states.shape[-1])
    assert isinstance(fitted, VJEPA2ACRun)
    model = replace(fitted.model, encoder=document.config.encoder)
    if model.state_update == "add" and not np.allclose(states[:-1] + actions, states[1:], atol=1e-4):
        model = replace(model, state_update="hold")  # they are not in the same units
    return replace(fitted, model=model)


def require_encoder(config: VJEPA2ACRun, fitted: VJEPA2ACRun) -> None:
    """ValueError: options ask for another encoder than the one there is, or for other actions or states."""
    given, found = config.model, fitted.model
    _require_same("--model.encoder", given.encoder, found.encoder, f"--encoder {config.encoder}", ("recompute",))
    for name in ("action", "state"):
        if getattr(given, name) not in (getattr(found, name), 0):  # 0: without states
            raise ValueError(
                f"--model.{name} {getattr(given, name)}: those of --data {config.data.where} have "
                f"{getattr(found, name)} numbers; leave it out, or name other keys with --data.{name}s."
            )


def fitted_to_actions(config: LatentRun, name: str) -> LatentRun:
    """The preset `name` for the actions of the data and for the encoder that `config` names, if it does; nothing is
    then left for the losses that only train encoders. ValueError: there are none, or there is no such encoder."""
    fitted = preset("latent", name, _with_actions(config)["actions"].shape[-1])
    assert isinstance(fitted, LatentRun)
    if not config.encoder:
        return fitted
    found, model = _document(config.encoder, "--encoder", LatentWorldConfig).config, fitted.model
    model = replace(
        model,
        encoder=found.encoder,
        latent=found.latent,
        inverse=0.0,
        regulariser=replace(model.regulariser, weight=0.0),
    )
    return replace(fitted, model=model)


def require_actions(config: LatentRun, fitted: LatentRun) -> None:
    """ValueError: options ask for other actions than there are, for another encoder than the one to use, or for clips
    that are encoded once by an encoder that learns."""
    if config.encoded_clips and not config.encoder:
        raise ValueError(
            f"--encoded-clips {config.encoded_clips}: latents stay as they are with a finished encoder alone; name a "
            "run that has trained one with --encoder, or leave the option out."
        )
    if config.encoder:
        where = f"--encoder {config.encoder}"
        _require_same("--model.encoder", config.model.encoder, fitted.model.encoder, where)
        if config.model.latent != fitted.model.latent:
            raise ValueError(
                f"--model.latent {config.model.latent}: {where} has {fitted.model.latent}, which its weights need; "
                "leave the option out."
            )
    if (given := config.model.action) != (found := fitted.model.action):
        raise ValueError(
            f"--model.action {given}: those of --data {config.data.where} have {found} numbers; leave it out, or name "
            "other keys with --data.actions."
        )


def fitted_to_parts(config: GenieDynamicsRun, example: str) -> GenieDynamicsRun:
    """`config` for the tokenizer and the latent action model that it names, or for the actions of its data. ValueError:
    one is missing or superfluous."""
    if not config.tokenizer:
        raise ValueError(
            f"nexus pretrain genie-dynamics needs --tokenizer, a run of nexus pretrain genie-tokenizer, e.g. {example}"
        )
    tokenizer = _document(config.tokenizer, "--tokenizer", TokenizerConfig).config
    if config.real_actions:
        if config.latent_action:
            raise ValueError(
                "nexus pretrain genie-dynamics takes either --real-actions or --latent-action; leave one out."
            )
        # Any width will do until an example has been seen.
        fitted = replace(config, model=replace(config.model, tokenizer=tokenizer, real_actions=1))
        width = _with_actions(fitted)["actions"].shape[-1]
        return replace(fitted, model=replace(fitted.model, real_actions=width))
    if not config.latent_action:
        raise ValueError(
            "nexus pretrain genie-dynamics needs --latent-action, a run of nexus pretrain genie-latent-action, or "
            f"--real-actions True, e.g. {example}"
        )
    latent_action = _document(config.latent_action, "--latent-action", LatentActionConfig).config
    model = replace(config.model, tokenizer=tokenizer, latent_action=latent_action, real_actions=0)
    return replace(config, model=model)


def require_parts(config: GenieDynamicsRun, fitted: GenieDynamicsRun) -> None:
    """ValueError: options ask for other parts than those there are."""
    _require_same(
        "--model.tokenizer", config.model.tokenizer, fitted.model.tokenizer, f"--tokenizer {config.tokenizer}"
    )
    if (width := config.model.real_actions) not in (fitted.model.real_actions, 0):
        raise ValueError(
            f"--model.real-actions {width}: the actions of --data {config.data.where} have {fitted.model.real_actions} "
            "numbers; leave it out, and give --real-actions True to use them."
        )
    if not config.real_actions:
        given, found = config.model.latent_action, fitted.model.latent_action
        _require_same("--model.latent-action", given, found, f"--latent-action {config.latent_action}")


def _with_actions(config: PretrainConfig) -> Example:
    """An example with actions. ValueError: there are none."""
    shown = first_example(config)
    if "actions" not in shown:
        raise ValueError(
            f"--data {config.data.where} has no actions, only {', '.join(sorted(shown))}; if they are recorded under "
            "other names than action, name them with --data.actions."
        )
    return shown


def _document(path: str, option: str, kind: type[Any]) -> ModelDocument:
    document = read_model_document(newest_model(Path(path)))
    if not isinstance(document.config, kind):
        raise ValueError(
            f"{option} {path} holds a model of family {document.family.name!r}; give a run, checkpoint or imported "
            f"model of {kind.family}."
        )
    return document


def _require_same(option: str, given: Any, found: Any, where: str, free: tuple[str, ...] = ()) -> None:
    for name in (field.name for field in fields(found) if field.name not in free):
        if getattr(given, name) != getattr(found, name):
            raise ValueError(
                f"{option}.{name.replace('_', '-')} {getattr(given, name)}: {where} has {getattr(found, name)}, which "
                "its weights need; leave the option out."
            )
