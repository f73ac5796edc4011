"""Redis servers that can be reached and refuse: what is missing is named with its remedy when a replay is opened, and
waited for when it goes missing later. Every remedy in a message is tried out."""

import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest
import redis

from replay.redis.redis_connection import Connection
from replay.redis.redis_reader import LOST_LOG, open_replay
from replay.store import ShardDownError
from tests.contracts.stores import check_sequences, rng, rows
from tests.replay.redis.redis_servers import RedisServer, connected
from tests.replay.redis.refusing_redis import meanwhile, open_store, refused, setting_of, until, works


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as server:
        yield server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Connection]:
    with connected(server.url_unix) as connection:
        connection.call("FLUSHALL")
        yield connection


# ---- states a server may be in ----


def fail_to_snapshot(server: RedisServer, admin: Connection) -> None:
    (server.folder / "dump.rdb").unlink(missing_ok=True)
    (server.folder / "dump.rdb").mkdir()
    admin.call("CONFIG", "SET", "save", "100000 1")
    admin.call("SET", "something", "changed")
    admin.call("BGSAVE")
    until(lambda: b"rdb_last_bgsave_status:err" in admin.call("INFO", "persistence"))  # type: ignore[operator]


def need_no_snapshot(server: RedisServer, admin: Connection) -> None:
    admin.call("CONFIG", "SET", "save", "")
    if (server.folder / "dump.rdb").is_dir():
        (server.folder / "dump.rdb").rmdir()


def command(*words: str) -> Callable[[RedisServer, Connection], None]:
    def run(server: RedisServer, admin: Connection) -> None:
        for one in words:
            admin.call(*one.split())

    return run


ALONE = "REPLICAOF NO ONE"
STALE = "CONFIG SET replica-serve-stale-data"


@pytest.mark.parametrize(
    ("enter", "leave", "said"),
    [
        (command("REPLICAOF 127.0.0.1 1"), command(ALONE), ("is a replica", "127.0.0.1:1", "master's URL", ALONE)),
        (command(f"{STALE} no", "REPLICAOF 127.0.0.1 1"), command(f"{STALE} yes", ALONE), ("is a replica", ALONE)),
        (fail_to_snapshot, need_no_snapshot, ("cannot save its own files", "MISCONF", "see its log", "free disk")),
        (command("CONFIG SET min-replicas-to-write 1"), command("CONFIG SET min-replicas-to-write 0"),
         ("min-replicas-to-write", "NOREPLICAS", "CONFIG SET min-replicas-to-write 0")),
    ],
    ids=["replica", "replica without its master", "no snapshot", "no replica"],
)  # fmt: skip
def test_a_server_that_takes_no_steps_is_named_and_waited_for(
    server: RedisServer, admin: Connection, enter: Callable, leave: Callable, said: tuple[str, ...]
) -> None:
    notes: list[str] = []
    patient, hasty = open_store(server.url_unix, patience=60.0, note=notes.append), open_store(server.url_unix)
    assert hasty.append(0, 0, rows(0, 0, 20)) == 20
    enter(server, admin)
    try:
        refused(server.url_unix, *said)
        with pytest.raises(ShardDownError, match=re.escape(said[0])) as error:
            hasty.append(0, 20, rows(0, 20, 4))
        assert all(part in str(error.value) for part in said) and "more memory" not in str(error.value)
        with pytest.raises(ShardDownError):
            hasty.ready()
        with meanwhile(lambda: patient.append(0, 20, rows(0, 20, 4))) as new:
            until(lambda: any(said[0] in note for note in notes))
            leave(server, admin)
        assert new == [4]
    finally:
        leave(server, admin)
    assert len([note for note in notes if said[0] in note]) == 1, notes
    assert "answers again" in notes[-1]
    assert hasty.append(0, 24, rows(0, 24, 4)) == 4 and hasty.ready() == 25
    patient.close()
    hasty.close()


def test_a_busy_server_is_waited_for_even_by_who_has_just_come(server: RedisServer, admin: Connection) -> None:
    admin.call("CONFIG", "SET", "lua-time-limit", 1)
    other = redis.Redis(unix_socket_path=str(server.socket))

    def hang() -> None:
        with suppress(redis.RedisError), redis.Redis(unix_socket_path=str(server.socket)) as own:
            own.eval("while true do end", 0)  # it is killed

    def busy() -> bool:
        try:
            return not other.ping()
        except redis.RedisError:
            return True

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    until(busy)
    notes: list[str] = []
    with meanwhile(lambda: open_store(server.url_unix, patience=60.0, note=notes.append)) as opened:
        until(lambda: bool(notes))
        other.script_kill()
    hanging.join(60)
    assert "is busy with a script (BUSY" in notes[0] and "SCRIPT KILL" in notes[0], notes
    assert "answers again" in notes[-1]
    opened[0].close()
    other.close()


