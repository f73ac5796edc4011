"""A checkpoint of a small, untrained Genie, as runs save it."""

import json
from pathlib import Path

from safetensors.numpy import save_file

from tests.world_models.genie.small import small_genie
from world_models.checkpoint_files import MODEL_CONFIG, WEIGHTS
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


def saved_genie(folder: Path, real_actions: int = 0) -> Path:
    genie = small_genie(real_actions=real_actions)
    folder.mkdir(parents=True)
    save_file(as_arrays(genie), folder / WEIGHTS)
    (folder / MODEL_CONFIG).write_text(json.dumps(ModelDocument(config=genie.config).to_json()))
    return folder
