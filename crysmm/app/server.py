"""Server of the app, for this machine only: it answers only its own page, and contacts no other machine."""

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
SHUTDOWN_SECONDS = 1  # for requests in progress
ALLOWED_PATHS = re.compile(  # those that the page requests; gradio also serves proxies, editors and recordings
    r"/|/(config/?|theme\.css|manifest\.json|favicon\.ico|robots\.txt|pwa_icon)|/(assets|static)/.+"
    r"|/gradio_api/(info|startup-events|heartbeat/.+|queue/(join|data)|upload|upload_progress|cancel|file=/.+)"
)
HEADERS = {
    # gradio compiles templates in the browser, hence unsafe-eval; everything else comes from the page itself
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def serve(folders: Sequence[Path], port: int | None, ready: Callable[[str], object]) -> None:
    """Serve the page until Ctrl-C or SIGTERM, which raise the same exceptions as in other commands.

    Args:
        folders: Model folders to offer in addition to the shipped models.
        port: Port to listen on; by default a free one.
        ready: Function that receives the address of the page once it is available.

    Raises:
        InputError: The port is in use.
        MissingDependencyError: gradio is not installed.
        ModelFolderError: A folder holds no valid model.
    """
    try:
        with (
            listening(),
            _listening_socket(port) as listener,
            tempfile.TemporaryDirectory(prefix="crysmm-app-") as temporary,
        ):
            # gradio and the libraries of Hugging Face read these when they are imported
            os.environ.update(
                GRADIO_ANALYTICS_ENABLED="False",
                GRADIO_TEMP_DIR=temporary,
                GRADIO_EXAMPLES_CACHE=str(Path(temporary) / "examples"),
                HF_HUB_OFFLINE="1",
            )
            models = Models(folders)
            try:
                import_module("gradio")
            except ImportError as error:
                raise MissingDependencyError(
                    f"the app needs the gradio package, which cannot be imported here ({error}). Install it with\n"
                    "    pip install 'crysmm[app]'"
                ) from error
            _run(models, listener, ready)
    except StopRequested as stop:
        raise stop.exit_error(is_main=True) from None


def _run(models: Models, listener: socket.socket, ready: Callable[[str], object]) -> None:
    """Run the server on a bound socket."""
    import uvicorn
    from fastapi import FastAPI

    from crysmm.app.page import mount_page

    address = "{}:{}".format(*listener.getsockname())
    sys.addaudithook(stay_on_this_machine)
    app = Guard(mount_page(FastAPI(openapi_url=None), models), address)
    config = uvicorn.Config(
        app, loop="asyncio", lifespan="on", log_level="critical", timeout_graceful_shutdown=SHUTDOWN_SECONDS
    )
    listener.listen()  # connections now wait until the server accepts them, so the address can be opened
    ready(f"http://{address}")
    uvicorn.Server(config).run([listener])


def stay_on_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook that refuses to look up or contact another machine.

    Gradio would fetch files from URLs that it receives, and the libraries of Hugging Face check for updates.

    Raises:
        PermissionError: The process is about to do so.
    """
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # Unix sockets have a path instead
    else:
        return
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name == "localhost":
        return
    try:
        is_local = ip_address(name).is_loopback
    except ValueError:  # a host name
        is_local = False
    if not is_local:
        raise PermissionError(f"crysmm app contacts no other machine, and {name} is one")


class Guard:
    """ASGI middleware that accepts only requests of the page itself, and adds a security policy to the answers.

    It refuses requests under another host name, since a foreign site can resolve its own name to this machine (DNS
    rebinding), and requests that a foreign site makes.

    Args:
        app: Application to protect.
        address: Host and port of the page.
    """

    def __init__(self, app: ASGIApp, address: str) -> None:
        self._app = app
        self._hosts = {address, address.replace(HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")  # browsers omit it for simple requests of the page itself
        is_own = headers.get("host") in self._hosts and (
            origin is None or origin.removeprefix("http://") in self._hosts
        )
        if scope["type"] == "http" and is_own and ALLOWED_PATHS.fullmatch(scope["path"]):
            await self._app(scope, receive, send_guarded)
        else:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("refused", status_code=403)(scope, receive, send)


def _listening_socket(port: int | None) -> socket.socket:
    """Return a socket bound to the loopback address, on the given port or the first free one.

    Raises:
        InputError: The port, or each of the ports that are tried, is in use.
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
    raise InputError(f"--port: {which} not free ({reason}); choose another one")
