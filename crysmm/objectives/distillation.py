"""Learning from labels and from a teacher's atom embeddings: the distillation of CrysGNN.

The loss is ``delta * criterion + (1 - delta) * distillation``. The distillation loss of a crystal is the mean, over
its atoms and over the features, of the squared difference between the student's and the teacher's embeddings after
the last message-passing layer, each divided by its length; that of a batch is the mean over its crystals, in which a
large crystal counts as much as a small one (Das et al., CrysGNN, AAAI 2023, and the authors' code). With two unit
vectors of width d the mean over the features is ``(2 - 2 cos) / d``, so it is small beside a criterion of
standardised targets.

Where this differs from the authors' code, which trains a CGCNN of the teacher's width:

- Their teacher was never put into evaluation mode, so that its batch norms used the statistics of the student's
  batches. Here its embeddings are computed in evaluation mode, on its own graphs, before training begins.
- Their loss of the labels is the mean squared error; here it is ``criterion``, whose ``mse`` is theirs.
- ``delta`` may be ``rising``, which is not of the paper: it is the share of the steps that are done, so that the
  student first learns to embed as its teacher does and, more and more, the property; and the distillation loss is then
  the squared distance of the unit vectors itself, as the paper writes it, instead of a mean over the features, beside
  which the labels soon are everything. What either is worth stands in ``docs/results.md``.
- What is done where student and teacher have different widths is not published. Here a linear layer, trained along
  and left out of the model folder, takes the student's embeddings to the teacher's width before they are divided by
  their lengths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.head import RISING, Projection, Rising
from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.engines.linear import precise
from crysmm.errors import InputError
from crysmm.models.layers import crystal_mean
from crysmm.models.networks import PropertyNetwork
from crysmm.objectives.property import Criterion, PropertyObjective


class DistillationObjective(PropertyObjective):
    """A property objective whose network also learns to embed atoms as a teacher does.

    Measures: those of :class:`PropertyObjective`, and ``distillation``, the distillation loss.

    Args:
        network: the student; with ``delta`` 1 it learns exactly what it would learn without a teacher.
        scaler: between the file's units and the network's.
        criterion: loss of the labels.
        delta: its weight, from 0 to 1, or ``rising``.
        projection: see :func:`make_projection`.
    """

    def __init__(
        self,
        network: PropertyNetwork,
        scaler: TargetScaler,
        criterion: Criterion,
        delta: float | Rising,
        projection: nn.Module,
    ):
        super().__init__(network, scaler, criterion)
        self.delta = delta
        self.projection = projection

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Mean of both losses, weighted, and the backbone's penalty."""
        embedding = self.network.embed(batch)
        labels = self.label_losses(self.network.read(embedding, batch), batch).mean()
        distillation = self.distillation(embedding.nodes, batch).mean()
        delta = self.delta
        if delta == RISING:  # with the squared distance of the unit vectors, a sum over the features
            assert batch.teacher_nodes is not None
            delta, distillation = self.progress, distillation * batch.teacher_nodes.shape[1]
        return delta * labels + (1 - delta) * distillation + self.network.backbone.penalty()

    def measures(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """``loss`` of the labels, ``mae`` or ``error``, and ``distillation``, of each crystal."""
        embedding = self.network.embed(batch)
        labels = self.label_measures(self.network.read(embedding, batch), batch)
        return {**labels, "distillation": self.distillation(embedding.nodes, batch).double()}

    def distillation(self, nodes: Tensor, batch: CrystalBatch) -> Tensor:
        """``[n_crystals]`` distillation losses.

        Args:
            nodes: ``[n_atoms_in_all, width]``, the student's embeddings.
            batch: holds the teacher's.
        """
        if batch.teacher_nodes is None:
            raise ValueError("the batch has no embeddings of a teacher; give them to its loader")
        student = functional.normalize(precise(self.projection(nodes)), dim=1)
        differences = (student - batch.teacher_nodes).square().mean(1, keepdim=True)
        return crystal_mean(differences, batch.n_atoms).squeeze(1)


def make_projection(kind: Projection, student: int, teacher: int, seed: int) -> nn.Module:
    """What takes a student's embeddings to the teacher's width; torch's random states are left as they are.

    Args:
        kind: a linear layer where the widths differ (``auto``), always (``linear``) or never (``none``).
        student: width of its embeddings.
        teacher: width of its.
        seed: of the layer's weights, which are drawn as torch draws those of any linear layer.

    Raises:
        InputError: the widths differ and ``kind`` is ``none``.
    """
    if kind == "none" and student != teacher:
        raise InputError(
            f"--head.projection none needs a student as wide as its teacher: their atom embeddings have {student} and "
            f"{teacher} features; give --head.projection auto, or the student {teacher} features"
        )
    if kind == "none" or (kind == "auto" and student == teacher):
        return nn.Identity()
    layer = nn.utils.skip_init(nn.Linear, student, teacher)
    generator = torch.Generator().manual_seed(seed)
    for weights in (layer.weight, layer.bias):
        nn.init.uniform_(weights, -(student**-0.5), student**-0.5, generator=generator)
    return layer