# ---- rights ----


@pytest.mark.parametrize(
    ("rights", "said"),
    [
        ("~* +@all -evalsha", ("may not run EVALSHA;", "+evalsha")),
        ("~* +@all -script", ("may not run SCRIPT|LOAD;", "+script|load")),
        ("~* +@all -getrange -zadd", ("may not run GETRANGE, ZADD;", "+getrange +zadd")),
        ("~* +@all -setrange -info", ("may not run INFO, SETRANGE;", "ACL SETUSER u +info +setrange")),
        ("~* +ping", ("may not run INFO, HMGET, GET, HLEN", "EVALSHA (nor, perhaps, use keys like run\\[1\\]:*: then")),
        ("~other:* +exists", ("may not run INFO, HMGET", "EVALSHA nor use keys like run\\[1\\]:*;", "'~run\\[1\\]:*'")),
        ("~* +@all -setrange -del -hset", ("may not run DEL, SETRANGE, HSET;",)),
        ("+@all", ("may not use keys like run\\[1\\]:*;", "'~run\\[1\\]:*'")),
        ("~other:* +@all -exists", ("may not run EXISTS nor use keys like run\\[1\\]:*;",)),
        ("~* +info +ping", ("may not run HMGET, GET, HLEN", "EVALSHA")),
        ("~* +@all -@dangerous +info", ()),
        ("~run* +@read +@write +@scripting +info -select -keys -config -client -flushall", ()),
    ],
)
def test_rights_are_checked_at_opening_and_the_remedy_is_enough(
    server: RedisServer, admin: Connection, rights: str, said: tuple[str, ...]
) -> None:
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">word", *rights.split())
    url = f"redis://u:word@127.0.0.1:{server.port}"
    if said:
        admin.call(*shlex.split(refused(url, *said)))
    works_without_looking_in(url, admin)


def works_without_looking_in(url: str, admin: Connection) -> None:
    store = open_store(url)
    assert store.append(0, 0, rows(0, 0, 20)) == 20
    check_sequences(*store.sample(4, 4, rng()))
    assert admin.call("EXISTS", "run[1]:probe", "run[1]:none", "run[1]:probe:size") == 0
    store.close()


@pytest.mark.parametrize("lacking", ["get", "hgetall", "getrange", "strlen", "multi", "exec", "scan", "hmget", "type"])
def test_who_only_looks_in_needs_to_read(server: RedisServer, admin: Connection, lacking: str) -> None:
    open_store(server.url_unix).close()
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">word", "~run*", "+@all", "-@write", f"-{lacking}")
    url = f"redis://u:word@127.0.0.1:{server.port}"
    with pytest.raises(ValueError, match=rf"may not run {lacking.upper()}; .*ACL SETUSER u \+{lacking}") as error:
        open_replay(url)
    admin.call(*shlex.split(str(error.value).split("redis-cli ")[1].rstrip(".")))
    open_replay(url).close()


def test_who_only_looks_in_is_told_everything_at_once(server: RedisServer, admin: Connection) -> None:
    open_store(server.url_unix).close()
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">word", "+get")
    url = f"redis://u:word@127.0.0.1:{server.port}"
    with pytest.raises(ValueError, match=r"may not run INFO, HMGET, .*, EXEC nor use keys like run") as error:
        open_replay(url, "run[1]")
    admin.call(*shlex.split(str(error.value).split("redis-cli ")[1].rstrip(".")))
    open_replay(url, "run[1]").close()


def test_who_looks_in_is_told_of_keys_that_are_not_for_him(server: RedisServer, admin: Connection) -> None:
    open_store(server.url_unix).close()
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">word", "~mine:*", "+@read", "+@transaction", "+info")
    url = f"redis://u:word@127.0.0.1:{server.port}"
    with pytest.raises(ValueError, match=r"use keys like run\\\[1\\\]:\*; .*'~run"):
        open_replay(url, "run[1]")
    with pytest.raises(ValueError, match="has no replay in this database that user u may read"):
        open_replay(url)


