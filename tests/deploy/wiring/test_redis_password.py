import os
from pathlib import Path
from urllib.parse import quote

import pytest

from deploy.cli import main
from deploy.wiring.redis_password import PASSWORD_FILE, VARIABLE, hide_passwords, read_password_file
from replay.config import ReplayConfig


@pytest.mark.parametrize(
    ("given", "left", "password"),
    [
        (["--replay", "redis://:s3cret@h:6379/0"], ["--replay", "redis://h:6379/0"], "s3cret"),
        (["--replay=redis://u:a%40b@h,redis://u:a%40b@i"], ["--replay=redis://u@h,redis://u@i"], "a@b"),
        (["unix:///run/r.sock?password=x&db=2"], ["unix:///run/r.sock?db=2"], "x"),
        (["unix:///run/r.sock?db=2&password=a+b"], ["unix:///run/r.sock?db=2"], "a+b"),
        (["unix://u:a%40b@/run/r.sock?db=2"], ["unix://u@/run/r.sock?db=2"], "a@b"),
        (["redis://h?username=u&password=x&db=2"], ["redis://h?username=u&db=2"], "x"),
        (["rediss://h?ssl_ca_certs=a.crt&password=x"], ["rediss://h?ssl_ca_certs=a.crt"], "x"),
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


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://u:12#sesame@h", "The redis:// URL has a # or @ where none is allowed; .* # as %23"),
        ("redis://u:12/sesame@h", "a # or @ where none is allowed"),
        ("rediss://u:12?sesame@h", "a # or @ where none is allowed"),
        ("unix://u:12#sesame@/run/r.sock", "a # or @ where none is allowed"),
        ("redis://u:ses\tame@h", "contains a control character"),
        ("redis://u:sesame@h?password=sesame", "The redis:// URL gives a password twice"),
        ("unix:///run/r.sock?password=sesame&password=x", "The unix:// URL gives a password twice"),
    ],
)
def test_half_a_password_stays_out_of_the_arguments(url: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    for argument in (url, f"--replay={url}", f"redis://h,{url}"):
        with pytest.raises(ValueError, match=message) as error:
            hide_passwords([argument])
        assert "sesame" not in str(error.value) and not os.environ[VARIABLE]


def test_a_configuration_does_not_quote_half_a_password() -> None:
    with pytest.raises(ValueError, match="a comma as %2C") as error:
        ReplayConfig(store="redis://:ses,ame@h")
    assert "ame@h" not in str(error.value)
    with pytest.raises(ValueError, match="Not all of the Redis URLs begin") as error:
        ReplayConfig(store="redis:/h,redis://:sesame@h")
    assert "sesame" not in str(error.value)
    with pytest.raises(ValueError, match="replay.store='discs' is none of memory, ray, disk"):
        ReplayConfig(store="discs")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("redis://h:99999", "replay.store: redis://h: port 99999 is not allowed; use 1 to 65535"),
        ("redis://h:port", "replay.store: redis://h: the port is not a number"),
        ("redis://h/one", "replay.store: The database of the redis:// URL is not a number"),
        ("redis://h?tls=1", "replay.store: The redis:// URL has an unknown option, or one twice"),
        ("rediss://", "replay.store: The rediss:// URL has no host"),
        ("redis://h,", "replay.store: One of the comma-separated Redis URLs is empty"),
        ("redis://h,redis://h:6379", "replay.store: The Redis URLs name redis://h:6379 twice"),
        ("http://:sesame@h", "replay.store is none of memory, ray, disk, nor a URL that begins with redis://"),
    ],
)
def test_urls_are_checked_when_a_configuration_is_read(
    store: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ValueError, match=message.replace("?", r"\?")) as error:
        ReplayConfig(store=store)
    assert "sesame" not in str(error.value)
    with pytest.raises(SystemExit) as ended:
        main(["train", "gym:CartPole-v1", "--replay", store])
    out, said = capsys.readouterr()
    assert ended.value.code == 2 and not out and len(said.splitlines()) == 1, out + said


def test_a_configuration_can_be_read_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert ReplayConfig(store="redis://u@h,redis://u@i").shard_count == 2


def test_the_password_of_a_file_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")  # so that it is as before at the end
    monkeypatch.setenv(PASSWORD_FILE, str(file := tmp_path / "password"))
    with pytest.raises(ValueError, match=f"{PASSWORD_FILE}={file} cannot be read"):
        read_password_file()
    file.touch(0o600)
    with pytest.raises(ValueError, match="is empty"):
        read_password_file()
    file.write_text("s3cret\n")
    read_password_file()
    assert os.environ[VARIABLE] == "s3cret"
    monkeypatch.setenv(VARIABLE, "given")
    read_password_file()
    assert os.environ[VARIABLE] == "given"
    monkeypatch.setenv(VARIABLE, "")
    file.chmod(0o640)
    with pytest.raises(ValueError, match="Others may read") as error:
        read_password_file()
    assert "s3cret" not in str(error.value)
