"""The command itself: who gets in, what is refused, and that nothing breaks it."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from deploy.cli import main
from tests.deploy.monitor.written_health import write_film
from tests.deploy.monitor.written_runs import add_episodes, served, write_run
from tests.integration.runs import wait_for

TOKEN = "a-token-of-some-length"


class Client:
    """Asks one server."""

    def __init__(self, address: str):
        self.host, self.port = urlsplit(address).hostname or "", urlsplit(address).port or 0

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = ""
    ) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=60)) as line:
            data = json.dumps(body).encode() if isinstance(body, dict | list) else body
            sent = ({"content-type": "application/json"} if body is not None else {}) | (headers or {})
            line.request(method or ("GET" if body is None else "POST"), path, data, sent)
            answer = line.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def json(self, path: str, **more: Any) -> Any:
        status, _, body = self.ask(path, **more)
        assert status == 200, body
        return json.loads(body)

    def status(self, path: str, **more: Any) -> int:
        return self.ask(path, **more)[0]

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection((self.host, self.port), timeout=60) as line:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            return line.recv(1 << 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("monitor")
    write_run(path / "runs", "a", [1.0, 2.0])
    (path / "secret.txt").write_text("secret")
    return path


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with served(folder / "runs", home=folder) as address:
        found = Client(address)
        deadline = time.monotonic() + 20
        while not found.json("/api/runs")["runs"] and time.monotonic() < deadline:
            time.sleep(0.05)
        yield found


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Client]:
    file = folder / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with served(folder / "runs", "--token-file", file, home=folder) as address:
        yield Client(address)


def test_the_page_is_complete_and_asks_for_nothing_else(client: Client) -> None:
    status, headers, page = client.ask("/")
    assert status == 200 and b"Nexus" in page
    assert (
        "default-src 'none'" in headers["content-security-policy"]
        and "unsafe" not in headers["content-security-policy"]
    )
    assert headers["x-frame-options"] == "DENY" and headers["cross-origin-resource-policy"] == "same-origin"
    for name in ("app.js", "vendor/uPlot.iife.min.js", "vendor/uPlot.LICENSE.txt", "vendor/Inter.woff2", "style.css"):
        status, headers, body = client.ask(f"/static/{name}")
        assert status == 200 and body and headers["content-type"].partition(";")[0] != "text/html", name
    for name in ("/docs", "/openapi.json", "/redoc"):
        assert client.status(name) == 404


def test_a_websocket_says_what_is_new(client: Client, folder: Path) -> None:
    with connect(f"ws://{client.host}:{client.port}/live") as live:
        time.sleep(0.3)
        add_episodes(folder / "runs" / "a", [5.0], start=2)
        news = json.loads(live.recv(timeout=60))
        (name,) = news["changed"]
        assert client.json("/api/runs")["runs"][0]["id"] == name
        live.send("x" * 100)
    # The first news may be of what was there before.
    where = f"/api/curves?task={quote('gym:CartPole-v1')}&bins=10"
    wait_for(lambda: client.json(where)["groups"][0]["y"][-1] == 5.0, "the new score")


@pytest.mark.parametrize("path", [
    "/static/../run.py", "/static/..%2f..%2frun.py", "/static/%2e%2e/%2e%2e/secret.txt", "/static//etc/passwd",
    "/static/vendor/../../server.py", "/../../etc/passwd", "/static/app.js%00.txt", "/static/" + "a" * 5000,
])  # fmt: skip
def test_no_path_leads_out_of_the_page(client: Client, path: str) -> None:
    status, _, body = client.ask(path)
    assert status in (400, 404) and b"secret" not in body and b"import" not in body and b"root:" not in body


@pytest.mark.parametrize(("path", "status"), [
    ("/api/curves", 422), ("/api/curves?task=x&axis=z", 400), ("/api/curves?task=x&bins=100000000", 400),
    ("/api/curves?task=x&bins=nan", 422), ("/api/metric?name=x&decay=nan", 400), ("/api/metric?name=x&decay=1", 400),
    ("/api/configuration?runs=../../x", 404), ("/api/configuration?runs=" + ",".join("x" * 60), 400),
    ("/api/runs?filter=score%3Ehigh", 400), ("/api/runs?filter=" + "x" * 500, 400), ("/api/nothing", 404),
    ("/api/curves?task=%00%ff&value=__class__", 200),
])  # fmt: skip
def test_malformed_questions_are_answered(client: Client, path: str, status: int) -> None:
    found, _, body = client.ask(path)
    assert found == status and b"Traceback" not in body


def test_videos_come_from_the_run_alone(client: Client, folder: Path) -> None:
    run = folder / "runs" / "a"
    data = write_film(run, 100).read_bytes()
    name = client.json("/api/runs")["runs"][0]["id"]
    base = f"/api/runs/{name}/videos"
    status, headers, body = client.ask(f"{base}/openloop-00000100.mp4", headers={"accept-encoding": "gzip"})
    assert status == 200 and body == data and headers["content-type"] == "video/mp4"
    part = client.ask(f"{base}/openloop-00000100.mp4", headers={"range": "bytes=4-7", "accept-encoding": "gzip"})
    assert part[0] == 206 and part[2] == data[4:8] == b"ftyp"
    assert client.status(f"/api/runs/{name}x/videos/openloop-00000100.mp4") == 404
    for path in ("config.yaml", "../config.yaml", "..%2fconfig.yaml", "%2e%2e/scores.jsonl", "/etc/passwd", "best.mp4",
                 "openloop-00000100.mp4%00", "openloop-" + "1" * 3000 + ".mp4", "openloop-00000001.mp4"):  # fmt: skip
        assert client.status(f"{base}/{path}") == 404, path
    assert client.status(f"{base}/openloop-00000100.mp4", headers={"sec-fetch-site": "cross-site"}) == 403
    assert client.status(f"/api/health?run={name}&after=x") == 200 and client.status("/api/health?run=..") == 404
    assert client.json(f"/api/health?run={name}")["updates"] == []


def test_oversized_and_broken_requests_do_no_harm(client: Client) -> None:
    name = client.json("/api/runs")["runs"][0]["id"]
    notes = f"/api/runs/{name}/notes"
    assert client.status(notes, body=b"x" * 100_000) == 413
    for body in (b"{", b"[" * 20_000, b"\xff", b"[]", b'{"path": "/etc"}', b'{"note": 1}', b"NaN"):
        assert client.status(notes, body=body) == 400
    assert client.status("/api/runs/nobody/notes", body={"note": ""}) == 404
    assert client.status(notes, body=b"note=x", headers={"content-type": "application/x-www-form-urlencoded"}) == 400
    head = b"Host: 127.0.0.1\r\n"
    chunks = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    for request in (
        b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 200_000, b"\x00\x01\x02\r\n\r\n", b"GET /\r\n\r\n",
        b"POST " + notes.encode() + b" HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\n" + chunks * 3 + b"0\r\n\r\n",
        b"POST " + notes.encode() + b" HTTP/1.1\r\n" + head + b"Content-Length: 99999999999999999999\r\n\r\n",
        b"POST " + notes.encode() + b" HTTP/1.1\r\n" + head + b"Content-Length: -5\r\n\r\n",
    ):  # fmt: skip
        with suppress(OSError):  # closed while we still sent
            assert b" 200 " not in client.raw(request).partition(b"\r\n")[0]
    assert client.json("/api/runs")["runs"][0]["note"] == ""


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", "169.254.169.254", "", "["])
def test_other_names_of_this_machine_are_refused(client: Client, host: str) -> None:
    assert client.status("/api/runs", headers={"host": host}) == 421
    assert client.status("/", headers={"host": host}) == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1", "[::1]:80"])
def test_names_of_the_loopback_are_fine(client: Client, host: str) -> None:
    assert client.status("/", headers={"host": host}) == 200


def test_pages_of_other_sites_change_and_ask_nothing(client: Client) -> None:
    name = client.json("/api/runs")["runs"][0]["id"]
    origins = ({"origin": origin} for origin in ("http://evil.example", "null", "http://["))
    for headers in (*origins, {"sec-fetch-site": "cross-site"}):
        assert client.status(f"/api/runs/{name}/notes", body={"note": "x"}, headers=headers) == 403
    assert client.status("/api/runs", headers={"sec-fetch-site": "same-site"}) == 403  # another port of this machine
    assert client.status("/", headers={"sec-fetch-site": "cross-site"}) == 200  # a link
    own = {"origin": f"http://{client.host}:{client.port}"}
    assert client.status(f"/api/runs/{name}/notes", body={"note": ""}, headers=own) == 200
    with (
        pytest.raises(InvalidStatus),
        connect(f"ws://{client.host}:{client.port}/live", origin=Origin("http://evil.example")),
    ):
        pass


def test_a_token_opens_as_bearer_or_through_the_login_page(guarded: Client) -> None:
    assert guarded.ask("/")[:2][0] == 303 and guarded.ask("/")[1]["location"] == "/login"
    assert guarded.status("/login") == 200 and guarded.status("/static/style.css") == 200
    for path in ("/api/runs", "/static/app.js", "/api/configuration?runs=x"):
        assert guarded.status(path) == 401
        assert guarded.status(path, headers={"authorization": "Bearer wrong"}) == 401
        assert guarded.status(path, headers={"cookie": "nexus_monitor=wrong"}) == 401
    assert guarded.status("/api/runs?token=" + TOKEN) == 401
    assert guarded.status("/api/runs", headers={"authorization": f"Bearer {TOKEN}"}) == 200
    form = {"content-type": "application/x-www-form-urlencoded"}
    status, headers, _ = guarded.ask("/login", body=b"token=wrong", headers=form)
    assert status == 303 and headers["location"] == "/login?wrong" and "set-cookie" not in headers
    status, headers, _ = guarded.ask("/login", body=f"token={TOKEN}".encode(), headers=form)
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert status == 303 and set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"} and TOKEN not in cookie
    assert guarded.status("/api/runs", headers={"cookie": cookie}) == 200
    assert guarded.status("/api/runs", headers={"cookie": f'other={{"a": 1}}; {cookie}'}) == 200
    with pytest.raises(InvalidStatus), connect(f"ws://{guarded.host}:{guarded.port}/live"):
        pass
    with connect(f"ws://{guarded.host}:{guarded.port}/live", additional_headers={"cookie": cookie}):
        pass


def test_monitors_of_one_machine_keep_each_others_logins(guarded: Client, folder: Path) -> None:
    def cookie_of(one: Client) -> str:
        form = {"content-type": "application/x-www-form-urlencoded"}
        return one.ask("/login", body=f"token={TOKEN}".encode(), headers=form)[1]["set-cookie"].split(";")[0]

    with served(folder / "runs", "--token-file", folder / "token", home=folder) as address:
        other = Client(address)
        both = {"cookie": f"{cookie_of(guarded)}; {cookie_of(other)}"}  # cookies do not know ports
        assert guarded.status("/api/runs", headers=both) == other.status("/api/runs", headers=both) == 200


def test_another_address_makes_a_token_and_prints_only_its_file(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "a", [1.0])
    with served(tmp_path / "runs", "--host", "0.0.0.0", home=tmp_path) as address:
        port = urlsplit(address).port
        file = tmp_path / "state" / "nexus" / "monitor-token"
        token = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600 and len(token) > 30 and token not in address
        assert Client(f"http://127.0.0.1:{port}").status("/api/runs") == 401


def test_what_is_wrong_with_the_command_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, token, mode in (("open", TOKEN, 0o644), ("short", "short", 0o600)):
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(mode)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, expected in [
            (["nowhere"], "nowhere is not a directory"),
            ([".", "--port", port], "cannot be opened"),
            ([".", "--token-file", "open"], "Others may read the token"),
            ([".", "--token-file", "short"], "at least 16 characters"),
            ([".", "--token-file", "short/token"], "token cannot be made"),
            ([".", "--baselines", "nothing.json"], "cannot be read"),
        ]:
            with pytest.raises(SystemExit) as left:
                main(["monitor", *arguments])
            assert left.value.code == 2 and expected in capsys.readouterr().err
