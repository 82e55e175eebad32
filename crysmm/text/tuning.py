"""A language model whose last layers are trained along with the network that reads its embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from crysmm.errors import InputError
from crysmm.text.encoder import TextEncoder, read_tokens


class TunedEncoder(nn.Module):
    """Embeds texts by a language model, of which the last layers are trained and the others stay frozen.

    Only the trained layers are parameters of this module, and so only they are in its state; the frozen ones are read
    from where the language model is, and stay in evaluation mode, without dropout.

    Args:
        encoder: is taken over and changed.
        n_layers: number of the last layers that are trained.
        learning_rate: of these layers; see :func:`crysmm.training.optimizers.make_optimizer`.

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
