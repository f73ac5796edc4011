"""What every command's --help shows, and what a wrong command line is answered with: one plain line."""

import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise

import pytest

from deploy.cli import main
from deploy.commands.parsing import option_names, parse, parse_known
from deploy.commands.train import Start, Train
from tests.integration.runs import environment

COMMANDS = (
    "train",
    "profile",
    "eval",
    "plot",
    "check-env",
    "doctor",
    "replay inspect",
    "replay export",
    "replay import",
)
CARTPOLE = "train gym:CartPole-v1"


def nexus(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments.split())
    out, error = capsys.readouterr()
    return left.value.code, out, error


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_and_ends_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, error = nexus(f"{command} --help", capsys)
    assert code == 0 and not error and out.splitlines()[-1].startswith(f"Example: nexus {command}")
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith(("usage: ", "Example: ")))
    assert "\x1b" not in out, "no colours in a pipe"
    lines = [line.strip("│ ") for line in out.splitlines()]
    bare = [
        name for name, text in pairwise(lines) if name.startswith("--") and "  " not in name and text.startswith("(")
    ]
    assert not bare, "every option says what it is for"


@pytest.mark.parametrize("command", ["", "replay "])
def test_help_of_the_commands_lists_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = nexus(f"{command}--help", capsys)
    assert code == 0 and not error and out.startswith(f"usage: nexus {command}COMMAND ...")
    assert all(len(line) <= 80 for line in out.splitlines()), "it fits a terminal"
    for name in COMMANDS:
        first = name.removeprefix(command).split()[0]
        assert f"\n  {first} " in out or not name.startswith(command)
    assert nexus(command, capsys)[:2] == (2, out), "without a command too, but that is wrong"


def test_help_of_train_shows_the_defaults_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = nexus(f"{CARTPOLE} --preset quick --help", capsys)
    shown = out.split("--learner.batch-size INT")[1].split("--learner.")[0]
    assert "(default: 8)" in shown
    assert not [name for name in option_names(Train) if name not in out]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("train", "the TASK is missing, e.g. nexus train gym:CartPole-v1 --preset quick"),
        (f"{CARTPOLE} --model.encoder.mults", "EncoderConfig.mults=() must be one or more numbers of at least 1"),
        ("eval", "nexus eval needs PATH, e.g. nexus eval runs/cartpole --episodes 20 --video cartpole.mp4"),
        ("plot --tasks x", "nexus plot needs LOGDIRS, e.g. nexus plot runs/*"),
        ("replay export runs/x", "nexus replay export needs --out, e.g. nexus replay export runs/walker --out"),
        ("replay import x", "nexus replay import needs --into, e.g. nexus replay import episodes --into demos"),
        (f"{CARTPOLE} --frame 3", "nexus train has no option --frame; nearest: --frames"),
        (f"{CARTPOLE} --learner.batchsize=3", "nexus train has no option --learner.batchsize; nearest: --learner.b"),
        (f"{CARTPOLE} --hel", "nexus train has no option --hel; nearest: --help, --replay."),
        (f"{CARTPOLE} --task gym:Y", "nexus train: --task gym:Y differs from TASK gym:CartPole-v1; leave out --task."),
        (f"{CARTPOLE} --model.encoder.mults 2,3", "nexus train --model.encoder.mults takes numbers separated by"),
        ("plot a --baselines", "nexus plot --baselines needs a value; nexus plot --help shows which."),
        ("plot a --tasks --out b.png", "nexus plot --tasks needs a value; nexus plot --help shows which."),
        ("eval --epsiodes 3 x", "nexus eval has no option --epsiodes; nearest: --episodes, --encoder."),
        ("eval x --ran", "nexus eval has no option --ran; nearest: --random."),
        ("plot x -o y.png", "nexus plot has no option -o; nexus plot --help lists them all."),
        ("replay inspect x --quik", "nexus replay inspect has no option --quik; nearest: --quick."),
        ("replay import x --into y --presett z", "nexus replay import has no option --presett; nearest: --preset."),
        ("replay inspekt x", "nexus replay has no command 'inspekt'; did you mean inspect?"),
        ("doctor a b", "nexus doctor: unexpected argument 'b'; nexus doctor --help shows what it takes."),
        (f"{CARTPOLE} --seed 1 2", "nexus train: unexpected argument '2'; nexus train --help shows what it takes."),
        ("eval x --random True", "nexus eval: unexpected argument 'True'; nexus eval --help shows what it takes."),
        (f"{CARTPOLE} --frames --seed 1", "nexus train --frames needs a value; nexus train --help shows which."),
        (f"{CARTPOLE} --environment.image-size 64", "nexus train --environment.image-size needs 2 values; nexus train"),
        (f"{CARTPOLE} --mode lokal", "nexus train --mode: 'lokal' is not one of inline, local, cluster."),
        ("plot x --band wide", "nexus plot --band: 'wide' is not one of ci95, minmax, none."),
        ("plot x --frames many", "nexus plot --frames: 'many' is not a number."),
        ("plot x --frames -inf", "The x-axis cannot end at -inf frames; give a number above 0."),
        (f"{CARTPOLE} --replay.selection.uniform x", "nexus train --replay.selection.uniform: 'x' is not a number."),
        ("eval x --episodes=1e6", "nexus eval --episodes: '1e6' is not a whole number; write 1000000."),
        ("eval x --seed -1", "nexus eval --seed: must be at least 0, not -1."),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_answered_in_one_plain_line(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = nexus(arguments, capsys)
    assert code == 2 and not out and error.startswith(expected) and len(error.splitlines()) == 1, error


@dataclass(frozen=True, kw_only=True)
class Two:
    number: int = 1
    share: float | None = None


def test_values_are_read_with_and_without_an_equals_sign_and_the_last_one_counts() -> None:
    known = {"prog": "nexus two", "example": "nexus two"}
    assert parse(Two, ["--number=3", "--share", "1e-3"], **known) == Two(number=3, share=0.001)
    assert parse(Two, ["--number", "3", "--number", "-4", "--share", "None"], **known) == Two(number=-4)
    assert parse_known(Two, ["--number", "3", "--other", "x"], others=["--other"], **known) == (
        Two(number=3), ["--other", "x"],
    )  # fmt: skip


def test_options_of_a_configuration_are_named_by_their_path() -> None:
    assert list(option_names(Start)) == ["--preset", "--size", "--replay", "--actors"]
    assert {"--logdir", "--learner.batch-size", "--model.rssm.deter", "--replay.selection.uniform"} < {
        *option_names(Train)
    }


def test_help_needs_no_pytorch_and_that_of_nexus_no_tyro() -> None:
    code = (
        "import sys; from deploy.cli import main\n"
        "for arguments in (['--help'], ['replay', '--help'], *map(str.split, sys.argv[1:])):\n"
        "    try: main([*arguments, '--help'])\n"
        "    except SystemExit as left: assert left.code == 0\n"
        "    loaded = sorted({'torch', 'tyro', 'numpy', 'matplotlib', 'ray'} & sys.modules.keys())\n"
        "    print(*arguments, loaded, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "plot", "check-env", "eval", "doctor", "train"], env=environment(),
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert lines[:2] == ["--help []", "replay --help []"] and len(lines) == 7, done.stderr
    assert lines[2:4] == ["plot ['tyro']", "check-env ['tyro']"] and "torch" not in done.stderr, done.stderr
