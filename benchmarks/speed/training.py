"""The time of a mutual iteration against the same four passes through static networks."""

from __future__ import annotations

from .batches import training_batch
from .iterations import TimedIteration, separate_passes
from .networks import per_layer, slimmable, static
from .options import Options
from .per_layer import set_per_layer_width
from .rounding import full_precision
from .table import Row
from .timing import quartiles, ratios, take_turns

TARGETS = dict(cpu=1.05, cuda=1.02)
TOLERANCE = 1e-3  # relative, of a loss


def measure(options: Options) -> list[Row]:
    """Ours, four static networks, and the authors' kind of layers."""
    config = options.config()
    batch = training_batch(options, config)
    model = slimmable(config, options.device)
    mutual = TimedIteration(model, batch, options.widths)
    subnets = mutual.subnets
    networks = {subnet.width: static(model, subnet.width, options.device) for subnet in subnets}
    authors = per_layer(model, options.widths, options.device)
    calls = dict(
        ours=mutual,
        static=separate_passes(networks, batch, subnets),
        authors=separate_passes(dict.fromkeys(networks, authors), batch, subnets, set_per_layer_width),
    )
    with full_precision():
        _check_same_losses({name: call() for name, call in calls.items()})
    times = take_turns(calls, options.rounds, until=options.until)
    passes = ', '.join(str(subnet) for subnet in subnets)
    reference = f'static: {quartiles(times["static"])[1]:.0f} ms ({passes})'
    what = f'mutual iteration, batch {options.batch_size}'
    return [
        Row(what, tuple(ratios(times, 'ours', 'static')), reference, TARGETS[options.device]),
        Row(f"{what}, authors' layers", tuple(ratios(times, 'authors', 'static')), reference),
    ]


def _check_same_losses(losses: dict[str, list[float]]) -> None:
    for name in ('static', 'authors'):
        for ours, theirs in zip(losses['ours'], losses[name]):
            if abs(ours - theirs) > TOLERANCE * abs(theirs):
                raise RuntimeError(f'the losses differ from {name}: {losses["ours"]} and {losses[name]}')
