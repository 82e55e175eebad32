"""Files of a conversion, checked before torch is imported."""

from pathlib import Path

from crysmm.errors import InputError
from crysmm.files import refuse_unwritable

NEEDS_CONFIG = {"alignn"}


def refuse_unusable_conversion(code: str, checkpoint: Path, config: Path | None, output_dir: Path) -> None:
    """Refuse files that cannot be used.

    Args:
        code: Code that wrote the checkpoint.
        checkpoint: Checkpoint file.
        config: JSON file of settings, or None.
        output_dir: Folder to write to, which must not contain anything.

    Raises:
        InputError: One of them is missing, or the folder is not empty.
    """
    if code in NEEDS_CONFIG and config is None:
        raise InputError(f"--config: missing; {code} needs the config.json that was written beside the checkpoint")
    for path in (checkpoint, config):
        if path is not None and not path.is_file():
            raise InputError(f"{path} is not a file; name a checkpoint written by torch.save, and its settings")
    refuse_unwritable(output_dir)
    if output_dir.exists() and any(output_dir.iterdir()):
        raise InputError(f"--output_dir: {output_dir} is not empty; name a new folder")
