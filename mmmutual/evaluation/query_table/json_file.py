"""The file of a query table: JSON with a schema name and a version; each value is checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmmutual.checkpoint.atomic_write import write_whole
from mmmutual.number_checks import is_number, is_whole

SCHEMA = 'mmmutual.query_table'
VERSION = 1


def write_atomically(path: str | Path, complete: bool, context: Mapping, subnets: Sequence[Mapping]) -> None:
    """Write a table: a reader never finds an incomplete file, and a killed run never leaves one.

    Args:
        path: The file; its folder is created.
        complete: Whether the evaluation had finished.
        context: The conditions of the measurements.
        subnets: One mapping for each sub-network.

    Raises:
        ValueError: If a number is not finite.
    """
    content = dict(schema=SCHEMA, version=VERSION, complete=complete, context=dict(context), subnets=list(subnets))
    text = json.dumps(content, indent=1, allow_nan=False)
    write_whole(path, lambda part: part.write_text(text))


def read_table(path: str | Path) -> dict[str, Any]:
    """Read the file of a table and check each of its values.

    Args:
        path: A JSON file.

    Returns:
        Its content: ``complete``, ``context`` and ``subnets``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, is not a query table, has another version, or holds a wrong value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no query table {path}. Write one with tools/analysis_tools/query_table.py CONFIG CHECKPOINT'
        )
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(
            f'the query table {path} is damaged: it is not JSON ({error}). Write it again with '
            'tools/analysis_tools/query_table.py --force'
        ) from error
    if not isinstance(content, dict) or content.get('schema') != SCHEMA:
        found = content.get('schema') if isinstance(content, dict) else type(content).__name__
        raise ValueError(f'{path} is not a query table: its "schema" should be {SCHEMA!r}, but is {found!r}')
    if content.get('version') != VERSION:
        raise ValueError(
            f'the query table {path} has version {content.get("version")!r}, but this mmmutual reads version '
            f'{VERSION}. Write it again, or use the mmmutual that wrote it'
        )
    if 'cells' in content:  # their name before mmmutual 0.2
        content['subnets'] = content.pop('cells')
    try:
        _check(content, CONTENT, '')
        _check(content['context'], CONTEXT, 'context.')
        for index, subnet in enumerate(content['subnets']):
            _check(subnet, SUBNET, f'subnets[{index}].')
            _check_subnet(subnet, f'subnets[{index}].')
    except ValueError as error:
        raise ValueError(f'the query table {path} is damaged: {error}') from error
    return content


def _is_count(value: Any) -> bool:
    return is_whole(value, 0)


def _is_ratio(value: Any) -> bool:
    return is_number(value) and 0 < value <= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_latency(value: Any) -> bool:
    return value is None or (is_number(value) and value > 0)


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(side) and side for side in value)


def _is_numbers_by_name(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_number, value.values()))


Check = tuple[Callable[[object], bool], str]
CONTENT: dict[str, Check] = {
    'complete': (lambda value: isinstance(value, bool), 'true or false'),
    'context': (lambda value: isinstance(value, dict), 'an object'),
    'subnets': (lambda value: isinstance(value, list), 'a list'),
}
CONTEXT: dict[str, Check] = {
    'config': (_is_text, 'a text'),
    'checkpoint': (_is_text, 'a text'),
    'checkpoint_sha256': (_is_text, 'a text'),
    'size': (_is_size, 'height and width in pixels'),
    'device': (_is_text, 'a text'),
    'threads': (_is_count, 'a whole number'),
    'batch_size': (_is_count, 'a whole number'),
    'versions': (lambda value: isinstance(value, dict) and all(map(_is_text, value.values())), 'texts by name'),
    'created': (_is_text, 'a text'),
}
SUBNET: dict[str, Check] = {
    'width': (_is_ratio, 'a number above 0 and at most 1'),
    'scale': (_is_ratio, 'a number above 0 and at most 1'),
    'multiply_adds': (_is_count, 'a whole number'),
    'parameters': (_is_count, 'a whole number'),
    'metrics': (_is_numbers_by_name, 'numbers by name'),
    'latency_ms': (_is_latency, 'null or milliseconds above 0'),
    'latency_p90_ms': (_is_latency, 'null or milliseconds above 0'),
}
OPTIONAL: dict[str, Check] = {
    'decoder_layers': (lambda value: value is None or is_whole(value, 1), 'null or a whole number of at least 1'),
}


def _check(values: object, checks: Mapping[str, Check], where: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f'"{where.rstrip(".")}" should be an object, but is {values!r}')
    for name, (is_right, wanted) in checks.items():
        if name not in values:
            raise ValueError(f'"{where}{name}" is missing')
        if not is_right(values[name]):
            raise ValueError(f'"{where}{name}" should be {wanted}, but is {values[name]!r}')


def _check_subnet(subnet: Mapping, where: str) -> None:
    _check(subnet, {name: check for name, check in OPTIONAL.items() if name in subnet}, where)
    unknown = sorted(set(subnet) - set(SUBNET) - set(OPTIONAL))
    if unknown:
        raise ValueError(f'"{where}{unknown[0]}" is unknown')


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is not a number in JSON')
