"""A policy inside its world model against what it really gets: starts, real returns, imagined ones, table and files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.numpy import load_file, save_file

from deploy.cli import main
from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.reports.imagined.comparison import Comparison, summed
from deploy.reports.imagined.evaluation import ImaginedEvaluation, evaluate_imagined
from deploy.reports.imagined.starts import StartStates
from deploy.wiring.claim import _LOCKS
from learner.imagined_returns import imagined_rewards
from tests.integration.runs import TINY
from tests.world_models.small_agent import CONTINUOUS, DISCRETE, VECTOR, build
from world_models.dreamer.acting import Carry
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.rssm import State


class Counting:
    """A policy whose state is the number of the call."""

    def initial(self, rows: int) -> Carry:
        return Carry(State(torch.zeros(rows, 1), torch.zeros(rows, 1, 1)), {})

    def act(self, carry: Carry, observation: dict, is_first: np.ndarray, draw: int) -> tuple[Carry, dict, dict]:
        rows = len(is_first)
        return Carry(State(torch.full((rows, 1), float(draw)), torch.zeros(rows, 1, 1)), {}), {}, {}


def played(
    lengths: list[list[tuple[int, bool]]], each: int, horizon: int, seed: int = 0, limit: int = 0
) -> StartStates:
    """Episodes of so many steps after the first, which end by themselves or are cut, one list for each environment.
    The reward of each step is the number of the call."""
    found = StartStates(Counting(), [len(one) for one in lengths], each, horizon, seed, limit)
    rows = []
    for episodes in lengths:
        rows.append([(t == 0, t == n, t == n and terminal) for n, terminal in episodes for t in range(n + 1)])
    most = max(map(len, rows))
    rows = [one + [(True, False, False)] * (most - len(one)) for one in rows]
    carry = found.initial(len(rows))
    for t in range(most):
        first, last, terminal = (np.array([one[t][k] for one in rows]) for k in range(3))
        row = {"reward": np.full(len(rows), t, np.float32), "is_last": last, "is_terminal": terminal}
        carry, _, _ = found.act(carry, row, first, t)
    return found


def test_real_returns_are_those_of_the_steps_after_the_start() -> None:
    found = played([[(5, True)]], each=9, horizon=2).found
    assert [start.step for start, _ in found] == [0, 1, 2, 3, 4]
    assert [start.deter.tolist() for start, _ in found] == [[0], [1], [2], [3], [4]]
    assert [real.rewards.tolist() for _, real in found] == [[1, 2], [2, 3], [3, 4], [4, 5], [5, 0]]
    assert [real.goes_on for _, real in found] == [True, True, True, False, False]


def test_what_a_time_limit_cuts_is_left_out_and_counted() -> None:
    found = played([[(5, False), (1, False)]], each=9, horizon=2)
    assert [(start.episode, start.step) for start, _ in found.found] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert found.cut == 2 and all(real.goes_on for _, real in found.found)


def test_starts_near_a_time_limit_are_left_out_whatever_followed() -> None:
    for limit, lengths in ((6, [[(5, True), (3, True)]]), (0, [[(5, True), (3, True)], [(6, False)]])):
        found = played(lengths, each=9, horizon=3, limit=limit)
        assert [start.step for start, _ in found.found if start.episode == 0] == [0, 1, 2, 3], limit
        assert max(start.step for start, _ in found.found) == 3 and found.cut == (1 if limit else 3)
    found = played([[(6, True)]], each=9, horizon=3, limit=6)
    assert [real.goes_on for _, real in found.found] == [True, True, True, False], "it may end at the limit"


def test_episodes_are_numbered_as_the_scores_are_sorted() -> None:
    found = played([[(5, True), (2, True)], [(3, True)]], each=9, horizon=1).found
    lengths = [max(start.step for start, _ in found if start.episode == one) + 1 for one in range(3)]
    assert lengths == [5, 3, 2], "turn by turn, though that of 3 ended first"


def test_starts_are_uniform_over_an_episode_and_only_whole_episodes_count() -> None:
    steps = [start.step for seed in range(200) for start, _ in played([[(19, True)]], 4, 3, seed).found]
    assert len(steps) == 800
    counts = np.bincount(steps, minlength=19)
    assert counts.min() > 15 and counts.max() < 75, "42 each"
    found = played([[(3, True)], [(6, True), (4, True)]], each=2, horizon=2)
    assert {start.episode for start, _ in found.found} == {0, 1, 2} and not any(found.quota)


def agent() -> Dreamer:
    return build({"vector": VECTOR}, {"steer": CONTINUOUS, "button": DISCRETE})


def test_imagined_rewards_are_those_of_the_heads_and_count_while_the_episode_goes_on() -> None:
    made = agent()
    start = State(torch.zeros(3, 8), torch.nn.functional.one_hot(torch.zeros(3, 3, dtype=torch.int64), 4).float())
    with torch.no_grad():
        made.reward.out.bias[:] = torch.linspace(0, 3, 9)  # rewards are the same everywhere
        made.continuation.out.weight.zero_()
        made.continuation.out.bias.fill_(0.0)  # goes on half of the time, if the head has no discount in it
    reward = made.expected_reward(torch.zeros(1, 20)).item()
    half = 0.5 / (1 - 1 / made.config.horizon)
    found = imagined_rewards(made, start, 4, 5, seed=0)
    assert found.rewards.shape == found.goes_on.shape == (3, 5, 4)
    assert reward != 0 and np.allclose(found.rewards, reward * half ** np.arange(4), rtol=1e-5)
    assert np.allclose(found.goes_on, half ** np.arange(1, 5), rtol=1e-5)
    with torch.no_grad():
        made.continuation.out.bias.fill_(40.0)
    assert np.allclose(imagined_rewards(made, start, 4, 1, seed=0).rewards, reward), "no discount"


def test_rollouts_depend_on_the_seed_alone_and_not_on_how_many_are_made_at_once() -> None:
    made = agent()
    with torch.no_grad():
        made.reward.out.weight.normal_(generator=torch.Generator().manual_seed(0))
    start = State(torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(2, 3, 4))
    one, same, other = (imagined_rewards(made, start, 3, 300, seed).rewards for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert one.std(1).min() > 0 and abs(one.mean(1) - other.mean(1)).max() < one.std(1).max()


def compared(imagined: list[float], real: list[float], episode: list[int]) -> Comparison:
    count = len(real)
    return Comparison(
        imagined=np.array(imagined)[:, None], real=np.array(real)[:, None], episode=np.array(episode),
        step=np.arange(count), imagined_goes_on=np.ones(count), real_goes_on=np.ones(count, bool),
    )  # fmt: skip


def test_figures_are_means_over_episodes() -> None:
    found = compared([3.0, 3.0, 3.0, 5.0], [1.0, 1.0, 1.0, 4.0], [0, 0, 0, 1])
    figures = found.figures()
    assert figures["bias"].mean == 1.5 and figures["real"].mean == 2.5, "an episode counts once"
    assert figures["bias"].low == pytest.approx(1.5 - 12.7062 * 0.5, rel=1e-4)
    assert found.correlation == pytest.approx(1.0)
    assert "contains 0" in found.lines()[-1]
    assert "imagines more than it gets, by 2 on average" in compared([3, 4, 5], [1, 2, 3], [0, 1, 2]).lines()[-1]
    assert "gets more than it imagines, by 2 on average" in compared([1, 2, 3], [3, 4, 5], [0, 1, 2]).lines()[-1]
    assert summed([np.array([1.0, 2.0])]).tolist() == [[1, 3]]


def test_intervals_of_probabilities_stay_within_0_and_1() -> None:
    found = replace(compared([1.0] * 3, [1.0] * 3, [0, 1, 2]), real_goes_on=np.array([True, True, False]))
    figure = found.figures()["real_goes_on"]
    assert figure.mean == pytest.approx(2 / 3) and (figure.low, figure.high) == (0, 1)
    assert np.isnan(replace(found, episode=np.zeros(3)).figures()["real_goes_on"].low), "not known, not 0"


def test_what_is_not_known_is_said_and_null() -> None:
    found = compared([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [0, 0, 0])
    text = "\n".join(found.lines())
    assert "none: all real or all imagined returns are the same" in text and "One episode says nothing" in text
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["correlation"] is None and document["bias"] == {"mean": 0.0, "low": None, "high": None}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("imagined") / "run"
    options = [*TINY, "--mode", "inline", "--learner.train-ratio", "4", "--frames", "200", "--report-every", "0"]
    run = InlineRun(parse_train(["gym:CartPole-v1", *options, "--logdir", str(logdir)]), logdir)
    assert run.run() == "done"
    _LOCKS.pop(logdir).close()
    return logdir


def test_a_run_is_compared_printed_and_saved(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--episodes", "5", "--starts", "4", "--horizon", "6", "--rollouts", "3", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(trained), "--imagined", *options])
    said = capsys.readouterr().out
    assert not ended.value.code, said
    for title in ("imagined return", "real return", "bias, imagined - real", "absolute error", "correlation"):
        assert title in said
    document = json.loads((tmp_path / "out" / "imagined.json").read_text())
    assert document["horizon"] == 6 and document["rollouts"] == 3 and len(document["starts"]) <= 20
    assert len({one["episode"] for one in document["starts"]}) == 5 == len(document["episodes"]["scores"])
    assert all(0 < one["real"] <= 6 for one in document["starts"]), "CartPole pays 1 a step"
    assert all(0 <= one["step"] <= 500 - 6 for one in document["starts"])
    for episode, score in enumerate(document["episodes"]["scores"]):
        steps = [one["step"] for one in document["starts"] if one["episode"] == episode]
        assert max(steps) < score, "a step of CartPole pays 1, so episodes and scores agree"
    bias = [np.mean([s["imagined"] - s["real"] for s in document["starts"] if s["episode"] == e]) for e in range(5)]
    assert document["bias"]["mean"] == pytest.approx(np.mean(bias))
    assert document["checkpoint"].startswith(str(trained / "checkpoints" / "0"))
    picture = imread(tmp_path / "out" / "imagined.png")
    assert picture.shape[0] > 300 and picture.std() > 0.02


def test_the_same_seed_gives_the_same_figures(trained: Path, tmp_path: Path) -> None:
    settings = ImaginedEvaluation(episodes=3, starts=2, horizon=0, rollouts=2, seed=5, out=tmp_path)
    one, other = (evaluate_imagined(trained, settings) for _ in range(2))
    assert np.array_equal(one.imagined, other.imagined) and np.array_equal(one.real, other.real)
    assert one.real.shape[1] == 3, "as many steps as training imagines"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--imagined", "--deterministic"], "samples its actions as in training"),
        (["--imagined", "--video", "x.mp4"], "do not apply"),
        (["--horizon", "5"], "--horizon is for --imagined; add that"),
        (["--imagined", "--horizon", "501"], "ends its episodes after 500 steps, within the horizon of 501"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(trained), "--out", str(tmp_path / "out"), *options])
    said = capsys.readouterr()
    assert ended.value.code == 2, said
    assert message in said.err and "Traceback" not in said.err and not (tmp_path / "out").exists()


def test_a_checkpoint_with_the_acting_part_alone_has_no_model_to_imagine_with(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").glob("0*"))
    best = newest.rename(newest.with_name("best"))
    (best / "manifest.json").unlink()
    weights = load_file(best / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if k.split(".")[0] in ("encoder", "rssm", "policy")},
        best / "model.safetensors",
    )
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(best), "--imagined"])
    assert ended.value.code == 2 and "has the acting part alone" in capsys.readouterr().err
