"""Redis URLs: every form, and errors that say what is wrong without giving the password away."""

import pytest

from replay.redis_url import Address, parse, parse_servers

CERTIFICATES = {"ssl_ca_certs": "/a b.crt", "ssl_certfile": "me.crt", "ssl_keyfile": "me.key"}


@pytest.mark.parametrize(
    ("url", "address", "label"),
    [
        ("redis://box", Address(host="box"), "redis://box:6379"),
        ("redis://box:", Address(host="box"), "redis://box:6379"),
        ("redis://box/", Address(host="box"), "redis://box:6379"),
        ("redis://:word@box:7000/3", Address(host="box", port=7000, password="word", database=3), "redis://box:7000/3"),
        ("redis://me:p%40%2F%3A+%25@box", Address(host="box", username="me", password="p@/:+%"), "redis://box:6379"),
        ("redis://:p@ss@box", Address(host="box", password="p@ss"), "redis://box:6379"),
        ("redis://[::1]:7000", Address(host="::1", port=7000), "redis://[::1]:7000"),
        ("rediss://box", Address(host="box", tls=True), "rediss://box:6379"),
        (
            "rediss://box?ca=/a%20b.crt&cert=me.crt&key=me.key&insecure=1",
            Address(host="box", tls=True, options=CERTIFICATES | {"ssl_cert_reqs": "none"}),
            "rediss://box:6379",
        ),
        (
            "rediss://box?ssl_ca_certs=/a%20b.crt&ssl_certfile=me.crt&ssl_keyfile=me.key&ssl_cert_reqs=optional"
            "&ssl_check_hostname=false",
            Address(
                host="box",
                tls=True,
                options=CERTIFICATES | {"ssl_cert_reqs": "optional", "ssl_check_hostname": False},
            ),
            "rediss://box:6379",
        ),
        (
            "rediss://box?insecure=0&ssl_ca_path=/a+b",
            Address(host="box", tls=True, options={"ssl_ca_path": "/a+b"}),
            "rediss://box:6379",
        ),
        (
            "redis://box?db=2&username=me&password=a%2520b",
            Address(host="box", database=2, username="me", password="a%20b"),
            "redis://box:6379/2",
        ),
        (
            "redis://box?socket_timeout=2.5&socket_connect_timeout=1&socket_keepalive=no",
            Address(
                host="box", options={"socket_timeout": 2.5, "socket_connect_timeout": 1, "socket_keepalive": False}
            ),
            "redis://box:6379",
        ),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock"), "unix:///run/redis.sock"),
        (
            "unix:///run/a%20b@c?user=me&password=a+b%26&db=2",
            Address(path="/run/a b@c", username="me", password="a+b&", database=2),
            "unix:///run/a b@c?db=2",
        ),
        (
            "unix://me:p%40ss@/run/redis.sock?db=1",
            Address(path="/run/redis.sock", username="me", password="p@ss", database=1),
            "unix:///run/redis.sock?db=1",
        ),
    ],
)
def test_forms(url: str, address: Address, label: str) -> None:
    assert parse(url, {}) == address
    assert parse(url, {}).label == label


