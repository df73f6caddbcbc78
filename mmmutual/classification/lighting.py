"""Lighting noise that does not wrap around."""

from __future__ import annotations

import numpy as np
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets.transforms import Lighting


@TRANSFORMS.register_module()
class FloatLighting(Lighting):
    """AlexNet's lighting noise on 32-bit floats.

    mmpretrain's ``Lighting`` (1.2 and 1.3) casts the result to the type of the image, and bytes wrap around: negative
    noise makes black pixels white.
    """

    def transform(self, results: dict) -> dict:
        """Add the noise.

        Args:
            results: With ``img`` (H, W, 3), values from 0 to 255.

        Returns:
            The same with ``img`` in float32, some values a little below 0 or above 255.
        """
        return super().transform({**results, 'img': results['img'].astype(np.float32)})
