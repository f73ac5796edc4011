"""One page's world: what the page asks, and the answers."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deploy.monitor.answers import to_text
from deploy.monitor.questions import QuestionError, asked
from deploy.play.film import Film
from deploy.play.game import Game
from deploy.play.world import PREVIEW, World

RATES = (1, 60)  # frames a second of a film
STEPS = ("step", "follow")
"""Requests that move the world on by a frame."""
_NO_TRUTH = 40  # grey of a film where the recording is over


def packed(kind: str, pictures: Sequence[np.ndarray] = (), data: bytes = b"", **about: Any) -> bytes:
    """A message to the page: a line of JSON, then pictures uint8 `[H W C]` of one size as they are, or other data."""
    if pictures:
        height, width, channels = pictures[0].shape
        about |= {"pictures": len(pictures), "height": height, "width": width, "channels": channels}
        data = b"".join(picture.tobytes() for picture in pictures)
    return to_text({"kind": kind, **about}).encode() + b"\n" + data


class Session:
    """Answers one request after another, in one thread at a time."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.world: World | None = None
        self._film: Film | None = None
        self._beside = False
        self._previews: Iterator[np.ndarray] = iter(())
        self.previewing = False
        """Whether there may be previews that the page has not got yet."""
        self._begun = 0

    def hello(self) -> bytes:
        """What there is to play, with a picture of each recording."""
        recordings, config = self.game.recordings, self.game.model.config
        about = [{"length": len(one.frames), "begins": one.begins} for one in recordings]
        pictures = [one.frames[one.begins].cpu().numpy() for one in recordings]
        return packed("hello", pictures, name=self.game.name, actions=config.actions, preview=PREVIEW,
                      latent=not config.real_actions, recordings=about)  # fmt: skip

    def answer(self, request: Any) -> bytes:
        """QuestionError: it makes no sense."""
        match request:
            case {"do": "begin", "recording": int(recording), "frame": int(frame)}:
                self.world = self.game.begin(recording, frame)
                self._previews = self.world.previews()
                self.previewing = True
                self._begun += 1
                self._shoot()
                return self._seen(0.0)
            case {"do": "step", "action": int(action)} if 0 <= action < self.game.model.config.actions:
                return self._stepped(action)
            case {"do": "follow"}:
                return self._stepped(None)
            case {"do": "record", "fps": int(fps), "beside": bool(beside)} if RATES[0] <= fps <= RATES[1]:
                self._playing()
                if self._film:
                    raise QuestionError("A film is being recorded; end it first.")
                with asked():
                    self._film, self._beside = Film(fps), beside
                self._shoot()
                return packed("recording")
            case {"do": "cut"} if self._film:
                film, self._film = self._film, None
                return packed("film", data=film.finish(), frames=film.frames, full=film.full)
        raise QuestionError(f"{to_text(request)[:200]} is no request.")

    def preview(self) -> bytes:
        """The next frame of what each action does; without pictures if there is none left."""
        pictures = next(self._previews, None)
        self.previewing = pictures is not None
        return packed("preview", [] if pictures is None else list(pictures), begun=self._begun)

    def _stepped(self, action: int | None) -> bytes:
        world, began = self._playing(), time.perf_counter()
        if action is not None:
            world.step(action)
        elif not world.follow():
            return packed("over")
        frame = self._seen(time.perf_counter() - began)
        self._shoot()
        return frame

    def _seen(self, seconds: float) -> bytes:
        world = self._playing()
        truth = world.truth
        known = world.left is None and truth is not None
        psnr = _psnr(world.frame, truth) if known and truth is not None and world.steps else None
        return packed("frame", [world.frame, *([] if truth is None else [truth])], step=world.steps, left=world.left,
                      seconds=seconds, drift=world.drift(), psnr=psnr, begun=self._begun)  # fmt: skip

    def _shoot(self) -> None:
        if self._film:
            world = self._playing()
            truth = world.truth
            empty = np.full_like(world.frame, _NO_TRUTH)
            beside = [empty if truth is None else truth] if self._beside else []
            self._film.add(np.concatenate([*beside, world.frame], 1))

    def _playing(self) -> World:
        if self.world is None:
            raise QuestionError("Begin a world first.")
        return self.world


def _psnr(x: np.ndarray, y: np.ndarray) -> float:
    error = np.square(x.astype(np.float32) - y).mean() / 255**2
    return float(-10 * np.log10(max(error, 1e-6)))
