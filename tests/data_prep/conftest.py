"""Runs the data preparation as its users do: by command lines, from the checkout."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_prep.files import run_command

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def run_module(monkeypatch, capsys):
    """Run ``python -m data_prep.NAME ARGUMENTS`` in this process; gives its exit code and what it prints."""

    def run(name, *arguments, **environment):
        module = import_module(f"data_prep.{name}")
        monkeypatch.chdir(CHECKOUT)
        monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, arguments)])
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_command(module.main)
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=printed.out, stderr=printed.err)

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
