import os
from urllib.parse import quote

import pytest

from deploy.redis_password import VARIABLE, hide_passwords
from replay.config import ReplayConfig


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


@pytest.mark.parametrize("password", ["ses,ame", "ses[ame", "ses]ame", "a[sesame]", "ses,redis//ame"])
@pytest.mark.parametrize(
    "form", ["--replay=redis://:{}@h", "redis://h,rediss://u:{}@i:1/0", "--replay=h,redis://:{}@i"]
)
def test_a_password_that_cannot_be_told_from_the_rest_goes_nowhere(
    password: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(
        ValueError, match=r"a comma as %2C, \[ as %5B, \] as %5D.* or set NEXUS_REDIS_PASSWORD"
    ) as error:
        hide_passwords([form.format(password)])
    assert not {"ses", "ame", "sesame"} & set(str(error.value).replace("@", " ").split())
    escaped, form = quote(password, safe=""), form.replace("=h,", "=redis://h,")
    assert password not in str(hide_passwords([form.format(escaped)])) and os.environ[VARIABLE] == password


def test_a_configuration_does_not_quote_half_a_password() -> None:
    with pytest.raises(ValueError, match="a comma as %2C") as error:
        ReplayConfig(store="redis://:ses,ame@h")
    assert "ame@h" not in str(error.value)
    with pytest.raises(ValueError, match="not each of its Redis URLs begins") as error:
        ReplayConfig(store="redis:/h,redis://:sesame@h")
    assert "sesame" not in str(error.value)
    with pytest.raises(ValueError, match="replay.store='discs' is none of memory, ray, disk"):
        ReplayConfig(store="discs")
