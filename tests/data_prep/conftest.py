"""Runs the data preparation as its users do: as commands, from the checkout."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def run_module():
    """Run ``python -m data_prep.NAME ARGUMENTS``; gives the finished process with its output."""

    def run(name, *arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", f"data_prep.{name}", *map(str, arguments)],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def serve_json():
    """Serve a value as JSON, or 404 for None; gives the address, and the paths that are asked for."""
    servers = []

    def serve(value):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                asked.append(self.path)
                self.send_response(404 if value is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
