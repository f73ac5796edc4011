"""Changes of the number of actors, and how many of them the run made by itself."""

from pathlib import Path

from deploy.distributed.supervisor.restart_log import RestartLog
from deploy.distributed.supervisor.scaling_log import AUTOSCALE, REQUEST, ScalingLog
from deploy.reports.metrics import read_lines


def test_decisions_are_counted_by_their_kind_in_all_lives_of_a_run(tmp_path: Path) -> None:
    log = ScalingLog(tmp_path)
    assert log.metrics() == {"fleet/added": 0, "fleet/removed": 0}
    log.add(1, 2, AUTOSCALE, "the learner waits")
    log.add(2, 9, REQUEST, "on request")
    log.add(9, 4, AUTOSCALE, "actors wait")
    log.add(4, 3, AUTOSCALE, "actors wait")
    assert log.counts == ScalingLog(tmp_path).counts == {"added": 1, "removed": 2}
    lines = list(read_lines(tmp_path / "scaling.jsonl"))
    assert [(line["before"], line["after"], line["by"]) for line in lines][:2] == [
        (1, 2, "autoscale"),
        (2, 9, "request"),
    ]


def test_a_line_torn_by_a_crash_is_dropped_and_the_next_is_whole(tmp_path: Path) -> None:
    ScalingLog(tmp_path).add(1, 2, AUTOSCALE, "the learner waits")
    RestartLog(tmp_path, []).add("learner", "killed")
    for name in ("scaling.jsonl", "restarts.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"before": 2, "aft')
    ScalingLog(tmp_path).add(2, 4, AUTOSCALE, "the learner waits")
    RestartLog(tmp_path, []).add("learner", "killed")
    assert ScalingLog(tmp_path).counts["added"] == 2 and RestartLog(tmp_path, []).counts["learner"] == 2
