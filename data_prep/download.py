"""Download of a file that is resumed after a broken connection, checked for its size, and renamed when complete."""

import time
from pathlib import Path

import requests
from tqdm import tqdm

from crysmm.errors import InputError

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
CHUNK = 1 << 16
FIGSHARE = "https://api.figshare.com/v2/articles"


def download(url: str, path: Path, *, attempts: int = 5, wait_seconds: float = 2.0) -> None:
    """Download a file unless it exists; an incomplete download is continued.

    Args:
        url: Address of the file.
        path: File to write; an incomplete download is in ``path`` + ``.partial``.
        attempts: Number of attempts when the connection breaks.
        wait_seconds: Seconds before the second attempt, doubled after each.

    Raises:
        InputError: The file cannot be downloaded; the text says how to download it by hand.
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
            reason: requests.RequestException = error
            break
        except requests.RequestException as error:
            reason = error
        else:
            partial.replace(path)
            return
    raise InputError(
        f"{url} could not be downloaded: {reason}. Download it on a machine with a network (a browser will do) and "
        f"name the file on the command line (see --help), or copy it to {path}"
    ) from reason


def figshare_address(article: int, ending: str, articles: str = FIGSHARE) -> str:
    """Return the address of the only file of a figshare article whose name has this ending.

    Raises:
        InputError: figshare does not answer, or there is no such file or several; the text says what to do.
    """
    by_hand = f"see https://figshare.com/articles/dataset/_/{article}, and name the file with --archive"
    try:
        response = requests.get(f"{articles}/{article}", timeout=TIMEOUT)
        response.raise_for_status()
        files = {str(file["name"]): str(file["download_url"]) for file in response.json()["files"]}
    except (requests.RequestException, KeyError, TypeError) as error:
        raise InputError(f"the files of figshare's article {article} cannot be listed: {error}; {by_hand}") from error
    matching = [name for name in files if name.endswith(ending)]
    if len(matching) != 1:
        found = ", ".join(files) or "no files"
        raise InputError(f"figshare's article {article} has {found}; expected one {ending} file; {by_hand}")
    return files[matching[0]]


def _fetch(url: str, partial: Path) -> None:
    """Append the missing part of a file to ``partial``.

    Raises:
        requests.HTTPError: The server refuses the file, so that another attempt is useless.
        requests.RequestException: The connection broke.
    """
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            partial.unlink()
            raise requests.ConnectionError(f"{partial} does not match the file and was removed")
        if response.status_code >= 500:
            raise requests.ConnectionError(f"the server answers {response.status_code} {response.reason}")
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise requests.HTTPError(f"the server answers {response.status_code} {response.reason}")
        if response.status_code == requests.codes.ok:  # the whole file, although a range was requested
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
        raise requests.ConnectionError(f"{partial.stat().st_size} of {size} bytes arrived")