def test_the_password_may_come_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_REDIS_PASSWORD", "sesame")
    address = parse("redis://me@box")
    assert (address.username, address.password) == ("me", "sesame")
    assert parse("redis://:own@box").password == "own"
    assert "sesame" not in f"{address!r} {address} {address.label}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sesame@box", "starts with redis://"),
        ("sesame:6379", "starts with redis://"),
        ("http://:sesame@box", "starts with redis://"),
        ("redis://:ses/ame@box", "/ as %2F"),
        ("redis://:ses#ame@box", "# as %23"),
        ("redis://:12#sesame@box", "a # or @ where none is allowed"),
        ("redis://:12?sesame@box", "a # or @ where none is allowed"),
        ("redis://:12/sesame@box", "a # or @ where none is allowed"),
        ("redis://:sesame@box?password=sesame", "The redis:// URL gives a password twice; write it before the host or"),
        ("redis://box?password=sesame&password=sesame", "gives a password twice"),
        ("redis://:ses[ame@box", r"\[ as %5B"),
        ("redis://:ses]ame@box", r"\] as %5D"),
        ("redis://:ses[a]me@box", r"\[ as %5B, \] as %5D"),
        ("redis://:ses\u2100ame@box", "or set NEXUS_REDIS_PASSWORD"),
        ("redis://:ses\tame@box", "contains a control character"),
        ("unix:///run/redis.sock?password=ses\name", "contains a control character"),
        ("redis://:sesame@", "has no host"),
        ("redis://sesame@box", "a user but no password"),
        (
            "redis://:sesame@box:65536",
            "redis://box: port 65536 is not allowed; use 1 to 65535, or omit it for 6379",
        ),
        ("redis://box:99999", "redis://box: port 99999 is not allowed; use 1 to 65535"),
        ("redis://:sesame@box:-1", "redis://box: the port is not a number; use 1 to 65535"),
        ("redis://box:sesame", "redis://box: the port is not a number; use 1 to 65535, or omit it for 6379"),
        ("redis://:sesame@[::1]x", "the port is not a number|host"),
        ("redis://:sesame@box:0", "redis://box: port 0 .* use 1 to 65535"),
        ("redis://:sesame@[box", "host or port"),
        ("redis://", "has no host"),
        ("redis:///1", "has no host"),
        ("rediss://:6379", "has no host"),
        ("redis://:sesame@box/two", "database .* not a number"),
        ("redis://:sesame@box/-1", "database .* not a number"),
        ("redis://:sesame@box/1?db=1", "has two databases; write it after the host or as db"),
        ("redis://:sesame@box?db=one", "database .* not a number"),
        ("redis://box?sesame", "allowed are username, password, db, socket_timeout, .*or set NEXUS_REDIS_PASSWORD"),
        ("rediss://box?ca=", "ca of the rediss:// URL is empty; give it a value"),
        ("redis://box?ssl_ca_certs=sesame", "an unknown option, or one twice"),
        ("redis://box?p%61ssword=sesame", "an unknown option, or one twice"),
        ("redis://box?max_connections=5&password=sesame", "an unknown option, or one twice"),
        ("redis://box?socket_timeout=soon&password=sesame", "'socket_timeout' .* a number of seconds"),
        ("redis://box?socket_connect_timeout=0&password=sesame", "socket_connect_timeout is 0.0, allowed are 0.001 to"),
        ("redis://box?socket_timeout=inf&password=sesame", "socket_timeout is inf, allowed are 0.001 to 86400 seconds"),
        ("redis://box?socket_timeout=nan", "socket_timeout is nan, allowed are"),
        ("redis://box?socket_timeout=1e300", r"socket_timeout is 1e\+300, allowed are"),
        ("unix:///s?socket_timeout=1e-9", "socket_timeout is 1e-09, allowed are"),
        ("rediss://box?cafile=sesame", "allowed are ca, cert, key, insecure, username, .* ssl_ca_certs"),
        ("rediss://box?ca=sesame&ssl_ca_certs=b", "one twice"),
        ("rediss://box?insecure=1&ssl_cert_reqs=none", "one twice"),
        ("rediss://:sesame@box?ssl_cert_reqs=never", "ssl_cert_reqs is never, allowed are required, optional, none"),
        ("rediss://box?ssl_keyfile=sesame", "cert=FILE"),
        ("rediss://box?ca=sesame&ca=b", "one twice"),
        ("rediss://box?key=sesame", "cert=FILE"),
        ("rediss://box?insecure=yes", "allowed are 0 .* and 1"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://me:sesame@box/run/redis.sock", "three slashes"),
        ("unix://sesame@/run/redis.sock", "a user but no password"),
        ("unix:///", "three slashes"),
        ("unix:///run/redis.sock?password=ses#ame", "# as %23"),
        ("unix:///run/redis.sock?password=12&sesame", "allowed are user, username, password, db"),
        ("unix:///" + 200 * "a", "longer than 107 bytes"),
    ],
)
def test_wrong_urls_are_explained_and_not_quoted(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(url, {})
    assert "sesame" not in str(caught.value) and caught.value.__cause__ is None


def test_several_servers() -> None:
    each = parse_servers("redis://u@box,redis://box/1,unix:///s", {"NEXUS_REDIS_PASSWORD": "w"})
    assert [one.label for one in each] == ["redis://box:6379", "redis://box:6379/1", "unix:///s"]


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ("redis://box,", "One of the comma-separated Redis URLs is empty; give one URL per server"),
        ("redis://box,,redis://bax", "One of the comma-separated Redis URLs is empty"),
        ("redis://box,box", "Not all of the Redis URLs begin with redis://, rediss://, unix://"),
        ("redis://box,http://box", "Not all of the Redis URLs begin with"),
        ("redis://:ses,,ame@box", "Not all of the Redis URLs begin with .* a comma as %2C"),
        (
            "redis://box,redis://u:sesame@BOX:6379/0",
            "The Redis URLs name redis://box:6379 twice; give each server once",
        ),
        ("unix:///s?db=1,unix:///s?db=1&password=sesame", r"The Redis URLs name unix:///s\?db=1 twice"),
        ("redis://box,redis://bax:99999", "port 99999 is not allowed"),
    ],
)
def test_servers_that_cannot_be_meant(urls: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_servers(urls, {"NEXUS_REDIS_PASSWORD": "w"})
    assert "sesame" not in str(caught.value)
