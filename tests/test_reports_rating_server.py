"""`espalier rate`: who may ask, what is kept when it is killed, several raters at once."""

from __future__ import annotations

import http.client
import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rating_fixture import Commands, Rater, rated_run, serving, stored

from espalier.cli import main
from espalier.rating_store import FOLDER
from espalier.reports.rating_server import MOST_BYTES, RatingServer, token_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rated_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture
def server(run: Path) -> Iterator[RatingServer]:
    with serving(run) as found:
        yield found


def ask(
    server: RatingServer,
    method: str = "POST",
    path: str = "/api/about",
    body: bytes = b"{}",
    **headers: str | None,
) -> tuple[int, dict[str, str], bytes]:
    """One request as a page of this server makes it; a header None is left out."""
    port = server.server_address[1]
    sent: dict[str, str | None] = {
        "Host": f"127.0.0.1:{port}",
        "Origin": f"http://127.0.0.1:{port}",
        "Cookie": f"{server.cookie}={server.token}",
        "Content-Type": "application/json",
        "Sec-Fetch-Site": "same-origin",
        "Content-Length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body if method == "POST" else None)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_page_of_this_server_is_answered(server: RatingServer) -> None:
    status, headers, body = ask(server)
    assert status == 200
    assert [part["name"] for part in json.loads(body)["parts"]] == ["pairs", "quality"]
    # No other page may read an answer, put it into a frame, or keep it.
    assert "access-control-allow-origin" not in headers
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": None},
        {"Cookie": "espalier_rate_1=x"},
        {"Cookie": "=;;;\x7f"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": None},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": None},
        {"Authorization": "Bearer x", "Cookie": None},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
    ],
)
def test_others_are_refused(server: RatingServer, headers: dict[str, str | None]) -> None:
    status, _, body = ask(server, **headers)
    assert status in (403, 415) and "parts" not in json.loads(body)
    asked = {"part": "pairs", "rater": "eve", "item": "x", "verdict": "A", "uid": "12345678"}
    status, _, _ = ask(server, path="/api/rate", body=json.dumps(asked).encode(), **headers)
    assert status in (403, 415)


def test_a_right_token_does_not_help_another_origin(server: RatingServer) -> None:
    port = server.server_address[1]
    good = {"Authorization": f"Bearer {server.token}", "Cookie": None}
    assert ask(server, **good, Origin=None)[0] == 200
    assert ask(server, **good, Origin="http://evil.example")[0] == 403
    assert ask(server, **good, Host=f"evil.example:{port}", Origin=None)[0] == 403
    # The same server under its other name.
    local = f"localhost:{port}"
    assert ask(server, Host=local, Origin=f"http://{local}")[0] == 200
    assert ask(server, Host=local, Origin=f"http://127.0.0.1:{port}")[0] == 403


