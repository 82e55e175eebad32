"""A download from a server that breaks off, lies about sizes, or has nothing, all on this machine."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crysmm.errors import InputError
from data_prep.download import download

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(ThreadingHTTPServer):
    """Serves CONTENT; each request takes the next of `behaviors`, the last one again and again."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviors = ["whole"]
        self.ranges = []  # the Range header of every request

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        behaviors = self.server.behaviors
        behavior = behaviors.pop(0) if len(behaviors) > 1 else behaviors[0]
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if isinstance(behavior, int):
            self.send_error(behavior)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and behavior != "no ranges" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if behavior == "break off" else body)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_file_is_whole_and_nothing_else_is_left(server, tmp_path):
    download(server.url, tmp_path / "new" / "file.zip")
    assert (tmp_path / "new" / "file.zip").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.zip"]


def test_file_that_is_there_is_not_asked_for_again(server, tmp_path):
    (tmp_path / "file.zip").write_bytes(b"mine")
    download(server.url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == b"mine"
    assert server.ranges == []


def test_broken_connections_are_taken_up_where_they_broke(server, tmp_path):
    server.behaviors = ["break off", "break off", "whole"]
    download(server.url, tmp_path / "file.zip", wait_seconds=0)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_later_call_continues_what_an_earlier_one_left(server, tmp_path):
    server.behaviors = ["break off"]
    with pytest.raises(InputError, match=r"could not be downloaded.*--help"):
        download(server.url, tmp_path / "file.zip", attempts=1)
    assert not (tmp_path / "file.zip").exists()
    server.behaviors = ["whole"]
    download(server.url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_server_without_ranges_starts_over(server, tmp_path):
    (tmp_path / "file.zip.partial").write_bytes(b"x" * (len(CONTENT) + 10))
    server.behaviors = ["no ranges"]
    download(server.url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "file.zip.partial").write_bytes(b"x" * (len(CONTENT) + 10))
    download(server.url, tmp_path / "file.zip", wait_seconds=0)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_busy_server_is_asked_again(server, tmp_path):
    server.behaviors = [503, "whole"]
    download(server.url, tmp_path / "file.zip", wait_seconds=0)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("code", [404, 403, 202])
def test_other_answers_end_it_at_once_and_say_what_to_do(server, tmp_path, code):
    server.behaviors = [code]
    with pytest.raises(InputError, match=rf"{server.url} could not be downloaded.* {code} .*--help"):
        download(server.url, tmp_path / "file.zip", wait_seconds=0)
    assert len(server.ranges) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_network_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:1/file could not be downloaded.*--help"):
        download("http://127.0.0.1:1/file", tmp_path / "file.zip", attempts=2, wait_seconds=0)
