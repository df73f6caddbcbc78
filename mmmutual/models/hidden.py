"""Lets the layers of neck and heads slim whose outputs only feed layers that can take fewer channels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from torch import nn

from mmmutual.layers import Segment, Slimmable, can_slim
from mmmutual.layers.channels import DIVISOR

from .dataflow import Dataflow
from .dry_run import ERRORS, first_line, run_levels, run_smallest, run_whole, running
from .self_check import Difference, differences


def slim_hidden(model: nn.Module, candidates: set[nn.Module], widths: Sequence[float]) -> None:
    """Let the outputs of those layers slim that feed layers which can take it, in place.

    Where a narrow network would not be a part of the full one, since an operation between two layers cuts, mixes or
    counts the channels, the layers before that operation give all of their outputs.

    Args:
        model: A detector whose layers are slimmable.
        candidates: Layers behind the backbone that give all of their outputs so far.
        widths: Its widths.

    Raises:
        ValueError: If the detector runs on no plain image, or if something else makes a narrow network differ.
    """
    flow = Dataflow(model)
    try:
        with running(model), flow.recording():
            flow.end(run_smallest(run_whole, model)[1])
    except ERRORS as error:
        raise ValueError(
            f"{type(model).__name__} runs on no plain image, so what its heads' layers feed cannot be seen "
            f"({first_line(error)}). Choose slim='backbone'"
        ) from error
    for name, layer in model.named_modules():
        if layer in flow.idle and not can_slim(layer):
            raise ValueError(
                f'{type(model).__name__} cannot slim as a whole: its layer {name} ({type(layer).__name__}) runs in '
                "training only and takes all of its channels. Choose slim='backbone'"
            )
    kept: set[nn.Module] = set()
    slimming: set[nn.Module] = set()
    while True:
        hidden = flow.hidden(candidates, kept)
        for layer in slimming - set(hidden):
            _slim_outputs(layer, _outputs(layer))
        for layer, divisor in hidden.items():
            _slim_outputs(layer, divisor)
        _divide_readers(flow)
        slimming = set(hidden)
        found = differences(model, widths, run_whole)
        if not found:
            return
        wrong = _before(flow, found, slimming)
        if not wrong:
            raise ValueError(_sentence(model, found[0]))
        kept |= wrong


def check_parts(model: nn.Module, widths: Sequence[float], heads: bool) -> None:
    """Check that the narrow networks of a backbone, and of the neck behind it, are parts of the full one.

    First, layers behind others that slim in multiples of another number than 8 are told so.

    Args:
        model: A detector or a backbone whose layers are slimmable.
        widths: Its widths.
        heads: Whether the heads too are to be checked: those that get fewer channels, as behind no neck.

    Raises:
        ValueError: If one is not, with the name of the layer.
    """
    flow = Dataflow(model)
    if any(layer.out_segments[0].divisor != DIVISOR for layer in _slim(flow)):
        with suppress(*ERRORS), running(model), flow.recording():
            run_smallest(run_levels, model)
        _divide_readers(flow)
    found = differences(model, widths, run_levels)
    if heads and not found:
        found = differences(model, widths, run_whole)
    if found:
        raise ValueError(_sentence(model, found[0]))


def _before(flow: Dataflow, found: Sequence[Difference], slimming: set[nn.Module]) -> set[nn.Module]:
    """The layers whose slimming makes the differences; all that ran before if gradients do not show them."""
    wrong = {source for difference in found for source in flow.sources(difference.layer)} & slimming
    return wrong or {layer for difference in found for layer in difference.before} & slimming


def _divide_readers(flow: Dataflow) -> None:
    """Tell layers of what their active inputs are a multiple: behind maps that were flattened, or a group norm."""
    slim = _slim(flow)
    for reader, sources in flow.readers(slim).items():
        if not isinstance(reader, Slimmable) or not hasattr(reader, 'in_segments') or getattr(reader, 'groups', 1) > 1:
            continue
        if reader.in_segments is not None and len(reader.in_segments) > 1:
            continue
        inputs = _inputs(reader)
        multiples = {source.out_segments[0].divisor * inputs // _outputs(source) for source in sources & slim}
        if len(multiples) == 1 and multiples != {DIVISOR}:
            reader.divide(inputs=[Segment(inputs, *multiples)])


def _slim_outputs(layer: nn.Module, divisor: int) -> None:
    """Let the active outputs of a layer be a multiple of a number; of all of them, it gives all at every width."""
    layer.slim_out = True
    layer.divide(outputs=[Segment(_outputs(layer), divisor)])
    layer.slim_out = divisor < _outputs(layer)


def _slim(flow: Dataflow) -> set[nn.Module]:
    """The layers whose outputs slim as one run."""
    return {layer for layer in flow.units if getattr(layer, 'slim_out', False) and len(layer.out_segments) == 1}


def _inputs(layer: nn.Module) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _outputs(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _sentence(model: nn.Module, difference: Difference) -> str:
    """Why a model cannot slim."""
    start = f'{type(model).__name__} cannot slim: '
    width = f'a network of width {difference.width:g} ({difference.reason})'
    if difference.layer is None:
        return f'{start}its outputs are not those of {width}'
    name = next(name for name, layer in model.named_modules() if layer is difference.layer)
    return f'{start}its layer {name} ({type(difference.layer).__name__}) does not take the channels of {width}'
