"""What a signal does while a run waits for a Redis server."""

import os
import signal
import threading
import time

import pytest

from deploy.interrupt import Interrupt
from replay.redis.redis_store import RedisStore
from replay.sharding import ShardedStore
from tests.contracts.stores import SCHEMA, rows
from tests.replay.redis.redis_servers import RedisServer


@pytest.mark.parametrize("count", [1, 2])
def test_one_signal_ends_a_wait_for_servers_that_are_away(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.interrupt._AWAY", 0.2)
    notes: list[str] = []
    interrupt = Interrupt()
    with RedisServer() as server, interrupt.listening():
        shards = [
            RedisStore(
                server.url_unix, SCHEMA, prefix=f"t{i}", length=4, capacity=500, chunk_length=8, patience=600.0,
                note=notes.append,
            )
            for i in range(count)
        ]  # fmt: skip
        store = ShardedStore(shards, parallel=True, waiting=interrupt.waiting)
        blocks = [(stream, 0, rows(stream, 0, 9)) for stream in range(8)]
        store.append_checked(blocks)
        server.kill()

        def press() -> None:
            while not any("trying again" in note for note in notes):
                time.sleep(0.01)
            time.sleep(1.0)  # it has waited for a while
            os.kill(os.getpid(), signal.SIGINT)

        pressed = threading.Thread(target=press)
        pressed.start()
        with pytest.raises(KeyboardInterrupt):
            store.append_checked(blocks)
        pressed.join(30)
        store.close()


def test_a_signal_during_a_call_that_does_not_wait_is_a_wish() -> None:
    interrupt = Interrupt()
    with interrupt.listening(), interrupt.waiting():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
