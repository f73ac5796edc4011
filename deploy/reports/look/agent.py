"""Looks into a DreamerV3 agent, at steps of stored replay. Legend: n windows, T steps, S pixels, C channels."""

from functools import cached_property

import numpy as np
import torch

from deploy.reports.look import pictures
from deploy.reports.look.data import Place, windows
from deploy.reports.look.nearest import BANK, Bank, nearest
from deploy.reports.look.pictures import Found
from deploy.reports.open_loop_figure import open_loop_figure
from learner.looking.errors import ErrorMaps, pixel_errors
from learner.looking.futures import PIXELS, observations_ahead
from learner.looking.layers import patch_layers
from learner.open_loop import predicted
from learner.open_loop_report import OpenLoopReport
from learner.probes.features import Note
from replay.counted import counted
from replay.reading.reader import Reader
from replay.step import Rows
from world_models.dreamer.agent import Dreamer

CONTEXT, AHEAD = 5, 15
"""Steps that the agent observes, and steps that it then imagines."""
MEASURED = 64
"""Windows over which errors are averaged."""
_AT_ONCE = 200
_VECTORS = 1
"""Before the context: the step whose latents begin it."""


class AgentLook:
    """Pictures of one agent; each method returns numbers and figures."""

    def __init__(
        self, agent: Dreamer, readers: list[Reader], where: str, task: str, updates: int, count: int, seed: int,
        note: Note,
    ):  # fmt: skip
        self.agent, self.readers, self.where, self.updates = agent, readers, where, updates
        self.count, self.seed, self.note, self.task = count, seed, note, task
        self.device = next(agent.parameters()).device
        images = list(agent.encoder.images)
        self.image = images[0] if images else ""
        """The key of the pictures that are shown; empty: there are none."""
        self.title = f"DreamerV3, {task}" + (f", {self.image}" if len(images) > 1 else "")

    @cached_property
    def drawn(self) -> tuple[Rows, list[Place]]:
        """Windows `[n 1+T ...]` and where they begin; the first ones are shown."""
        return windows(
            self.readers, self.agent, max(self.count, MEASURED), _VECTORS + CONTEXT + AHEAD, self.seed, self.where
        )

    @property
    def rows(self) -> Rows:
        return self.drawn[0]

    @cached_property
    def report(self) -> OpenLoopReport:
        """Truth and prediction of every key."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        return predicted(self.agent, self.rows, CONTEXT, generator, self.updates)

    def pca(self) -> Found:
        chosen = pictures.columns(CONTEXT + AHEAD)
        keys = list(self.agent.encoder.images)
        frames = np.concatenate([self.rows[key][: self.count, 1:][:, chosen] for key in keys], -1)
        layers = patch_layers(self.agent, torch.from_numpy(frames).to(self.device))
        return pictures.pca(self.rows[self.image][: self.count, 1:][:, chosen], layers, self.title, chosen)

    def heat(self) -> Found:
        report, key = self.report, self.image
        after, last = report.truth[key][:, CONTEXT:], report.truth[key][:, CONTEXT - 1 : CONTEXT]
        maps = [
            pixel_errors(x, after) for x in (report.prediction[key][:, CONTEXT:], np.broadcast_to(last, after.shape))
        ]
        for x in maps:
            x[~report.valid[:, CONTEXT:]] = np.nan
        errors = ErrorMaps(error=maps[0], trivial=maps[1], unit=PIXELS, baseline="the last frame", first=CONTEXT)
        what = f"error of each pixel, imagined from actions alone after {CONTEXT} frames"
        return pictures.heat(report.truth[key][: self.count], errors, f"{self.title}: where predictions fail", what)

    def neighbours(self) -> Found:
        queries, bank = Bank(), Bank()
        self._add(queries, self.rows, slice(self.count), 1)
        shown = self.drawn[1][: self.count]
        rows, places = windows(self.readers, self.agent, BANK, 1, self.seed + 1000, self.where, shown)
        for first in range(0, len(places), _AT_ONCE):
            self._add(bank, rows, slice(first, first + _AT_ONCE), 0)
            self.note("neighbours", len(bank), len(places))
        return nearest(queries, bank, f"{self.title}: nearest neighbours", "frame")

    @torch.no_grad()
    def _add(self, bank: Bank, rows: Rows, which: slice, time: int) -> None:
        """One step of each of these windows, with what the encoder makes of it."""
        chosen = {key: rows[key][which, time : time + 1] for key in self.agent.observation_space}
        seen = {key: torch.from_numpy(np.ascontiguousarray(value)).to(self.device) for key, value in chosen.items()}
        bank.add(seen[self.image], self.agent.encoder(seen))

    def rollout(self) -> Found:
        note = f"after {CONTEXT} frames seen, from the actions alone"
        note += f"; {counted(self.updates, 'update')}" if self.updates else ""
        if self.image:
            return pictures.rollout(
                observations_ahead(self.report, self.image, self.count), f"{self.title}: imagined and real", note
            )
        numbers = {
            key: {
                "errors": pictures.finite(self.report.horizon(self.report.error[key])),
                "copied": pictures.finite(self.report.horizon(self.report.still[key])),
            }
            for key in self.report.error
        }
        found = {"context": CONTEXT, "examples": len(self.report.valid), "keys": numbers}
        return found, {"rollout.png": open_loop_figure(self.report, f"{self.task}: imagined and real")}
