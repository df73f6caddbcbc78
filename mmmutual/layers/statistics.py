"""Exact pooled mean and variance of a stream of batches (Chan, Golub and LeVeque 1979)."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor


class PooledStatistics:
    """Mean and variance per channel over all batches that were added.

    The result is that of the concatenation of all batches: the spread between the batches is part of the variance, and
    every pixel counts the same however large its batch was. Sums are in float32 at least within a batch, and in float64
    over the batches.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.sum_of_squares: Tensor | None = None

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Add a batch.

        Args:
            x: (N, C, *), with the same C at every call.
        """
        values = x.detach().transpose(0, 1).to(torch.promote_types(x.dtype, torch.float32))
        others = tuple(range(1, x.dim()))
        mean = values.mean(others, keepdim=True)
        sum_of_squares = (values - mean).square_().sum(others).double()
        count, mean = values[0].numel(), mean.flatten().double()
        if self.mean is None:
            self.count, self.mean, self.sum_of_squares = count, mean, sum_of_squares
            return
        total = self.count + count
        delta = mean - self.mean
        self.sum_of_squares += sum_of_squares + delta.square() * self.count * count / total
        self.mean += delta * count / total
        self.count = total

    def finish(self) -> tuple[Tensor, Tensor]:
        """Pool over all processes.

        Returns:
            The mean and the unbiased variance, (C,) each, float64.

        Raises:
            ValueError: If no batch was added.
        """
        if self.mean is None or self.sum_of_squares is None:
            raise ValueError('no batch was added, so there are no statistics to pool')
        count = torch.tensor(float(self.count), dtype=torch.float64, device=self.mean.device)
        mean = self.mean * count
        total = count.clone()
        all_reduce(total)
        all_reduce(mean)
        mean /= total
        sum_of_squares = self.sum_of_squares + (self.mean - mean).square() * count
        all_reduce(sum_of_squares)
        return mean, sum_of_squares / (total - 1).clamp(min=1)
