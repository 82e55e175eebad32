"""Recognition of files that are not plain text, by their first bytes."""

GZIPPED = b"\x1f\x8b"
ADVICE_BY_MAGIC = {  # advice for files that begin with these bytes
    GZIPPED: "is compressed with gzip, and its name does not end in .gz; rename it",
    b"PK\x03\x04": "is a zip archive; unpack it",
    b"BZh": "is compressed with bzip2; unpack it, or use gzip",
    b"\xfd7zXZ": "is compressed with xz; unpack it, or use gzip",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it, or use gzip",
    b"\xff\xfe": "is text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "is text in UTF-16; save it as UTF-8",
}


def why_no_text(content: bytes, *, is_unpacked: bool = False) -> str | None:
    """Return what a file with this content is, and what to do about it; None if it seems to be plain text.

    Args:
        content: Beginning of the file.
        is_unpacked: True if it was unpacked from an archive.
    """
    if is_unpacked and content.startswith(GZIPPED):
        return "is compressed twice; unpack it once"
    return next((advice for magic, advice in ADVICE_BY_MAGIC.items() if content.startswith(magic)), None)
