"""The same images as each sub-network sees them, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from torch import nn

from mmmutual.layers import check_ratios, use_width

INCHES = 3.2  # side of one image in the picture
PIXELS = 480  # small images are enlarged to about this, so that names can be read


@torch.no_grad()
def show_widths(
    model: nn.Module,
    batches: Sequence[dict],
    widths: Sequence[float],
    path: str | Path,
    dataset_meta: dict,
    score_thr: float = 0.5,
) -> Path:
    """Draw the detections of each width on the same images: a row for each image, the ground truth first.

    Args:
        model: A detector with slimmable layers.
        batches: Batches of a test data loader, one for each row; the first image of each is drawn.
        widths: Width multipliers, a column each.
        path: Where the picture goes.
        dataset_meta: The data set's ``metainfo`` with ``classes`` and ``palette``.
        score_thr: Detections below this score are left out.

    Returns:
        The path.

    Raises:
        ValueError: If there is no batch, or for widths the model cannot run at.
    """
    if not batches:
        raise ValueError('there is no image to show')
    widths = check_ratios(widths)
    visualizer = DetLocalVisualizer(name='show_widths')
    visualizer.dataset_meta = dataset_meta
    figure = Figure(figsize=(INCHES * (len(widths) + 1), INCHES * len(batches) + 0.3), layout='constrained')
    axes = figure.subplots(len(batches), len(widths) + 1, squeeze=False)
    model.eval()
    for row, batch in zip(axes, batches):
        truth = batch['data_samples'][0]
        image = mmcv.imread(truth.img_path, channel_order='rgb')
        pictures = [draw_instances(visualizer, image, truth.gt_instances, score_thr)]
        for width in widths:
            with use_width(model, width):
                prediction = model.test_step(batch)[0].cpu()
            pictures.append(draw_instances(visualizer, image, prediction.pred_instances, score_thr))
        for axis, picture in zip(row, pictures):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(axes[0], ('ground truth', *(f'width {width:g}' for width in widths))):
        axis.set_title(title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return path


def draw_instances(
    visualizer: DetLocalVisualizer, image: np.ndarray, instances: InstanceData, score_thr: float
) -> np.ndarray:
    """The image (H, W, 3) in RGB with the instances on it, enlarged by a whole factor if it is small."""
    factor = max(1, PIXELS // max(image.shape[:2]))
    large = image.repeat(factor, 0).repeat(factor, 1)
    drawn = InstanceData(labels=instances.labels, bboxes=_tensor(instances.bboxes) * factor)
    if 'masks' in instances:
        masks = instances.masks if isinstance(instances.masks, torch.Tensor) else instances.masks.to_ndarray()
        drawn.masks = np.asarray(masks, dtype=bool).repeat(factor, 1).repeat(factor, 2)
    predicted = 'scores' in instances
    if predicted:
        drawn.scores = instances.scores
    sample = DetDataSample(**{'pred_instances' if predicted else 'gt_instances': drawn})
    visualizer.add_datasample(
        'picture', large, sample, draw_gt=not predicted, draw_pred=predicted, pred_score_thr=score_thr, show=False
    )
    return visualizer.get_image()


def _tensor(boxes) -> torch.Tensor:
    """Plain tensor (N, 4) of boxes."""
    return boxes if isinstance(boxes, torch.Tensor) else boxes.tensor