def test_the_page_needs_the_token_once(server: RatingServer) -> None:
    status, headers, body = ask(server, "GET", "/", Cookie=None)
    assert status == 403 and b"token" in body and b"doctype" not in body
    assert ask(server, "GET", "/?token=wrong", Cookie=None)[0] == 403
    status, headers, body = ask(server, "GET", f"/?token={server.token}", Cookie=None)
    assert (status, headers["location"], body) == (303, "/", b"")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=" in cookie and server.cookie in cookie
    status, headers, body = ask(server, "GET", "/", Cookie=cookie.split(";")[0])
    assert status == 200 and b"doctype" in body
    assert headers["content-security-policy"] == server.policy
    assert ask(server, "GET", "/", Host="evil.example")[0] == 403
    assert ask(server, "GET", "/ratings.sqlite")[0] == 404
    assert ask(server, "GET", "/../../etc/passwd")[0] == 404
    assert ask(server, "POST", "/api/nothing")[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"[]", 400), (b"nonsense", 400), (b'{"a"', 400), (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused(server: RatingServer, body: bytes, status: int) -> None:
    assert ask(server, body=body)[0] == status


@pytest.mark.parametrize("length", [str(MOST_BYTES + 1), "9" * 5000, "-1", "x", None])
def test_a_body_without_a_sensible_length_is_refused(
    server: RatingServer, length: str | None
) -> None:
    assert ask(server, Content_Length=length)[0] == 413


def test_wrong_ratings_are_told_by_name(server: RatingServer) -> None:
    rater = Rater(server.server_address[1], server.token, "ann")
    item = rater.next()
    assert item is not None
    status, answer = rater.call(
        "/api/rate", part="pairs", item=item["name"], verdict="neither", uid="12345678"
    )
    assert status == 422 and "verdict" in answer["error"]
    status, answer = rater.call("/api/next", part="nothing")
    assert status == 422
    for odd in (10**400, float("inf"), float("nan"), -1, True, "5"):
        uid = f"seconds-{len(str(odd))}{type(odd)}"[:60]
        status, _ = rater.call(
            "/api/rate", part="pairs", item=item["name"], verdict="A", uid=uid, seconds=odd
        )
        assert status == 200
    assert {one.seconds for one in server.session.store.since(0) if one.rater == "ann"} == {None}
    for odd in (None, 5, [], {"a": 1}):
        assert rater.call("/api/next", part=odd, passed=odd)[0] == 422
        assert rater.call("/api/rate", part="pairs", item=odd, uid=odd)[0] == 422


def test_the_token_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    token = token_of(tmp_path)
    assert token_of(tmp_path) == token and len(token) >= 32
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("short\n")
    assert token_of(tmp_path) != "short"
    token = token_of(tmp_path)
    file.chmod(0o644)
    assert token_of(tmp_path) != token, "others could have read it"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_raters_at_once_lose_nothing(tmp_path: Path) -> None:
    run = rated_run(tmp_path / "run", rows=16)
    with serving(run) as server:
        said: dict[str, set[str]] = {}

        names = ("ann", "bo", "cy", "李雷")

        def rate(name: str, verdict: str) -> None:
            rater = Rater(server.server_address[1], server.token, name)
            done = said.setdefault(name, set())
            while (item := rater.next()) is not None:
                assert (
                    rater.rate(item["name"], verdict, f"{names.index(name)}-{item['name']}") == 200
                )
                done.add(item["name"])

        threads = [threading.Thread(target=rate, args=(name, "A")) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {(name, item) for name in names for item in said[name]}
    assert len(set(map(frozenset, said.values()))) == 1 and len(said["ann"]) >= 8
    assert {(row["rater"], row["item"]) for row in stored(run)} == expected


def test_the_command_says_what_is_wrong(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["rate", str(run), "--port", port]) == 2
    assert f"Port {port} of 127.0.0.1" in capsys.readouterr().err
    assert main(["rate", str(tmp_path)]) == 2
    assert "no finished evaluation" in capsys.readouterr().err
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "evaluate").mkdir()
    scores = tmp_path / "evaluate" / "scores.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "model": ["m"]}), scores)
    assert main(["rate", str(tmp_path)]) == 2
    assert "lacks the column 'prompt'" in capsys.readouterr().err
    assert main(["rate", str(run), "--models", "gpt"]) == 2
    assert "no model 'gpt'" in capsys.readouterr().err
    assert main(["rate", str(run), "--rubric", "beauty"]) == 2
    assert "no rubric 'beauty'" in capsys.readouterr().err
    assert main(["rate", str(run), "--rubric", "hhh", "--rubric", "hhh"]) == 2
    assert "different names" in capsys.readouterr().err
    assert main(["rate", str(run), "--models", "ppo", "--kind", "pairs"]) == 2
    assert "nothing to rate" in capsys.readouterr().err
    for wrong in (["--port", "70000"], ["--port", "abc"], ["--count", "0"], ["--host", "0.0.0.0"]):
        with pytest.raises(SystemExit):
            main(["rate", str(run), *wrong])


def test_what_cannot_be_written_is_told_and_not_taken_for_saved(tmp_path: Path) -> None:
    run = rated_run(tmp_path / "run", rows=4)
    with serving(run) as server:
        rater = Rater(server.server_address[1], server.token, "ann")
        item = rater.next()
        assert item is not None
        # As where the disk is full: SQLite may not grow the file any more.
        connection = server.session.store._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        comment = {"comment": "x" * 4000}
        codes = []
        for number in range(40):
            status, answer = rater.call(
                "/api/rate", part="pairs", item=item["name"], verdict="A",
                uid=f"number-{number}", **comment,
            )  # fmt: skip
            codes.append(status)
        assert codes[-1] == 500 and "can't be used" in answer["error"]
        kept = server.session.store.since(0)
    assert len(kept) == codes.count(200)


@pytest.fixture
def commands() -> Iterator[Commands]:
    with Commands() as found:
        yield found


@pytest.mark.slow
@pytest.mark.ci_slice
def test_a_killed_server_loses_nothing_and_goes_on(tmp_path: Path, commands: Commands) -> None:
    """`kill -9` while two people rate; the same command, the same port, the same token."""
    run = rated_run(tmp_path / "run", rows=60)
    command = commands.start(run)
    port, token = command.port, command.token
    saved: list[tuple[str, str]] = []
    lock = threading.Lock()
    pause = threading.Event()

    def rate(name: str) -> None:
        rater = Rater(port, token, name)
        retries = 0
        while True:
            try:
                item = rater.next()
                if item is None:
                    return
                assert rater.rate(item["name"], "A", f"{name}-{item['name']}") == 200
                with lock:
                    saved.append((name, item["name"]))
            except (OSError, http.client.HTTPException):
                retries += 1
                assert retries < 2000
                pause.wait(0.05)

    threads = [threading.Thread(target=rate, args=(name,)) for name in ("ann", "bo")]
    for thread in threads:
        thread.start()
    for wanted in (15, 45):
        while len(saved) < wanted:
            pause.wait(0.01)
        command.kill()
        with lock:
            before = list(saved)
        assert set(before) <= {(row["rater"], row["item"]) for row in stored(run)}
        command = commands.start(run, port)
        assert command.token == token
    for thread in threads:
        thread.join()
    code, out = command.stop()
    assert code == 0 and "Traceback" not in out and "ratings preferences" in out
    kept = [(row["rater"], row["item"]) for row in stored(run)]
    assert len(kept) == len(set(kept)) and set(saved) <= set(kept)
    # A kill between the writing and the answer leaves a rating that its rater was not told of.
    assert len(kept) - len(saved) <= 4
    assert {item for rater, item in kept if rater == "ann"} == {i for r, i in kept if r == "bo"}
    # Ended in order, everything is in the one file.
    assert {path.name for path in (run / FOLDER).iterdir()} == {".token", "ratings.sqlite"}
