"""Contrastive losses at a temperature, in blocks, and what the temperature does. PyTorch only."""

from logitherm.contrastive.hardness import Hardness, hardness
from logitherm.contrastive.losses import clip_loss, info_nce, siglip_loss
from logitherm.contrastive.sphere import alignment, uniformity
from logitherm.contrastive.supervised import supcon_loss

__all__ = ["Hardness", "alignment", "clip_loss", "hardness", "info_nce", "siglip_loss", "supcon_loss", "uniformity"]
