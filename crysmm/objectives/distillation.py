"""Training on labels and on a teacher's atom embeddings: the distillation of CrysGNN.

The loss is ``delta * criterion + (1 - delta) * distillation``. The distillation loss of a crystal is the squared
difference between the student's and the teacher's embeddings after the last message-passing layer, each divided by its
length, averaged over atoms and features. That of a batch is the mean over its crystals, so that large crystals do not
weigh more (Das et al., CrysGNN, AAAI 2023, and the authors' code). For unit vectors of width d, the mean over the
features is ``(2 - 2 cos) / d``, which is small next to a criterion of standardized targets.

Differences from the authors' code, which trains a CGCNN of the teacher's width:

- Their teacher was never set to evaluation mode, so that its batch norms used the statistics of the student's batches.
  Here its embeddings are computed in evaluation mode, on its own graphs, before training begins.
- Their loss of the labels is the mean squared error; here it is ``criterion``, whose ``mse`` is theirs.
- ``delta`` may be ``rising``, which is not in the paper: it is the fraction of the training steps that are done. The
  student first learns to embed like its teacher and then, more and more, the property. The distillation loss is then
  the squared distance of the unit vectors, as written in the paper. With the mean over the features, the labels would
  soon dominate. ``docs/results.md`` compares both.
- The teacher may be a universal potential, whose features are standardized over the atoms of the training split before
  they are divided by their length.
- The authors do not say how to handle a student and a teacher of different widths. Here a linear layer maps the
  student's embeddings to the teacher's width before they are divided by their lengths. It is trained with the student
  and not saved in the model folder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import RISING, Projection, Rising
from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.engines.linear import precise
from crysmm.errors import InputError
from crysmm.models.backbone import crystal_mean
from crysmm.models.networks import PropertyNetwork
from crysmm.objectives.property import Criterion, PropertyObjective, TargetWeights


class DistillationObjective(PropertyObjective):
    """A property objective whose network also learns to embed atoms like a teacher.

    The metrics are those of :class:`PropertyObjective`, and ``distillation``, the distillation loss.

    Args:
        network: Student; with ``delta`` 1 it is trained exactly as without a teacher.
        scaler: Conversion between the units of the input and those of the network.
        criterion: Loss of the labels.
        delta: Weight of the criterion, from 0 to 1, or ``rising``.
        projection: Module that maps the student's embeddings to the teacher's width; see :func:`make_projection`.
        weights: As in :class:`PropertyObjective`.
    """

    def __init__(
        self,
        network: PropertyNetwork,
        scaler: TargetScaler,
        criterion: Criterion,
        delta: float | Rising,
        projection: nn.Module,
        weights: TargetWeights | None = None,
    ):
        super().__init__(network, scaler, criterion, weights)
        self.delta = delta
        self.projection = projection

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Return the weighted mean of both losses plus the penalty of the backbone."""
        embedding = self.network.embed(batch)  # one forward pass for both losses
        labels = self.label_losses(self.network.read(embedding, batch), batch).mean()
        distillation = self.distillation(embedding.nodes, batch).mean()
        delta = self.delta
        if delta == RISING:  # times the width: the squared distance of unit vectors, a sum over the features
            assert batch.teacher_nodes is not None
            delta, distillation = self.progress, distillation * batch.teacher_nodes.shape[1]
        return delta * labels + (1 - delta) * distillation + self.network.backbone.penalty()

    def metrics(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return ``loss`` of the labels, the error and ``distillation``, per crystal."""
        embedding = self.network.embed(batch)
        labels = self.label_metrics(self.network.read(embedding, batch), batch)
        return {**labels, "distillation": self.distillation(embedding.nodes, batch).double()}

    def distillation(self, nodes: Tensor, batch: CrystalBatch) -> Tensor:
        """Return the distillation loss per crystal, ``[n_crystals]``.

        Args:
            nodes: Embeddings by the student, ``[n_atoms_in_all, width]``.
            batch: Batch with the embeddings by the teacher.
        """
        if batch.teacher_nodes is None:
            raise ValueError("the batch has no embeddings of a teacher; give them to its loader")
        # The teacher's embeddings were divided by their lengths when they were stored.
        student = functional.normalize(precise(self.projection(nodes)), dim=1)
        differences = (student - batch.teacher_nodes).square().mean(1, keepdim=True)
        return crystal_mean(differences, batch.n_atoms).squeeze(1)


def make_projection(kind: Projection, student: int, teacher: int, seed: int) -> nn.Module:
    """Build the map from a student's embeddings to the teacher's width, without using torch's random states.

    Args:
        kind: Linear layer if the widths differ (``auto``), always (``linear``) or never (``none``).
        student: Width of the student's embeddings.
        teacher: Width of the teacher's embeddings.
        seed: Seed of the layer's weights, drawn from the default distribution of :class:`torch.nn.Linear`.

    Raises:
        InputError: The widths differ and ``kind`` is ``none``.
    """
    if kind == "none" and student != teacher:
        raise InputError(
            f"--head.projection none needs a student as wide as its teacher: their atom embeddings have {student} and "
            f"{teacher} features; give --head.projection auto, or the student {teacher} features"
        )
    if kind == "none" or (kind == "auto" and student == teacher):
        return nn.Identity()
    # Drawing from a generator keeps all other weights of a run the same with and without a projection.
    layer = nn.utils.skip_init(nn.Linear, student, teacher)
    generator = torch.Generator().manual_seed(seed)
    for weights in (layer.weight, layer.bias):
        nn.init.uniform_(weights, -(student**-0.5), student**-0.5, generator=generator)
    return layer
