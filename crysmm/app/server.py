"""The page, served to this machine alone: from the loopback address, to the page itself, and without calling others."""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysmm.app.answer import Models
from crysmm.errors import InputError, MissingDependencyError
from crysmm.signals import StopRequested, listening

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT = 7860, 7959
SECONDS_TO_END = 1  # for requests that are being answered
ASKED_FOR = re.compile(  # by the page; gradio answers to more: other people's URLs, editors, recordings
    r"/|/(config/?|theme\.css|manifest\.json|favicon\.ico|robots\.txt|pwa_icon)|/(assets|static)/.+"
    r"|/gradio_api/(info|startup-events|heartbeat/.+|queue/(join|data)|upload|upload_progress|cancel|file=/.+)"
)
HEADERS = {
    # gradio compiles its templates in the browser; whatever else a page may fetch is its own
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def serve(folders: Sequence[Path], port: int | None, ready: Callable[[str], object]) -> None:
    """Serve the page until Ctrl-C or SIGTERM, which end it with the exceptions that stand for them.

    Args:
        folders: of models to offer, beside the shipped ones.
        port: to listen on; by default a free one.
        ready: is told the address of the page when there is one.

    Raises:
        InputError: the port is taken.
        MissingDependencyError: gradio is not installed.
        ModelFolderError: a folder holds no sound model.
    """
    try:
        with (
            listening(),
            _listening_socket(port) as listener,
            tempfile.TemporaryDirectory(prefix="crysmm-app-") as temporary,
        ):
            _keep_to(Path(temporary))
            models = Models(folders)
            _import_gradio()
            _run(models, listener, ready)
    except StopRequested as stop:
        raise stop.exit_error(is_main=True) from None


def _run(models: Models, listener: socket.socket, ready: Callable[[str], object]) -> None:
    import uvicorn
    from fastapi import FastAPI

    from crysmm.app.page import mount_page

    address = "{}:{}".format(*listener.getsockname())
    sys.addaudithook(stay_on_this_machine)
    app = Guard(mount_page(FastAPI(openapi_url=None), models), address)
    config = uvicorn.Config(
        app, loop="asyncio", lifespan="on", log_level="critical", timeout_graceful_shutdown=SECONDS_TO_END
    )
    listener.listen()  # from here on requests wait for an answer
    ready(f"http://{address}")
    uvicorn.Server(config).run([listener])


def stay_on_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that refuses to look for or to reach another machine.

    Gradio would fetch a file from a URL that it is sent, and Hugging Face's libraries ask for news.

    Raises:
        PermissionError: The process is about to do so.
    """
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # sockets in the file system have no host
    else:
        return
    name = host.decode() if isinstance(host, bytes) else host
    if name and name != "localhost" and not _is_loopback(name):
        raise PermissionError(f"crysmm app calls no other machine, and so not {name}")


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets through requests of the page to the page, and forbids a browser to fetch anything from elsewhere.

    A request by another name than the address is refused, as a foreign page can give this machine any name; so is
    one that a foreign page makes.

    Args:
        app: what answers.
        address: host and port it is served from.
    """

    def __init__(self, app: ASGIApp, address: str) -> None:
        self._app = app
        self._hosts = {address, address.replace(HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        if scope["type"] == "http" and self._is_the_page_s(scope):
            await self._app(scope, receive, send_guarded)
        else:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("refused", status_code=403)(scope, receive, send)

    def _is_the_page_s(self, scope: Scope) -> bool:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        own = headers.get("host") in self._hosts and (origin is None or origin.removeprefix("http://") in self._hosts)
        return own and ASKED_FOR.fullmatch(scope["path"]) is not None


def _keep_to(folder: Path) -> None:
    """Tell gradio, before it is imported, to keep its files in a folder, and it and others to call nobody."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(folder),
        GRADIO_EXAMPLES_CACHE=str(folder / "examples"),
        HF_HUB_OFFLINE="1",
    )


def _import_gradio() -> None:
    """Import gradio, or say how to install it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import_module("gradio")
    except ImportError as error:
        raise MissingDependencyError(
            f"the app needs the package gradio, which cannot be imported here ({error}): pip install 'crysmm[app]'"
        ) from error


def _listening_socket(port: int | None) -> socket.socket:
    """A socket on the loopback address.

    Raises:
        InputError: the port, or any of those that are tried, is taken.
    """
    for tried in range(FIRST_PORT, LAST_PORT + 1) if port is None else [port]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, tried))
            return listener
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
    which = f"ports {FIRST_PORT} to {LAST_PORT} are" if port is None else f"{port} is"
    raise InputError(f"--port: {which} not free ({reason}); name another one")
