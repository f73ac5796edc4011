"""An offline run steps no environment, so it keeps none open."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.inline_run import InlineRun
from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from deploy.wiring.task import FirstEnvironment


class Recorded(FirstEnvironment):
    closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


@pytest.mark.parametrize("offline", ["", "elsewhere"])
def test_the_first_environment_of_an_offline_run_is_closed_once_its_spaces_are_known(
    tmp_path: Path, offline: str
) -> None:
    config = replace(apply(RunConfig(task="gym:CartPole-v1"), "quick", ""), mode="inline", offline=offline)
    first = Recorded(config)
    run = InlineRun(replace(config, logdir=str(tmp_path / "run")), tmp_path / "run", first)
    assert first.closed == bool(offline)
    first.close()
    run.store.close()