@pytest.mark.parametrize("right", ["setrange", "getrange"])
def test_rights_that_are_taken_away_later_are_waited_for(server: RedisServer, admin: Connection, right: str) -> None:
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">word", "~*", "+@all")
    notes: list[str] = []
    store = open_store(f"redis://u:word@127.0.0.1:{server.port}", patience=60.0, note=notes.append)
    store.append(0, 0, rows(0, 0, 20))
    check_sequences(*store.sample(4, 4, rng()))
    admin.call("ACL", "SETUSER", "u", f"-{right}")
    with meanwhile(lambda: store.append(0, 20, rows(0, 20, 4)) if right == "setrange" else store.sample(4, 4, rng())):
        until(lambda: any(f"user u may not run {right.upper()}; " in note for note in notes))
        admin.call("ACL", "SETUSER", "u", f"+{right}")
    assert len(notes) == 2 and "answers again" in notes[1], notes
    check_sequences(*store.sample(4, 4, rng()))
    store.close()


def test_database_0_needs_no_select(server: RedisServer, admin: Connection) -> None:
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">word", "~*", "+@all", "-select")
    url = f"redis://u:word@127.0.0.1:{server.port}"
    works_without_looking_in(url, admin)
    assert refused(f"{url}/1", "may not run SELECT;") == "ACL SETUSER u +select"
    admin.call("ACL", "SETUSER", "u", "-info", "-getrange")  # of which the second cannot be seen in database 0
    assert refused(f"{url}/1", "may not run SELECT, INFO;") == "ACL SETUSER u +select +info"
    refused(f"redis://127.0.0.1:{server.port}/99", "refuses SELECT (", "out of range", "there is no database 99")


# ---- commands and settings ----


@pytest.mark.parametrize("gone", [("GETRANGE", "EVALSHA"), ("SETRANGE",), ("SCRIPT",)])
def test_commands_that_were_renamed(gone: tuple[str, ...]) -> None:
    lines = "\nrename-command ".join(f'{name} "{name[0]}-{name}"' for name in gone)
    with RedisServer(rename_command=lines) as server:
        refused(
            server.url_unix, f"does not know {', '.join(name + '|LOAD' * (name == 'SCRIPT') for name in gone)}; remove"
        )


def test_databases_without_select() -> None:
    with RedisServer(tcp=True, rename_command='SELECT ""\nrename-command INFO ""') as server:
        refused(f"{server.url_tcp}/1", "does not know SELECT, INFO; remove rename-command for SELECT, INFO")
        refused(server.url_tcp, "does not know INFO; remove rename-command for INFO")


@pytest.mark.parametrize(
    ("setting", "asks"),
    [("proto-max-bulk-len", True), ("client-query-buffer-limit", True), ("proto-max-bulk-len", False)],
)
def test_limits_that_a_chunk_does_not_fit_in(server: RedisServer, admin: Connection, setting: str, asks: bool) -> None:
    before = setting_of(admin, setting)
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">word", "~*", "+@all", *([] if asks else ["-config"]))
    url = f"redis://u:word@127.0.0.1:{server.port}"
    admin.call("CONFIG", "SET", setting, 1 << 20)
    try:
        remedy = refused(url, f"its {setting} is too small", f"CONFIG SET {setting}")
        admin.call(*shlex.split(remedy))
        works_without_looking_in(url, admin)
    finally:
        admin.call("CONFIG", "SET", setting, before)


# ---- what lies under the prefix ----

FOREIGN: dict[str, tuple[str, ...]] = {
    "list": ("RPUSH", "x"), "string": ("SET", "x"), "hash": ("HSET", "a", "b"), "sorted set": ("ZADD", "1", "x"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize(
    "name", ["counts", "meta", "life", "streams", "idle", "log:0", "c:0000000000000000:0", "l:1:2"]
)
def test_foreign_keys_under_the_prefix(server: RedisServer, admin: Connection, name: str, kind: str) -> None:
    command, *values = FOREIGN[kind]
    key = f"run[1]:{name}"
    admin.call(command, key, *values)
    admin.call("SET", "run[1]x", "not ours")
    refused(server.url_unix, key, "--replay.prefix")
    assert admin.call("EXISTS", key) == 1
    admin.call("DEL", key)
    works(server.url_unix)


@pytest.mark.parametrize("name", ["streams", "idle", "log:0"])
def test_parts_of_a_replay_that_turned_foreign(server: RedisServer, admin: Connection, name: str) -> None:
    store, key = open_store(server.url_unix), f"run[1]:{name}"
    store.append(0, 0, rows(0, 0, 20))
    store.close()
    admin.call("DEL", key)
    admin.call("PFADD", key, "x") if name == "streams" else admin.call("SADD", key, "x")
    refused(server.url_unix, f"values are at {key} ({'string' if name == 'streams' else 'set'})", "--replay.prefix")
    if name == "log:0":  # who looks in can do without it, and tells
        with closing(open_replay(server.url_unix, "run[1]")) as reader:
            assert reader.read(0, 0, 20)["step"].tolist() == list(range(20))
            assert any(f"values are at {key} (set)" in text for good, text in reader.health(False) if good is False)
        admin.call("DEL", key)
        refused(server.url_unix, "run[1] is damaged or another program's", key, "delete its keys")
        with closing(open_replay(server.url_unix, "run[1]")) as reader:
            assert [text for good, text in reader.health(True) if good is False] == [f"{key} is missing: {LOST_LOG}"]


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("DEL", "run[1]:meta"), "run[1]:meta"),
        (("SET", "run[1]:meta", "[1"), "run[1]:meta"),
        (("SET", "run[1]:life", "short"), "run[1]:life"),
        (("HDEL", "run[1]:counts", "tail"), "run[1]:counts (tail)"),
        (("HSET", "run[1]:counts", "chunks", "many"), "run[1]:counts (chunks)"),
        (("DEL", "run[1]:streams"), "run[1]:streams"),
    ],
)
def test_a_replay_that_lacks_parts(
    server: RedisServer, admin: Connection, command: tuple[str, ...], named: str
) -> None:
    store = open_store(server.url_unix)
    store.append(0, 0, rows(0, 0, 20))
    store.close()
    admin.call(*command)
    refused(server.url_unix, "run[1] is damaged or another program's", named, "delete its keys")
    with pytest.raises(ValueError, match=r"run\[1\]"):
        open_replay(server.url_unix, "run[1]")


