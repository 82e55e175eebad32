"""What keeps the page from being served."""

import os
import socket
import sys

import pytest

from crysmm.cli.main import main


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What gradio is told by the environment is not for other tests."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_without_gradio_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 2
    assert "pip install 'crysmm[app]'" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "--port", str(port)]) == 2
    assert f"--port: {port} is not free" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "first"])
def test_a_port_that_is_none_is_refused(port, capsys):
    with pytest.raises(SystemExit) as left:
        main(["app", "--port", port])
    assert left.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_a_folder_without_a_model_is_refused(tmp_path, capsys):
    assert main(["app", "--model", str(tmp_path)]) == 2
    assert f"{tmp_path} is not a crysmm model folder" in capsys.readouterr().err
