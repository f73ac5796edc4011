import os

import pytest

from deploy.redis_password import VARIABLE, hide_passwords


@pytest.mark.parametrize(
    ("given", "left", "password"),
    [
        (["--replay", "redis://:s3cret@h:6379/0"], ["--replay", "redis://h:6379/0"], "s3cret"),
        (["--replay=redis://u:a%40b@h,redis://u:a%40b@i"], ["--replay=redis://u@h,redis://u@i"], "a@b"),
        (["unix:///run/r.sock?password=x&db=2"], ["unix:///run/r.sock?db=2"], "x"),
        (["unix:///run/r.sock?db=2&password=a+b"], ["unix:///run/r.sock?db=2"], "a+b"),
        (["gym:my_module:MyEnv-v0", "redis://h"], ["gym:my_module:MyEnv-v0", "redis://h"], None),
    ],
)
def test_passwords_go_into_the_environment(
    given: list[str], left: list[str], password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")  # so that it is as before at the end, whatever is set in between
    assert hide_passwords(given) == left
    assert (os.environ[VARIABLE] or None) == password


def test_servers_share_one_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "one")
    assert hide_passwords(["redis://:one@h"]) == ["redis://h"]
    with pytest.raises(ValueError, match="different passwords") as error:
        hide_passwords(["redis://:two@h"])
    assert "two" not in str(error.value)
