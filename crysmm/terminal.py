"""What goes to a terminal and not into a file."""


def disables_bar(wanted: bool) -> bool | None:
    """Tqdm's ``disable`` for a bar that is wanted or not: None shows it on a terminal alone."""
    return None if wanted else True
