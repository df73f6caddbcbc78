"""The query table: costs and accuracy of each sub-network, and the best one within a budget.

MutualNet deploys one network with such a table (arXiv 1909.12978): it lists for each budget the width and the input
scale with the highest accuracy within it. The file's format is described in docs/query_table.md.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from mmmutual.engine import Subnet
from mmmutual.layers import check_ratio
from mmmutual.moved_names import renamed_argument, renamed_attribute
from mmmutual.number_checks import check_positive

from ..subnet_table import format_count
from .json_file import read_table, write_atomically

COSTS = ('multiply_adds', 'latency_ms')
PREFERRED = ('mask mAP', 'box mAP')


@dataclass(frozen=True)
class MeasuredSubnet:
    """A sub-network of a query table, with its costs and metrics.

    Attributes:
        width: Width multiplier in (0, 1].
        scale: Input scale in (0, 1].
        multiply_adds: Multiply-adds for one image of the nominal size times the scale.
        parameters: Number of active parameters.
        metrics: Metrics by name, such as ``{'box mAP': 0.41, 'mask mAP': 0.43}``.
        latency_ms: Median time of one batch in milliseconds, None if it was not measured.
        latency_p90_ms: Its 90th percentile.
        decoder_layers: Number of decoder layers that it runs; None for a detector without a choice.
    """

    width: float
    scale: float
    multiply_adds: int
    parameters: int
    metrics: dict[str, float]
    latency_ms: float | None = None
    latency_p90_ms: float | None = None
    decoder_layers: int | None = None

    @property
    def key(self) -> Subnet:
        """Width, scale and decoder layers."""
        return Subnet(self.width, self.scale, self.decoder_layers)

    def values(self) -> dict[str, Any]:
        """All numbers by name; without ``decoder_layers`` if there is no choice."""
        rest = asdict(self)
        names = ('width', 'scale', *(() if self.decoder_layers is None else ('decoder_layers',)))
        first = {name: rest[name] for name in names}
        return {**first, **{name: value for name, value in rest.items() if name != 'decoder_layers'}}

    def __str__(self) -> str:
        """Such as ``'width 0.5 at scale 1: 297.3 M multiply-adds, 29.8 ms, box mAP 0.389, mask mAP 0.418'``."""
        facts = [format_cost(cost, getattr(self, cost)) for cost in COSTS if getattr(self, cost) is not None]
        facts += [f'{name} {value:.3f}' for name, value in self.metrics.items()]
        return f'{self.key.description}: {", ".join(facts)}'


@dataclass(frozen=True)
class QueryTable:
    """Sub-networks with their costs and metrics.

    Attributes:
        subnets: The sub-networks, at least one, each width, scale and number of decoder layers once.
        context: The conditions of the measurements: ``config``, ``checkpoint`` (file names), ``checkpoint_sha256``,
            ``size`` (nominal height and width in pixels), ``device``, ``threads``, ``batch_size``, ``versions``,
            ``created`` and more; docs/query_table.md lists them.
        complete: Whether the evaluation that wrote the table had finished.

    Raises:
        ValueError: If there are no sub-networks, if one occurs twice, or if two have different metrics.
    """

    subnets: tuple[MeasuredSubnet, ...]
    context: dict
    complete: bool = True

    def __post_init__(self) -> None:
        if not self.subnets:
            raise ValueError('a query table needs at least one sub-network')
        seen = set()
        for subnet in self.subnets:
            if subnet.key in seen:
                raise ValueError(f'{subnet.key.description} occurs more than once')
            seen.add(subnet.key)
            if set(subnet.metrics) != set(self.subnets[0].metrics) or not subnet.metrics:
                raise ValueError(
                    f'each sub-network needs the same metrics, at least one, but {subnet.key.description} has '
                    f'{list(subnet.metrics)} and the first one {list(self.subnets[0].metrics)}'
                )

    @classmethod
    def load(cls, path: str | Path) -> QueryTable:
        """Read a table.

        Args:
            path: A JSON file as ``save`` writes it.

        Returns:
            The table; a partial one has ``complete=False``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, something else, or of another version.
        """
        content = read_table(path)
        try:
            subnets = tuple(MeasuredSubnet(**subnet) for subnet in content['subnets'])
            return cls(subnets, content['context'], content['complete'])
        except ValueError as error:
            raise ValueError(f'the query table {path} is damaged: {error}') from error

    def save(self, path: str | Path) -> None:
        """Write the table as JSON; a reader finds the former file or this one, never a part."""
        write_atomically(path, self.complete, self.context, [subnet.values() for subnet in self.subnets])

    def write_csv(self, path: str | Path) -> None:
        """Write the sub-networks as CSV: a column for each number, the metrics last."""
        rows = self.rows()
        with open(path, 'w', newline='') as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def rows(self) -> list[dict[str, Any]]:
        """The sub-networks as flat rows, the metrics under their names."""
        rows = [subnet.values() for subnet in self.subnets]
        return [{**row, **metrics} for row in rows for metrics in [row.pop('metrics')]]

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the costs that every sub-network has: ``'multiply_adds'`` and, if measured, ``'latency_ms'``."""
        return tuple(name for name in COSTS if all(getattr(subnet, name) is not None for subnet in self.subnets))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that every sub-network has."""
        return tuple(self.subnets[0].metrics)

    def subnet(self, width: float, scale: float, decoder_layers: int | None = None) -> MeasuredSubnet:
        """The sub-network of a width and scale.

        Args:
            width: Width multiplier.
            scale: Input scale.
            decoder_layers: Number of decoder layers; None for the most that the table has at this width and scale.

        Returns:
            The sub-network.

        Raises:
            ValueError: If the table does not have it; the message lists those that it has.
        """
        width, scale = check_ratio(width), check_ratio(scale, 'scale')
        found = [subnet for subnet in self.subnets if (subnet.width, subnet.scale) == (width, scale)]
        if decoder_layers is not None:
            found = [subnet for subnet in found if subnet.decoder_layers == decoder_layers]
        if found:
            return max(found, key=lambda subnet: subnet.decoder_layers or 0)
        there = ', '.join(subnet.key.description.removeprefix('width ') for subnet in self.subnets)
        wanted = Subnet(width, scale, decoder_layers).description
        raise ValueError(f'the query table has no {wanted}; it has {there}')

    cells = renamed_attribute('QueryTable.cells', 'subnets')
    cell = renamed_attribute('QueryTable.cell', 'subnet')

    def front(self, cost: str = 'multiply_adds', metric: str | None = None) -> list[MeasuredSubnet]:
        """The Pareto front: sub-networks that no other sub-network beats at the same or a lower cost.

        Args:
            cost: One of ``costs``.
            metric: One of ``metrics``; None for mask mAP, else box mAP, else the first.

        Returns:
            The sub-networks in order of rising cost, each with a higher metric than the one before.

        Raises:
            ValueError: If the table has no such cost or metric.
        """
        self._check_cost(cost)
        metric = self._metric(metric)
        front: list[MeasuredSubnet] = []
        for subnet in sorted(self.subnets, key=lambda subnet: (getattr(subnet, cost), -subnet.metrics[metric])):
            if not front or subnet.metrics[metric] > front[-1].metrics[metric]:
                front.append(subnet)
        return front

    @renamed_argument('budget_flops', 'budget_multiply_adds')
    def best(
        self, budget_multiply_adds: float | None = None, budget_ms: float | None = None, metric: str | None = None
    ) -> MeasuredSubnet:
        """The sub-network with the highest metric within all given budgets; of equals, the cheapest.

        Args:
            budget_multiply_adds: Most multiply-adds for one image.
            budget_ms: Highest median latency in milliseconds.
            metric: One of ``metrics``; None for mask mAP, else box mAP, else the first.

        Returns:
            The sub-network.

        Raises:
            TypeError: If a budget is not a number.
            ValueError: If no sub-network fits (the message names the cheapest one), or if the table has no such metric
                or no latency.
        """
        metric = self._metric(metric)
        given = {
            'multiply_adds': ('budget_multiply_adds', budget_multiply_adds),
            'latency_ms': ('budget_ms', budget_ms),
        }
        budgets = {cost: check_positive(most, name) for cost, (name, most) in given.items() if most is not None}
        for cost in budgets:
            self._check_cost(cost)
        fitting = [
            subnet for subnet in self.subnets if all(getattr(subnet, cost) <= most for cost, most in budgets.items())
        ]
        if not fitting:
            raise ValueError(self._nothing_fits(budgets))
        costs = tuple(budgets) or ('multiply_adds',)
        return max(fitting, key=lambda subnet: (subnet.metrics[metric], *(-getattr(subnet, cost) for cost in costs)))

    def _nothing_fits(self, budgets: Mapping[str, float]) -> str:
        asked = ' and '.join(format_cost(cost, most) for cost, most in budgets.items())
        cheapest = []
        for cost in budgets:
            subnet = min(self.subnets, key=attrgetter(cost))
            cheapest.append(f'{subnet.key.description} with {format_cost(cost, getattr(subnet, cost))}')
        return f'no sub-network fits a budget of {asked}: the cheapest is {" and ".join(cheapest)}'

    def _metric(self, metric: str | None) -> str:
        if metric is None:
            wanted = (name for end in PREFERRED for name in self.metrics if name.endswith(end))  # of the first data set
            return next(wanted, self.metrics[0])
        if metric not in self.metrics:
            raise ValueError(f'the query table has no metric {metric!r}; it has {list(self.metrics)}')
        return metric

    def _check_cost(self, cost: str) -> None:
        if cost not in COSTS:
            raise ValueError(f'cost must be one of {list(COSTS)}, but got {cost!r}')
        if cost not in self.costs:
            raise ValueError(
                'the query table has no latencies: let tools/analysis_tools/query_table.py measure them, or use '
                'multiply-adds'
            )


def format_cost(cost: str, value: float) -> str:
    """Format a cost, for example as ``'180.60 G multiply-adds'`` or ``'31.2 ms'``."""
    if cost == 'latency_ms':
        return f'{value:.1f} ms'
    return f'{format_count(value)} multiply-adds'
