"""The linear head of a slimmable classifier."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import MODELS

from mmmutual.layers import SlimLinear


@MODELS.register_module()
class SlimmableLinearClsHead(LinearClsHead):
    """mmpretrain's linear head with a slimmable input, which accepts the active features of the backbone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fc = SlimLinear(self.in_channels, self.num_classes, slim_out=False)
