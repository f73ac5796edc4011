"""The filter of the page."""

import pytest

from deploy.monitor.selection import selection

SUMMARY = {
    "name": "walker-1", "task": "dmc_walker_walk", "state": "training", "note": "a good one",
    "tags": ["paper", "size12m"],
    "archived": False, "active": True, "seed": 1, "score": 412.5, "best": float("nan"),
    "frames": 20000, "mode": "local",
}  # fmt: skip
VALUES = {
    "learner.train_ratio": 512.0, "learner.batch_size": 16, "replay.online": True, "task": "dmc_walker_walk",
    "huge": 10**400,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True), ("walker", True), ("WALKER paper", True), ("walker pong", False), ("-pong", True),
        ("-walker", False),
        ("score>400", True), ("score>412.5", False), ("score>=412.5", True), ("frames<1e4", False), ("best>0", False),
        ("task:walk", True), ("task:pong", False), ("tag:size", True), ("state:training", True), ("is:live", True),
        ("train_ratio=512", True), ("learner.train_ratio=512", True), ("train-ratio=511", False),
        ("batch_size>8", True),
        ("train_ratio!=512", False), ("online=true", True), ("seed=1", True), ("nothing=1", False),
        ("is:archived", False), ("-is:archived", True), ("huge=1", False), ("huge>1", False),
        ('"a good one"', True), ('"a good', True), ("gym:CartPole-v1", False), ("lr", False),
    ],
)  # fmt: skip
def test_terms(text: str, matches: bool) -> None:
    assert selection(text)(SUMMARY, VALUES) is matches


def test_archived_runs_are_shown_only_when_asked_for() -> None:
    archived = SUMMARY | {"archived": True}
    assert not selection("")(archived, VALUES) and selection("is:archived walker")(archived, VALUES)
    assert not selection("-is:archived")(archived, VALUES)


@pytest.mark.parametrize("text", ["score>high", "is:nothing", "x" * 401])
def test_what_means_nothing_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number|takes archived|at most 400"):
        selection(text)
