"""DINO's decoder with fewer channels: it encodes boxes in all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from mmdet.models.layers import DinoTransformerDecoder, coordinate_to_encoding
from torch import Tensor


class SlimDinoDecoder(DinoTransformerDecoder):
    """DINO's decoder, which encodes boxes in all channels at every width, also in a narrow network.

    The stock decoder counts the channels of its queries for it. An encoding in fewer channels would have other
    wavelengths, and the weights that read it were trained with those of all channels.
    """

    def forward(self, query: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Decode queries.

        Args:
            query: (N, queries, C) with C all channels or the active ones.
            *args: As mmdet's.
            **kwargs: As mmdet's.

        Returns:
            As mmdet's.
        """
        encoding = partial(_encoded, channels=self.embed_dims)
        return _rebound(DinoTransformerDecoder.forward, coordinate_to_encoding=encoding)(self, query, *args, **kwargs)


def _encoded(coord_tensor: Tensor, num_feats: int, channels: int) -> Tensor:
    """An encoding in another number of channels than the caller wants."""
    return coordinate_to_encoding(coord_tensor, num_feats=channels)


def _rebound(function: Callable, **names: Any) -> Callable:
    """A function with the same code that finds other objects under some names of its module.

    The decoder calls the encoding in the middle of a long method, which offers no hook for it.
    """
    code = FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
    code.__defaults__, code.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return code
