"""Faults of mmdet's and mmcv's detectors, corrected in this process, so that a check can compare with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from mmdet.models.dense_heads import SSDHead
from mmdet.models.layers.transformer import MLP, DinoTransformerDecoder
from mmdet.models.layers.transformer.grounding_dino_layers import GroundingDinoTransformerDecoder

from .carafe_on_cpu import run_carafe_on_cpu


def mend_mmdet() -> None:
    """Correct the detectors that fail in mmdet itself; a second call changes nothing.

    - ``SSDHead`` (3.3.0 and later) lacks the attribute ``loss_cls``, which prediction reads.
    - The decoder of Grounding DINO (3.5.1) inherits DINO's encoding of boxes, but its layer that reads the encoding has
      half of the inputs.
    - ``mmcv.ops.carafe`` has no kernel for the CPU.
    """
    run_carafe_on_cpu()
    if not hasattr(SSDHead, 'loss_cls'):
        SSDHead.loss_cls = None
    init = GroundingDinoTransformerDecoder.__init__
    if not hasattr(init, '__wrapped__'):
        GroundingDinoTransformerDecoder.__init__ = _with_dino_inputs(init)


def _with_dino_inputs(init: Callable) -> Callable:
    @wraps(init)
    def mended(self: GroundingDinoTransformerDecoder, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        dino, dims = DinoTransformerDecoder(num_layers=1, layer_cfg={}, post_norm_cfg=None), self.embed_dims
        written = dino.ref_point_head.layers[0].in_features // dino.embed_dims * dims
        if self.ref_point_head.layers[0].in_features != written:
            self.ref_point_head = MLP(written, dims, dims, 2)

    return mended
