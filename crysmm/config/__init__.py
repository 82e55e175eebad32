"""Settings of graphs, models, heads, pre-training and training, and their reading from files and command lines."""

from crysmm.config.graph import GraphSettings
from crysmm.config.loading import load_config
from crysmm.config.models import (
    ALIGNNConfig,
    CGCNNConfig,
    CrysXPPConfig,
    DistilledConfig,
    FeaturesConfig,
    GATGNNConfig,
    HeadConfig,
    ModelConfig,
    MultimodalConfig,
    VanillaConfig,
)
from crysmm.config.pretraining import (
    CrysAEConfig,
    CrysGNNConfig,
    DecoysConfig,
    ImitationConfig,
    MethodConfig,
    PretrainingConfig,
)
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig

__all__ = [
    "ALIGNNConfig",
    "CGCNNConfig",
    "CrysAEConfig",
    "CrysGNNConfig",
    "CrysXPPConfig",
    "DecoysConfig",
    "DistilledConfig",
    "FeaturesConfig",
    "GATGNNConfig",
    "GraphSettings",
    "HeadConfig",
    "ImitationConfig",
    "MethodConfig",
    "ModelConfig",
    "MultimodalConfig",
    "PretrainingConfig",
    "RunConfig",
    "TrainingConfig",
    "VanillaConfig",
    "load_config",
]
