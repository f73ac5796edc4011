"""What a server says when it refuses, as one kind whatever wraps it."""

import pytest

from replay.redis.redis_refusal import refusal


@pytest.mark.parametrize(
    ("line", "kind", "text", "key"),
    [
        ("READONLY You can't write.", "READONLY", "READONLY You can't write.", ""),
        (  # 6.2, raised and returned
            "ERR Error running script (call to f_13a0): @user_script:9: @user_script: 9: -MISCONF Redis is",
            "MISCONF", "MISCONF Redis is", "",
        ),
        ("ERR Error running script (call to f_1): @user_script:9: WRONGTYPE Op [HSET a b]", "WRONGTYPE", "WRONGTYPE Op",
         "a b"),
        ("@user_script: 230: -OOM command not allowed [SETRANGE k]", "OOM", "OOM command not allowed", "k"),
        ("@user_script: 1: The user executing the script can't run this command or subcommand", "NOPERM",
         "The user executing the script can't run this command or subcommand", ""),
        ("NOREPLICAS Not enough. script: 13a0d, on @user_script:88.", "NOREPLICAS", "NOREPLICAS Not enough.", ""),  # 7
        ("ERR WRONGTYPE Op [GET k] script: 13a0d, on @user_script:88.", "WRONGTYPE", "WRONGTYPE Op", "k"),
        ("ERR Unknown Redis command called from script script: a4d8, on @user_script:1.", "UNKNOWN",
         "ERR Unknown Redis command called from script", ""),
        ("ERR unknown command `GETRANGE`, with args", "UNKNOWN", "ERR unknown command `GETRANGE`, with args", ""),
        ("ERR string exceeds maximum allowed size (proto-max-bulk-len)", "TOOLARGE",
         "ERR string exceeds maximum allowed size (proto-max-bulk-len)", ""),
        ("ERR wrong number", "ERR", "ERR wrong number", ""),
    ],
)  # fmt: skip
def test_errors_are_read_through_what_a_script_wraps_them_in(line: str, kind: str, text: str, key: str) -> None:
    error = refusal(line)
    assert (error.kind, str(error), error.key) == (kind, text, key)
