"""`python -m tests.benchmarks.datasets`: examples per second from files and from replay, as pretraining reads them.

Pictures are JPEGs of 500x375 pixels, cropped at random to 224; videos are H.264 of 320x240 pixels at 30 fps, clips of
16 frames at 7.5 fps cropped to 224; recordings are .npz files, and replay is a checkpoint, of 64x64 pixels, clips of 16
frames. Beside pictures and videos stands a plain loop over Pillow and PyAV in the same process: decode what is needed,
crop and resize with Pillow. They take turns. CPU seconds are the measure on a busy machine.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from deploy.stored.datasets import open_dataset
from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip
from learner.datasets.view import View
from replay.memory.memory_store import MemoryStore
from replay.step import Field, Schema
from tests.benchmarks.machine import describe, matmul_rate, median, versions

FILES, FRAMES = 24, 16
VIEW = View(size=224, scale=(0.3, 1.0), aspect=(0.75, 4 / 3), flip=True)
CLIP = Clip(frames=FRAMES)
RATE = 7.5


def scene(rng: np.random.Generator, frames: int, height: int, width: int) -> np.ndarray:
    """Smooth colours that move, with some noise: about as hard to decode as photographs."""
    y, x = np.mgrid[:height, :width] / 60
    phase = rng.uniform(0, 6, 3)
    waves = [np.sin(x[..., None] + y[..., None] * phase + t / 5 + phase) for t in range(frames)]
    noise = rng.normal(0, 8, (frames, height, width, 3))
    return (128 + 90 * np.stack(waves) + noise).clip(0, 255).astype(np.uint8)


def make(folder: Path) -> None:
    """The files and the checkpoint."""
    rng = np.random.default_rng(0)
    for name in ("pictures", "videos", "recordings"):
        (folder / name).mkdir()
    for i in range(FILES):
        Image.fromarray(scene(rng, 1, 375, 500)[0]).save(folder / "pictures" / f"{i}.jpg", quality=90)
    for i in range(FILES // 4):
        with av.open(str(folder / "videos" / f"{i}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for frame in scene(rng, 150, 240, 320):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    places = {"image": Field(dtype=np.dtype(np.uint8), shape=(64, 64, 3))}
    moves = {"action": Field(dtype=np.dtype(np.float32), shape=(6,))}
    latents = {"deter": Field(dtype=np.dtype(np.float16), shape=(2048,))}
    schema = Schema.transitions(places, moves, latents=latents)
    store = MemoryStore(schema, length=65, capacity=20_000, chunk_length=256)
    for stream_id in range(8):
        rows = {key: np.zeros((500, *field.shape), field.dtype) for key, field in schema.all.items()}
        rows["image"] = scene(rng, 500, 64, 64)
        rows["is_first"][0] = rows["is_last"][-1] = True
        store.append(stream_id, 0, rows)
        arrays = {"image": rows["image"], "action": rows["action"]}
        np.savez_compressed(folder / "recordings" / f"{stream_id}.npz", allow_pickle=False, **arrays)
    store.checkpoint(folder / "replay")


def plain_picture(folder: Path, rng: np.random.Generator) -> np.ndarray:
    """One picture, by Pillow alone."""
    with Image.open(folder / "pictures" / f"{rng.integers(FILES)}.jpg") as image:
        box, _ = VIEW.draw(*image.size, rng)
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR, corners))


def plain_video(folder: Path, rng: np.random.Generator) -> np.ndarray:
    """One clip, by PyAV and Pillow alone: from the last keyframe before it."""
    out: list[np.ndarray] = []
    with av.open(str(folder / "videos" / f"{rng.integers(FILES // 4)}.mp4")) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.time_base is not None
        first = int(rng.integers(150 - 4 * (FRAMES - 1)))
        container.seek(int(first / 30 / stream.time_base), stream=stream)
        box, _ = VIEW.draw(320, 240, rng)
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        for frame in container.decode(stream):
            at = round(float((frame.pts or 0) * stream.time_base) * 30)
            if at >= first and (at - first) % 4 == 0:
                image = frame.to_image()
                out.append(np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR, corners)))
            if len(out) == FRAMES:
                break
    return np.stack(out)


def timed(work: Callable[[], object], examples: int) -> tuple[float, float]:
    """CPU and wall seconds of one example."""
    busy, wall = time.process_time(), time.perf_counter()
    work()
    return (time.process_time() - busy) / examples, (time.perf_counter() - wall) / examples


def many(work: Callable[[], object], count: int) -> None:
    for _ in range(count):
        work()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.datasets", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="batches of each, behind one that warms up")
    parser.add_argument("--threads", type=int, default=0, help="that read examples ahead")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cells = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        for kind, clip, view, size, plain in (
            ("pictures", Clip(), VIEW, 32, plain_picture),
            ("videos", Clip(frames=FRAMES, fps=RATE), VIEW, 4, plain_video),
            ("recordings", CLIP, View(size=64), 16, None),
            ("replay", CLIP, View(size=64), 16, None),
        ):
            batches = Batches(open_dataset(str(folder / kind), clip, view), size=size, seed=0, threads=options.threads)
            coming, rng = batches.after(), np.random.default_rng(0)
            ours = partial(next, coming)
            theirs = partial(many, partial(plain, folder, rng), size) if plain else None
            ours()
            turns, others = [], []
            for _ in range(options.rounds):
                turns.append(timed(ours, size))
                if theirs:
                    others.append(timed(theirs, size))
            cpu, wall = np.median(turns, 0).tolist()
            cell = {"kind": kind, "cpu_ms": 1e3 * cpu, "examples_per_second": 1 / wall}
            if others:
                cell |= {"plain_cpu_ms": 1e3 * float(np.median(others, 0)[0])}
            coming.close()
            cells.append(cell)
            if not options.json:
                print(cell, flush=True)
    shown = cells[1]
    device = torch.device("cpu")
    report = {
        "name": "datasets/videos", "value": shown["cpu_ms"] / shown["plain_cpu_ms"], "unit": "CPU time / plain loop's",
        "device": describe(device), "versions": versions(), "threads": options.threads, "rounds": options.rounds,
        "matmul_gflops": median(matmul_rate(device)), "cells": cells,
    }  # fmt: skip
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
