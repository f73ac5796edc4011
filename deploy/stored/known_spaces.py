"""The spaces of stored replay, as far as they are known. Torch-free."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.wiring.config import RunConfig, load_config
from learner.checkpoint import Checkpoints, verify
from world_models.checkpoint_files import MODEL_CONFIG, RUN_CONFIG
from world_models.model_document import read_model_document
from world_models.space import Space, Spaces


def known_spaces(sources: Sequence[str], task: str = "") -> tuple[str, tuple[Spaces, Spaces] | None]:
    """Task, observation and action spaces, from `task`, or else from what the sources record."""
    if task:
        from deploy.wiring.task import spaces_of

        return task, spaces_of(RunConfig(task=task))
    for source in map(Path, sources):
        folders = [source, source.parent]
        if (source / RUN_CONFIG).exists():
            checkpoints = Checkpoints.of(source)
            folders = [checkpoints.path(number) for number in reversed(checkpoints.numbers())]
        for folder in folders:
            try:
                verify(folder, [MODEL_CONFIG])
                document = read_model_document(folder)
            except ValueError:
                continue
            return document.task, (document.observation, document.action)
        if (source / RUN_CONFIG).exists():
            from deploy.wiring.task import spaces_of

            config = load_config(source)
            return config.task, spaces_of(config)
    return "", None


def recorded_spaces(index: Mapping[str, Any]) -> tuple[Spaces, Spaces] | None:
    """The spaces that the index of exported episodes records, if it does."""
    if "observation" not in index or "action" not in index:
        return None
    observation, action = (
        {key: Space.from_json(fields) for key, fields in index[part].items()} for part in ("observation", "action")
    )
    return observation, action
