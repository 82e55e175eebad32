"""One file from the web, resumed after a break, checked for its size, and renamed only when whole."""

import time
from pathlib import Path

import requests
from tqdm import tqdm

from crysmm.errors import InputError

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
CHUNK = 1 << 16


def download(url: str, path: Path, *, attempts: int = 5, wait_seconds: float = 2.0) -> None:
    """Fetch ``url`` to ``path``, unless it is there; what an earlier call left of it is continued.

    Args:
        url: where the file is.
        path: where it goes; until it is whole, what is there of it is in ``path`` + ``.partial``.
        attempts: how often a broken connection is taken up again.
        wait_seconds: before the second attempt; doubled each time.

    Raises:
        InputError: the file cannot be had; the text says how to fetch it by hand.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait_seconds * 2 ** (attempt - 1))
        try:
            _fetch(url, partial)
        except requests.HTTPError as error:
            raise _by_hand(url, path, error) from error
        except requests.RequestException as error:
            reason = error
        else:
            partial.replace(path)
            return
    raise _by_hand(url, path, reason) from reason


def _by_hand(url: str, path: Path, reason: Exception) -> InputError:
    return InputError(
        f"{url} could not be downloaded: {reason}. Where there is a network, download it (a browser will do) "
        f"and name the file on the command line (see --help), or put it at {path}"
    )


def _fetch(url: str, partial: Path) -> None:
    """Add what is missing to ``partial``.

    Raises:
        requests.HTTPError: the server has no such file: trying again is useless.
        requests.RequestException: the connection broke.
    """
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            partial.unlink()
            raise requests.ConnectionError(f"{partial} was no part of it and has been removed")
        if response.status_code >= 500:
            raise requests.ConnectionError(f"the server answers {response.status_code} {response.reason}")
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise requests.HTTPError(f"the server answers {response.status_code} {response.reason}")
        if response.status_code == requests.codes.ok:  # all of it, whatever was asked for
            start = 0
        size = start + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        with (
            partial.open("r+b" if start else "wb") as file,
            tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=partial.stem) as bar,
        ):
            file.seek(start)
            for piece in response.iter_content(CHUNK):
                file.write(piece)
                bar.update(len(piece))
    if size is not None and partial.stat().st_size != size:
        raise requests.ConnectionError(f"{partial.stat().st_size} of {size} bytes came")
