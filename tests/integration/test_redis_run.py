"""A local run whose replay lies on four real Redis servers, one of which is killed and comes back."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from deploy.cli import main
from replay.keys import stream_id
from replay.reading.episodes import Found, episodes
from replay.redis.redis_reader import open_replay
from replay.redis_url import PASSWORD_VARIABLE
from replay.sharding import shard_of
from tests.integration.processes import end_all, start_marked
from tests.integration.runs import checkpoints, command, lines, wait_for
from tests.replay.redis.redis_servers import RedisServer, connected, free_port

LOCAL = [
    "--mode", "local", "--actor.actors", "2", "--actor.environments", "8", "--learner.train-ratio", "16",
    "--checkpoint-every", "50", "--log-every", "10", "--frames", "1000000",
]  # fmt: skip
PASSWORD = "correct-horse"


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    end_all(tmp_path)


def _updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def _output(logdir: Path) -> str:
    return (logdir.parent / "output.log").read_text()


def test_training_goes_on_with_three_of_four_servers_and_takes_the_fourth_back(logdir: Path) -> None:
    gone = shard_of(stream_id(0, 0, 0), [f"shard-{i}" for i in range(4)])  # a shard that actor 0 writes to
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(tcp=True, password=PASSWORD, appendonly=True)) for _ in range(4)]
        urls = ",".join(server.url_tcp for server in servers)
        arguments = command("gym:CartPole-v1", logdir, *LOCAL, "--replay", urls)
        run = start_marked(logdir.parent, arguments)
        wait_for(lambda: _updates(logdir) >= 40, "update 40")

        servers[gone].kill()
        wait_for(lambda: f"shard-{gone} is down, 3 of 4 go on" in _output(logdir), "the run to notice")
        before = _updates(logdir)
        wait_for(lambda: _updates(logdir) >= before + 60, "training with three servers")

        servers[gone].restart()
        wait_for(lambda: f"shard-{gone} is back after" in _output(logdir), "the run to take the server back")
        before = _updates(logdir)
        wait_for(lambda: _updates(logdir) >= before + 40, "training with all servers")
        run.send_signal(signal.SIGINT)
        assert run.wait(300) == 130, _output(logdir)
        assert PASSWORD not in _output(logdir) and PASSWORD not in (logdir / "config.yaml").read_text()
        assert checkpoints(logdir)

        # Another run shares the servers, and the first one's replay is as it was.
        prefix = re.search(r"nexus:run-[0-9a-f]{8}", _keys(servers[0]))
        assert prefix
        steps = [_steps(server, prefix.group()) for server in servers]
        assert steps[gone] and sum(steps) > 200, steps
        found = Found()
        for server in servers:
            with closing(open_replay(server.url_tcp, prefix.group())) as source:
                for episode in episodes(source, found):
                    last, first = episode.rows["is_last"], episode.rows["is_first"]
                    assert first[0] and last[-1] and not first[1:].any() and not last[:-1].any()
        assert found.whole > 5  # a stream that was begun anew starts within an episode
        other = logdir.parent / "other"
        inline = ["--mode", "inline", "--learner.train-ratio", "4", "--frames", "200"]
        again = command("gym:CartPole-v1", other, *inline, "--replay", urls)
        assert start_marked(logdir.parent, again).wait(150) == 0, _output(logdir)
        assert [_steps(server, prefix.group()) for server in servers] == steps
        for server in servers:
            assert "nexus:other-" in _keys(server)


def _steps(server: RedisServer, prefix: str) -> int:
    with closing(open_replay(server.url_tcp, prefix)) as source:
        return sum(map(len, source.streams().values()))


def _keys(server: RedisServer) -> str:
    with connected(server.url_tcp) as connection:
        reply = connection.call("KEYS", "*:meta")
    assert isinstance(reply, list)
    return b" ".join(reply).decode()


def test_what_is_wrong_with_a_server_is_said_before_the_run_starts(
    logdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evicting = RedisServer(tcp=True, maxmemory_policy="allkeys-lru")
    with RedisServer(tcp=True, password=PASSWORD) as server, evicting as evicts:
        wrong = server.url_tcp.replace(PASSWORD, "mistyped")
        nobody = f"redis://127.0.0.1:{free_port()}"
        for url, message, code in ((wrong, "password", 2), (evicts.url_tcp, "noeviction", 2), (nobody, "running", 1)):
            arguments = command("gym:CartPole-v1", logdir / message, *LOCAL, "--replay", url)
            with pytest.MonkeyPatch.context() as each, pytest.raises(SystemExit) as ended:
                each.setenv(PASSWORD_VARIABLE, "")
                each.delenv(PASSWORD_VARIABLE)  # the command puts it there
                main(arguments[3:])
            said = capsys.readouterr().err
            assert ended.value.code == code and message in said and "mistyped" not in said, said
            assert not (logdir / message / "config.yaml").exists(), "the right address would be refused there"