def test_a_chunk_that_turns_foreign_is_passed_over_by_samplers_and_waited_for_by_its_writer(
    server: RedisServer, admin: Connection
) -> None:
    notes: list[str] = []
    store = open_store(server.url_unix, patience=60.0, note=notes.append)
    store.append(0, 0, rows(0, 0, 20))
    check_sequences(*store.sample(4, 4, rng()))
    chunk, latents = "run[1]:c:0000000000000000:2", "run[1]:l:0000000000000000:0"
    for key in (chunk, latents):
        admin.call("RENAME", key, f"aside {key}")
        admin.call("RPUSH", key, "x")
    batch, keys = store.sample(32, 4, rng())  # steps 16 to 19 are gone
    check_sequences(batch, keys)
    assert keys[..., 1].max() == 15
    assert len(notes) == 1 and f"values are at {chunk} (list), {latents} (list), " in notes[0], notes
    fresh = {key: batch[key][:, None] for key in store.schema.latents}
    assert store.write_back(keys[:, :1], fresh) == (keys[:, 0, 1] >= 8).sum() < len(keys)
    assert store.write_back(keys[:, :1], {"stoch": fresh["stoch"]}) == (keys[:, 0, 1] >= 8).sum() > 0
    with pytest.raises(ValueError, match=rf"are at {re.escape(chunk)} \(list\)"):
        store.read(0, 12, 8)
    assert not store.read(0, 0, 8)["deter"].any()
    with meanwhile(lambda: store.append(0, 20, rows(0, 20, 2))):
        until(lambda: any(f"another program's values are at {chunk} (list), " in note for note in notes[1:]))
        admin.call("RENAME", f"aside {chunk}", chunk)
    assert len(notes) == 3 and "answers again" in notes[2], notes
    admin.call("RENAME", f"aside {latents}", latents)
    check_sequences(*store.sample(32, 4, rng()))
    assert store.sample(32, 4, rng())[1][..., 1].max() == 21
    assert len(notes) == 3
    store.close()


# ---- servers that nobody has reached yet ----


def test_a_server_that_was_never_there_is_given_up_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.redis.redis_connection.FIRST", 0.2)
    with pytest.raises(ShardDownError, match="has not answered .* Is it running, and is the address right"):
        open_store("unix:///nowhere/socket", patience=600.0)


def test_a_server_that_the_run_knows_is_waited_for_whatever_is_wrong(server: RedisServer, admin: Connection) -> None:
    url = f"redis://u:word@127.0.0.1:{server.port}"
    admin.call("ACL", "SETUSER", "u", "reset", "on", ">other", "~*", "+@all")
    notes: list[str] = []
    with meanwhile(lambda: open_store(url, patience=60.0, known=True, note=notes.append)) as opened:
        until(lambda: any("refuses user u" in note for note in notes))
        admin.call("ACL", "SETUSER", "u", ">word", "-setrange")
        until(lambda: any("may not run SETRANGE" in note for note in notes))
        admin.call("ACL", "SETUSER", "u", "+setrange")
    opened[0].close()
    assert len(notes) == 3 and "answers again" in notes[2], notes
    with pytest.raises(ShardDownError, match="refuses user u"):
        open_store(url.replace("word", "wrong"), known=True)
