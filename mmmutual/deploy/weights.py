"""The weights of a sub-network as those of a narrow stock model: the first channels of every tensor."""

from __future__ import annotations

from torch import Tensor, nn

from mmmutual.layers import SlimBatchNorm2d, Slimmable, use_width
from mmmutual.layers.batch_norm import AFFINE, STATISTICS


def narrow_state_dict(slim: nn.Module, stock: nn.Module, width: float) -> dict[str, Tensor]:
    """Cut a stock model's weights and statistics out of a slimmable model's.

    Args:
        slim: A model with slimmable layers.
        stock: The stock model that it is at ``width``, built from :func:`~mmmutual.deploy.stock_config`.
        width: Width multiplier in (0, 1].

    Returns:
        Copies of the tensors of ``slim`` under the names and in the shapes of ``stock``; what batch norms
        have of their own for each width is that of this width.

    Raises:
        ValueError: If a batch norm has no statistics for the width, or if a tensor of ``stock`` is not the first part
            of one of ``slim``.
    """
    source = dict(slim.state_dict())
    layers = dict(slim.named_modules())
    with use_width(slim, width):
        for name, layer in layers.items():
            if isinstance(layer, SlimBatchNorm2d):
                layer.check_ready()
                own = zip((*AFFINE, *STATISTICS), (*layer.affine_parameters(width), *layer.statistics(width)))
                source.update({f'{name}.{key}': value for key, value in own if value is not None})
    narrow = {}
    for name, target in stock.state_dict().items():
        tensor, layer = source.get(name), layers.get(name.rpartition('.')[0])
        if tensor is None or not _contains(tensor, target, isinstance(layer, Slimmable)):
            shape = 'nothing' if tensor is None else tuple(tensor.shape)
            raise ValueError(
                f'cannot cut {name} {tuple(target.shape)} of the stock model out of the slimmable one, which has '
                f'{shape} there: this model cannot be exported at width {width:g}'
            )
        narrow[name] = tensor[tuple(slice(size) for size in target.shape)].detach().cpu().clone()
    return narrow


def _contains(tensor: Tensor, target: Tensor, slims: bool) -> bool:
    if not slims or tensor.dim() != target.dim():
        return tensor.shape == target.shape
    return all(size <= full for size, full in zip(target.shape, tensor.shape))
