"""The same images as each sub-network detects them, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmmutual.engine import Subnet
from mmmutual.engine.image_sides import fit_padding
from mmmutual.layers import check_ratios, use_width

from .drawn_instances import Color, class_colors, draw_instances
from .picture_sheet import TILE, Sheet


@torch.no_grad()
def show_widths(
    model: nn.Module,
    batches: Sequence[dict] | Mapping[float, Sequence[dict]],
    widths: Sequence[float],
    path: str | Path,
    dataset_meta: Mapping,
    score_thr: float = 0.5,
    labels: bool = True,
    titles: Mapping[Subnet, str] | None = None,
) -> Path:
    """Draw the detections of each sub-network on the same images: a row for each image, the ground truth first.

    A class has one colour in all pictures. A picture without detections says how high the best score is.

    Args:
        model: A detector with slimmable layers.
        batches: Batches of a test data loader, one for each row; the first image of each is drawn. For other input
            scales than 1.0 a mapping from the scale to its batches; each scale becomes a block of rows.
        widths: Width multipliers, a column each.
        path: Where the picture goes.
        dataset_meta: The data set's ``metainfo`` with ``classes`` and perhaps ``palette``.
        score_thr: Detections below this score are left out.
        labels: Whether to write the score by each box.
        titles: Titles of the sub-networks' columns, of up to two lines; by default width and scale.

    Returns:
        The path.

    Raises:
        ValueError: If there is no batch, or for widths the model cannot run at.
    """
    rows = batches if isinstance(batches, Mapping) else {1.0: batches}
    if not any(rows.values()):
        raise ValueError('there is no image to show')
    widths, classes = check_ratios(widths), dataset_meta['classes']
    colors = class_colors(classes, dataset_meta.get('palette'))
    sheet = Sheet(columns=1 + len(widths))
    shown: set[int] = set()
    model.eval()
    fit_padding(model)
    for scale, of_scale in rows.items():
        subnets = [Subnet(width, scale) for width in widths]
        sheet.start_block(['ground truth', *((titles or {}).get(subnet, _title(subnet)) for subnet in subnets)])
        for batch in of_scale:
            truth = batch['data_samples'][0]
            image = mmcv.imread(truth.img_path, channel_order='rgb')
            found = []
            for subnet in subnets:
                with use_width(model, subnet.width):
                    found.append(model.test_step(batch)[0].cpu().pred_instances)
            instances = [truth.get('gt_instances') or InstanceData(), *found]
            pictures = [_picture(image, each, colors, score_thr, labels) for each in instances]
            sheet.add_row(pictures, ['', *(_note(each, score_thr) for each in found)])
            shown.update(*(each.labels[_certain(each, score_thr)].tolist() for each in instances if 'labels' in each))
    return sheet.save(path, legend={classes[label]: colors[label] for label in sorted(shown)})


def _picture(
    image: np.ndarray, instances: InstanceData, colors: Sequence[Color], score_thr: float, labels: bool
) -> np.ndarray:
    if 'labels' not in instances:  # a test set without annotations
        instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return draw_instances(image, instances, colors, score_thr=score_thr, labels=labels, factor=TILE / image.shape[1])


def _certain(instances: InstanceData, score_thr: float) -> torch.Tensor:
    """Which instances are drawn (N,)."""
    if 'scores' not in instances:
        return torch.ones(len(instances), dtype=torch.bool)
    return instances.scores >= score_thr


def _title(subnet: Subnet) -> str:
    return f'width {subnet.width:g}' + (f', scale {subnet.scale:g}' if subnet.scale != 1.0 else '')


def _note(instances: InstanceData, score_thr: float) -> str:
    """The note below a picture without detections."""
    if _certain(instances, score_thr).any():
        return ''
    if len(instances) == 0:
        return 'nothing detected'
    return f'nothing above {score_thr:g} (highest score {instances.scores.max():.2f})'
