"""The demo's page: an image, a budget slider, the detections, and the sub-network that made them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np
from adaptive_demo import IMG_EXTENSIONS, detect, read_image

from mmmutual.evaluation import QueryTable
from mmmutual.inference import AdaptiveInferencer

INTRODUCTION = """# One detector, many budgets
**1.** Pick an image below, or upload your own. **2.** Move the slider to the budget of one image. The best sub-network
within the budget runs at once; nothing is loaded again."""
UNITS = {'milliseconds': ('latency_ms', 1.0), 'million multiply-adds': ('multiply_adds', 1e6)}
EXAMPLES = 8


def check_gradio() -> None:
    """Raise ``ImportError`` with the command to install Gradio if it is missing."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'--web needs Gradio, which does not import here ({error}): pip install -r requirements/demo.txt'
        ) from error


def serve(inferencer: AdaptiveInferencer, files: list[Path], score_thr: float, port: int) -> None:
    """Open the page on this machine until the program is stopped.

    Args:
        inferencer: An inferencer with a query table.
        files: Images to choose from.
        score_thr: Start value of the slider for the score.
        port: Port of the page.

    Raises:
        ValueError: If the inferencer has no query table.
        OSError: If the port is taken.
    """
    build(inferencer, files, score_thr).launch(server_port=port, show_error=True)


def build(inferencer: AdaptiveInferencer, files: list[Path], score_thr: float):
    """The page as ``gradio.Blocks``; arguments as ``serve``."""
    import gradio

    table = inferencer.table
    if table is None:
        raise ValueError(
            'the page needs a query table: write one with tools/analysis_tools/query_table.py CONFIG CHECKPOINT, or '
            'pass --table'
        )
    units = [unit for unit, (cost, _) in UNITS.items() if cost in table.costs]
    images = [str(file) for file in files if file.suffix.lower() in IMG_EXTENSIONS][:EXAMPLES]
    # The first run of each size in a thread is slow, and Gradio has many threads: all runs use this thread.
    worker = ThreadPoolExecutor(1)
    first = read_image(Path(images[0])) if images else np.zeros((64, 64, 3), np.uint8)
    for subnet in table.subnets:
        worker.submit(inferencer, first, **asdict(subnet.key)).result()

    def run(image: np.ndarray | None, unit: str, budget: float, score: float):
        if image is None:
            return None, 'Pick an image below, or upload one.', rows(table, None)
        cost, factor = UNITS[unit]
        choice = dict(budget_ms=budget) if cost == 'latency_ms' else dict(budget_multiply_adds=budget * factor)
        try:
            picture, subnet = worker.submit(detect, inferencer, image[..., ::-1], score, **choice).result()
        except ValueError as error:
            return None, f'### {error}', rows(table, None)
        chosen = table.subnet(subnet['width'], subnet['scale'], subnet.get('decoder_layers'))
        return picture, describe(chosen, subnet['latency_ms']), rows(table, chosen)

    def slider(unit: str):
        low, high, start = slider_range(table, unit)
        return gradio.Slider(low, high, start, step=(high - low) / 200, label=f'Budget for one image ({unit})')

    with gradio.Blocks(title='mmmutual') as page:
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(first[..., ::-1] if images else None, label='Image', height=380)
                unit = gradio.Radio(units, value=units[0], label='Budget in')
                budget = slider(units[0])
                score = gradio.Slider(0.05, 0.95, score_thr, step=0.05, label='Show detections scored at least')
            with gradio.Column():
                picture = gradio.Image(label='Detections', height=380, interactive=False)
                chosen = gradio.Markdown(elem_id='chosen')
                with gradio.Accordion('All sub-networks', open=False):
                    subnets = gradio.Dataframe(headers=HEADERS, interactive=False)
        if images:
            gradio.Examples(images, image, label='Images to pick')
        inputs, outputs = [image, unit, budget, score], [picture, chosen, subnets]
        unit.change(slider, unit, budget).then(run, inputs, outputs)
        gradio.on(
            [page.load, image.change, budget.input, score.input], run, inputs, outputs, show_progress='hidden',
            trigger_mode='always_last',
        )  # fmt: skip
    return page


HEADERS = ['', 'width', 'scale', 'multiply-adds (M)', 'latency (ms)', 'accuracy']


def slider_range(table: QueryTable, unit: str) -> tuple[float, float, float]:
    """Lowest and highest budget of a unit, slightly beyond the table; and the median cost, to start with."""
    cost, factor = UNITS[unit]
    costs = [getattr(subnet, cost) / factor for subnet in table.subnets]
    digits = 1 if max(costs) < 1000 else 0
    return round(0.9 * min(costs), digits), round(1.05 * max(costs), digits), round(median(costs), digits)


def describe(subnet, latency_ms: float) -> str:
    """Describe the sub-network that ran, in a readable way."""
    metrics = ', '.join(f'{name} {value:.3f}' for name, value in subnet.metrics.items())
    expected = '' if subnet.latency_ms is None else f' ({subnet.latency_ms:.1f} ms in the table)'
    return (
        f'### Ran {subnet.key.description} in {latency_ms:.1f} ms{expected}\n'
        f'{subnet.multiply_adds / 1e6:.0f} M multiply-adds, {metrics} on the validation data'
    )


def rows(table: QueryTable, chosen) -> list[list]:
    """The sub-networks as rows, the chosen one marked."""
    return [
        [
            '➤' if subnet is chosen else '',
            f'{subnet.width:g}',
            f'{subnet.scale:g}',
            f'{subnet.multiply_adds / 1e6:.0f}',
            '' if subnet.latency_ms is None else f'{subnet.latency_ms:.1f}',
            ', '.join(f'{name} {value:.3f}' for name, value in subnet.metrics.items()),
        ]
        for subnet in table.subnets
    ]
