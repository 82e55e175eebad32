"""Damage as files meet it, drawn by a seed: in their bytes, their lines, their words, and the values of their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

import torch
from torch import Tensor

Path = tuple[str | int, ...]  # keys and positions from the root of a JSON value to one in it

NUMBER_WORDS = (
    "nan inf -inf NaN -Infinity 0 -0 -1 1 2 127 128 256 1.5 0.5 -0.25 1e-300 5e-324 1e-10 1e3 1e5 1e6 -1e6 1e7 1e9 "
    "2147483648 4294967296 9223372036854775808 1e38 1e154 1e300 1e308 1e309 -1e400 1e999999999 0x10 1_000 1,5 1.5.3 "
    "--5 +5 5. .5 1e 0.1(2) 1/3 1d3 \u0661\u0662 \uff11\uff12 \xbd \xb2"
)
NUMBERS = [*NUMBER_WORDS.split(), "9" * 400, "9" * 5000, "0." + "3" * 5000, ""]
TEXT_WORDS = (
    "null None true [] {} ? . .. ../.. / \\ ~ ; # ! ' \" ''' , = : - _ * % @ $HOME `id` %s {0} <b> Xx X D T Uuo Si_pv "
    "data_ loop_ save_ stop_ global_ Direct cart selective é 硅 🙂 e\u0301 \u202e \u200b \u2028 \x85 \xa0 \ufeff "
    "\x1b[31m \x00 \x07 \x7f"
)
SPACES = [" ", "\t", "\r", "\n", "\r\n"]
TEXTS = [*TEXT_WORDS.split(" "), "a" * 10_000, "é" * 3000, "../" * 50, "x" * 300, *SPACES]
DEPTHS = (2, 10, 64, 100, 330, 500, 900, 980, 1500, 5000, 100_000)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 12, 1000, 10**6, 10**9, 2**31, 2**63, 10**30, 0.5, -0.5, 1e-300, 1e6, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "x", "nan", "1", "1e5", "-", "..", "/", "a\0b", "\ud800", "é", "🙂",
    "\n", "a" * 10_000, [], [[]], [None], [1], ["x"], {}, {"name": None}, {"": {}}, list(range(1000)),
    [[[0.0] * 3] * 3] * 3, "cgcnn", "alignn", "Si", "H",
)  # fmt: skip
TENSORS: tuple[Callable[[Tensor], Any], ...] = (  # what may stand in place of a tensor
    lambda tensor: tensor[None],
    lambda tensor: tensor.flatten(),
    lambda tensor: tensor.flatten()[:0],
    lambda tensor: tensor.flatten().repeat(2),
    lambda tensor: tensor.t() if tensor.dim() < 3 else tensor[0],
    lambda tensor: tensor.expand(10**6, *tensor.shape),
    lambda tensor: tensor.to(torch.float64),
    lambda tensor: tensor.to(torch.float16),
    lambda tensor: tensor.to(torch.int64),
    lambda tensor: tensor.to(torch.bool),
    lambda tensor: tensor.to(torch.complex64),
    lambda tensor: tensor.to(torch.float8_e4m3fn),
    lambda tensor: tensor.to("meta"),
    lambda tensor: tensor.to_sparse(),
    lambda tensor: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
    lambda tensor: torch.nn.Parameter(tensor.float()),
    lambda tensor: tensor * float("nan"),
    lambda tensor: tensor * 1e38,
    lambda tensor: tensor.double() * 1e300,
    lambda tensor: tensor * 0,
    lambda tensor: -tensor,
    lambda tensor: tensor.tolist(),
)
PLAIN = {torch.float16, torch.float32, torch.float64, torch.int64}
MOST_BYTES = 20 << 20  # of what mutations make
DEEP, LONG = "@deep@", "@long@"  # places of a text that JSON's writer would not give


def damaged(content: bytes, others: list[bytes], random: Random) -> bytes:
    """A text or binary file with one to some five changes.

    Args:
        content: of the file.
        others: of other files, parts of which get into it.
        random: decides.
    """
    for _ in _some(random):
        change = random.choice((*BYTE_CHANGES, *LINE_CHANGES, *WORD_CHANGES, *WORD_CHANGES))
        content = change(content, random)
        if random.random() < 0.02:
            content = _spliced(content, random.choice(others), random)
    return content[:MOST_BYTES]


def damaged_json(value: Any, random: Random) -> bytes:
    """The text of a JSON value with one to some five of the values in it changed, and at times the text as well."""
    value = damaged_value(json.loads(json.dumps(value)), random)
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    text = text.replace(f'"{LONG}"', random.choice(("9" * 5000, "1e400", "-1e999", "1" + "0" * 308 + ".0")))
    depth = random.choice(DEPTHS)
    opening, closing = random.choice((("[", "]"), ('{"a":', "}")))
    inner = random.choice(("", "1", '"x"')) if opening == "[" else "1"
    text = text.replace(f'"{DEEP}"', opening * depth + inner + closing * depth)
    content = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.1:
        content = random.choice((*BYTE_CHANGES, *WORD_CHANGES))(content, random)
    return content[:MOST_BYTES]


def damaged_value(value: Any, random: Random) -> Any:
    """A copy of lists and dicts with one to some five of the values in it changed, tensors among them."""
    value = deepcopy(value)
    for _ in _some(random):
        value = _changed(value, random)
    return value


def _some(random: Random) -> Iterator[int]:
    count = 1
    while count < 6 and random.random() < 0.4:
        count += 1
    return iter(range(count))


def _places(content: bytes, random: Random) -> tuple[int, int]:
    """Beginning and end of some part, mostly a short one."""
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + int(2 ** random.uniform(0, 12)))


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 10))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _noise(content: bytes, random: Random) -> bytes:
    start, end = _places(content, random)
    return content[:start] + random.randbytes(random.choice((1, 4, 100))) + content[random.choice((start, end)) :]


def _cut(content: bytes, random: Random) -> bytes:
    start, end = _places(content, random)
    return content[:start] + content[end:]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _repeat(content: bytes, random: Random) -> bytes:
    start, end = _places(content, random)
    return content[:start] + content[start:end] * random.choice((2, 3, 100)) + content[end:]


def _recode(content: bytes, random: Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return random.choice((
        lambda: text.encode("utf-16"),
        lambda: text.encode("utf-8-sig"),
        lambda: text.encode("latin-1", "replace") + b"\xe9\xff",
        lambda: text.replace("\n", "\r\n").encode(),
        lambda: text.replace("\n", "\r").encode(),
        lambda: text.replace("\n", "\u2028").encode(),
        lambda: text.upper().encode(),
        lambda: text.replace(" ", "\t").encode(),
        lambda: text.replace(" ", "\u3000").encode(),
        lambda: text.replace("\n", "").encode(),
        lambda: b"",
    ))()  # fmt: skip


def _change_lines(change: Callable[[list[bytes], int, Random], None]) -> Callable[[bytes, Random], bytes]:
    def changed(content: bytes, random: Random) -> bytes:
        lines = content.split(b"\n")
        change(lines, random.randrange(len(lines)), random)
        return b"\n".join(lines)

    return changed


def _delete(lines: list[bytes], place: int, random: Random) -> None:
    del lines[place : place + random.choice((1, 1, 2, 5))]


def _duplicate(lines: list[bytes], place: int, random: Random) -> None:
    lines[place:place] = [lines[place]] * random.choice((1, 1, 2, 1000))


def _swap(lines: list[bytes], place: int, random: Random) -> None:
    other = random.randrange(len(lines))
    lines[place], lines[other] = lines[other], lines[place]


def _blank(lines: list[bytes], place: int, random: Random) -> None:
    lines.insert(place, random.choice((b"", b" ", b"#", b"\t\t")))


def _change_words(new: Callable[[Random], str]) -> Callable[[bytes, Random], bytes]:
    def changed(content: bytes, random: Random) -> bytes:
        lines = content.split(b"\n")
        place = random.randrange(len(lines))
        comma = b"," if b"," in lines[place] else None
        words = lines[place].split(comma)
        word = new(random).encode()
        if words and random.random() < 0.9:
            words[random.randrange(len(words))] = word
        else:
            words.append(word)
        lines[place] = (comma or b" ").join(words)
        return b"\n".join(lines)

    return changed


def _spliced(content: bytes, other: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)] + other[random.randrange(len(other) + 1) :]


BYTE_CHANGES = (_flip, _noise, _cut, _truncate, _repeat, _recode)
LINE_CHANGES = tuple(map(_change_lines, (_delete, _duplicate, _swap, _blank)))
WORD_CHANGES = tuple(map(_change_words, (lambda random: random.choice(NUMBERS), lambda random: random.choice(TEXTS))))


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where the values in a JSON value are, itself among them."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(inner, (*path, key))


def _changed(value: Any, random: Random) -> Any:
    path = random.choice(list(_paths(value)))
    if not path:
        return _another(value, random) if random.random() < 0.3 else value
    *above, last = path
    holder = value
    for key in above:
        holder = holder[key]
    what = random.random()
    if what < 0.15:
        del holder[last]
    elif what < 0.25 and isinstance(holder, dict):
        names = (str(last).upper(), f"{last}s", str(last)[:-1], "", "é", "\ud800", "a\0b")
        holder[random.choice(names)] = holder.pop(last)
    elif what < 0.3 and isinstance(holder, list):
        holder[last:last] = [holder[last]] * random.choice((1, 2, 1000))
    else:
        holder[last] = _another(holder[last], random)
    return value


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor that none of ``TENSORS`` has made one of an unusual kind."""
    return torch.is_tensor(value) and value.layout == torch.strided and not value.is_meta and value.dtype in PLAIN


def _another(value: Any, random: Random) -> Any:
    """Of another type, another size, or hardly another."""
    what = random.random()
    if _is_plain(value) and what < 0.8:
        return random.choice(TENSORS)(value)
    if what < 0.05:
        return DEEP
    if what < 0.1:
        return LONG
    if what < 0.2:
        return str(value)
    if what < 0.3:
        return [value]
    if what < 0.5 and isinstance(value, int | float) and abs(value) < 1e15:
        return random.choice((-value, value * 1e6, value * 1e-6, value + 1, int(value), value / 2))
    if what < 0.4 and isinstance(value, str):
        return random.choice((value.upper(), value + " ", value[:-1], value * 100, value + "\n", "é" + value))
    return deepcopy(random.choice(VALUES))
