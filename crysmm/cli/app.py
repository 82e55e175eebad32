"""``crysmm app``: predict on a page in the browser, served to this machine only."""

import argparse
import webbrowser

from crysmm.cli.options import path, positive, require
from crysmm.inference.model_files import require_model
from crysmm.zoo import resolve

HIGHEST_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the models and the address of the page."""
    parser.add_argument(
        "--model",
        type=path,
        action="append",
        default=[],
        metavar="DIR",
        help="Folder of a trained model to offer in addition to the shipped ones; may be given several times.",
    )
    parser.add_argument(
        "--port", type=_port, metavar="N", help="Port of the page; by default the first free one from 7860."
    )
    parser.add_argument("--open", action="store_true", help="Open the page in a browser.")


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C.

    Raises:
        CrysmmError: A model folder cannot be used, the port is taken, or gradio is not installed.
    """
    require("gradio", "the app", "app")
    for folder in arguments.model:
        require_model(resolve(folder), may_be_ensemble=True)
    from crysmm.app.server import serve

    def ready(address: str) -> None:
        print(f"crysmm app: {address} (Ctrl-C stops it)", flush=True)
        if arguments.open:
            webbrowser.open(address)

    serve(arguments.model, arguments.port, ready)
    return 0  # never reached: the server ends with an exception


def _port(text: str) -> int:
    """Read a port number, 1 to 65535."""
    number = positive(text)
    if number > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port, 1 to {HIGHEST_PORT}, got {text!r}")
    return number
