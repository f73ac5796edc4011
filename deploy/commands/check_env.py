"""`nexus check-env`."""

import argparse
from collections.abc import Sequence

from deploy.commands.numbers import positive


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="nexus check-env", description="Play an environment and report what is wrong with it, and where.",
        epilog="example: nexus check-env gym:my_module:MyEnv-v0",
    )  # fmt: skip
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--steps", type=positive, default=1000)
    parser.add_argument("--observations", choices=("vectors", "pixels", "both"), default="vectors")
    known = parser.parse_args(arguments)
    from actors.closing import warned
    from actors.config import EnvironmentConfig
    from actors.conformance import check_environment
    from actors.envs import make
    from replay.counted import counted

    environment = make(known.task, EnvironmentConfig(observations=known.observations))
    try:
        for name, spaces in (("observation", environment.observation_space), ("action", environment.action_space)):
            for key, space in spaces.items():
                kind = counted(space.classes, "class", "classes") if space.discrete else f"{space.dtype}"
                print(f"{name} {key}: {kind}, shape {list(space.shape)}")
        findings = check_environment(environment, known.steps)
    finally:
        environment.close()
    for finding in findings:
        print(finding)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors + warned()
    extent = "the check ended there" if errors else f"in {counted(known.steps, 'step')}"
    print(f"{known.task}: {counted(errors, 'error')}, {counted(warnings, 'warning')}{';' * bool(errors)} {extent}")
    return 1 if errors else 0
