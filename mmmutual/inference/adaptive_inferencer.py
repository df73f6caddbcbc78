"""Inference within a budget: mmdet's inferencer, with the sub-network that fits each call."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from torch import nn

from mmmutual.checkpoint import check_architecture, check_mutual, read_checkpoint, warn_of_other_classes
from mmmutual.checkpoint.fingerprint import sha256
from mmmutual.config import load_config, scale_pipeline
from mmmutual.config.channel_check import check_channels
from mmmutual.config.registered_names import with_registered_names
from mmmutual.datasets import drawable_meta
from mmmutual.engine import Subnet
from mmmutual.engine.image_sides import fit_padding
from mmmutual.evaluation import QueryTable
from mmmutual.layers import check_ratio, decoder_layers, frozen, set_decoder_layers, set_width
from mmmutual.moved_names import renamed_argument, warn_of_renamed
from mmmutual.slimming import input_channels

from .image_folder import find_images
from .latency_controller import LatencyController

WAYS = 'width/scale/decoder_layers, budget_multiply_adds/budget_ms, target_ms'


class _Result(dict):
    """A result, with the deprecated name of one of its keys."""

    def __missing__(self, key: str) -> Any:
        if key != 'cells':
            raise KeyError(key)
        warn_of_renamed("result['cells']", "result['subnets']")
        return self['subnets']


class AdaptiveInferencer(DetInferencer):
    """mmdet's ``DetInferencer`` for all sub-networks of one checkpoint.

    An inferencer runs one sub-network at a time, because the width is a state of its model. Calls from several threads
    wait for each other; to run them in parallel, create an inferencer for each thread.

    The model is ``frozen``: the sliced weights of each width are kept from its first call. Weights that are loaded or
    moved later are noticed; do not write them through ``.data``.

    Args:
        model: Config file, config or name of a config such as ``mmdet::...``.
        weights: Checkpoint file; it is loaded without executing anything in it.
        device: Such as ``'cuda:0'``; None for a GPU if there is one.
        scope: As ``DetInferencer``.
        palette: As ``DetInferencer``.
        show_progress: As ``DetInferencer``; a single image has no progress bar.
        table: Query table of the checkpoint, or its file, written by tools/analysis_tools/query_table.py. Needed for
            budgets and targets.

    Attributes:
        subnet: The sub-network of the next batch.
        table: The query table or None.
        controller: The controller for ``target_ms``; None before the first such call.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint or the table is damaged or does not fit the config, or if the checkpoint was
            trained with a mutual config and the config is a stock one.

    Examples:
        >>> inferencer = AdaptiveInferencer('config.py', 'model.pth', table=table, show_progress=False)
        >>> result = inferencer('image.png', budget_ms=80)
        >>> result['subnets'][0]['width'], result['subnets'][0]['scale']
        (0.75, 1.0)
    """

    clock = staticmethod(time.perf_counter)  # seconds

    def __init__(
        self,
        model: str | Path | Config | ConfigDict,
        weights: str | Path,
        device: str | None = None,
        scope: str | None = 'mmdet',
        palette: str = 'none',
        show_progress: bool = True,
        table: str | Path | QueryTable | None = None,
    ) -> None:
        if isinstance(model, (str, Path)):
            model = load_config(model)
        elif isinstance(model, Config):
            model = with_registered_names(model)
        if not isinstance(model, (Config, ConfigDict)):
            raise TypeError(f'model must be a config or its file, but got {model!r}')
        self.table = QueryTable.load(table) if isinstance(table, (str, Path)) else table
        self.controller: LatencyController | None = None
        self._lock = threading.RLock()
        super().__init__(model, str(weights), device, scope, palette, show_progress)
        self._show_progress = show_progress
        if self.table is not None and self.table.context['checkpoint_sha256'] != sha256([weights]):
            print_log(
                f'the query table was made for another checkpoint ({self.table.context["checkpoint"]}) than {weights}: '
                'its metrics are not those of this one',
                logger='current',
                level=logging.WARNING,
            )
        self._frozen = ExitStack()  # ends with the inferencer: single frames would not gain from a block for each call
        self._frozen.enter_context(frozen(self.model))
        self._switch(Subnet(1.0, 1.0))

    @renamed_argument('budget_flops', 'budget_multiply_adds')
    def __call__(
        self,
        inputs: str | Path | np.ndarray | Sequence,
        *args: Any,
        width: float | None = None,
        scale: float | None = None,
        budget_multiply_adds: float | None = None,
        budget_ms: float | None = None,
        target_ms: float | None = None,
        decoder_layers: int | None = None,
        **kwargs: Any,
    ) -> dict:
        """Detect objects with the chosen sub-network; by default with the widest network at full scale.

        Args:
            inputs: A path, URL, folder (its images in the order of names, whatever the case of their endings) or array
                (H, W, 3) in BGR or (H, W) in grey, or a list of them.
            *args: As ``DetInferencer``.
            width: Width multiplier; 1.0 if only ``scale`` is given.
            scale: Input scale; 1.0 if only ``width`` is given.
            budget_multiply_adds: Most multiply-adds for one image.
            budget_ms: Highest latency in the query table, in milliseconds.
            target_ms: The measured latency to hold, in milliseconds. A controller follows the batches of this call and
                of later calls with a target, and may change the sub-network after each batch.
            decoder_layers: Number of decoder layers of a DETR-like detector; None for all.
            **kwargs: As ``DetInferencer``, for example ``batch_size``, ``out_dir`` or ``return_vis``.

        Returns:
            The result of ``DetInferencer`` with an additional list, ``'subnets'``. It has a dict for each prediction:
            ``width`` and ``scale`` of its sub-network, ``decoder_layers`` if some were left out, and ``latency_ms``,
            the measured time of its batch in the model.

        Raises:
            TypeError: If one of the numbers is not a number.
            ValueError: If mutually exclusive arguments are given, if a number is out of range, if no sub-network fits
                the budget, if the model does not support the width, if there is no query table to choose from, or if a
                folder has no image.
        """
        with self._lock:
            kinds = ((width, scale, decoder_layers), (budget_multiply_adds, budget_ms), (target_ms,))
            if sum(any(value is not None for value in kind) for kind in kinds) > 1:
                raise ValueError(
                    f'these arguments are mutually exclusive: {WAYS}; but got {width=}, {scale=}, {decoder_layers=}, '
                    f'{budget_multiply_adds=}, {budget_ms=}, {target_ms=}'
                )
            self._adapting = target_ms is not None
            if target_ms is not None:
                self._switch(self._follow(target_ms))
            elif budget_multiply_adds is not None or budget_ms is not None:
                best = self._table().best(budget_multiply_adds=budget_multiply_adds, budget_ms=budget_ms)
                self._switch(best.key)
            else:
                width = 1.0 if width is None else check_ratio(width)
                scale = 1.0 if scale is None else check_ratio(scale, 'scale')
                self._switch(Subnet(width, scale, decoder_layers))
            self._ran: list[dict[str, float]] = []
            result = super().__call__(inputs, *args, **kwargs)
            return _Result(result, subnets=self._ran)

    def forward(self, inputs: dict | tuple, **kwargs: Any) -> list:
        """Run one batch, record its latency, and let the controller choose the sub-network of the next one."""
        start = self._now()
        predictions = super().forward(inputs, **kwargs)
        latency_ms = (self._now() - start) * 1e3
        subnet = {name: value for name, value in asdict(self.subnet).items() if value is not None}
        subnet['latency_ms'] = latency_ms
        self._ran += [dict(subnet) for _ in predictions]
        if self._adapting and self.controller is not None:
            chosen = self.controller.update(latency_ms)
            self._switch(chosen.key)  # the next batch is not preprocessed yet
        return predictions

    def _switch(self, subnet: Subnet) -> None:
        """Set the model's width and decoder layers, and the pipeline of the next batch."""
        if subnet.scale not in self._pipelines:
            self._pipelines[subnet.scale] = self._build_pipeline(subnet.scale)
        set_width(self.model, subnet.width)
        if subnet.decoder_layers is not None or decoder_layers(self.model) is not None:
            set_decoder_layers(self.model, subnet.decoder_layers)
        self.pipeline, self.subnet = self._pipelines[subnet.scale], subnet

    def _follow(self, target_ms: float) -> Subnet:
        """The sub-network to continue with towards a target."""
        if self.controller is None:
            self.controller = LatencyController(self._table().front('latency_ms'), target_ms)
        self.controller.target_ms = target_ms
        chosen = self.controller.subnet
        return chosen.key

    def _table(self) -> QueryTable:
        if self.table is None:
            raise ValueError(
                'budget_multiply_adds, budget_ms and target_ms need a query table: write one with '
                'tools/analysis_tools/query_table.py CONFIG CHECKPOINT, and pass it as table=... (--table of the demo)'
            )
        return self.table

    def _now(self) -> float:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
        return self.clock()

    # MMEngine's inferencers are extended by these methods; they have no public ones for that.

    def _init_model(self, cfg: Config, weights: str, device: str = 'cpu') -> nn.Module:
        self._device = torch.device(device)
        self._weights, self._config_name = weights, getattr(cfg, 'filename', None)
        model = super()._init_model(cfg, None, device)  # otherwise MMEngine would read the file, and less strictly
        fit_padding(model)
        return model

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict | None, cfg: Config) -> None:
        checkpoint = read_checkpoint(self._weights)
        check_channels(model)
        check_mutual(model, checkpoint, self._weights, self._config_name)
        check_architecture(model, checkpoint, self._weights)
        warn_of_other_classes(cfg, checkpoint, self._weights, "detections have the checkpoint's names")
        super()._load_weights_to_model(model, checkpoint, cfg)
        model.dataset_meta = drawable_meta(model.dataset_meta)

    def _init_pipeline(self, cfg: Config) -> Callable[[Any], dict]:
        self._loader = cfg.test_dataloader
        self._pipelines = {1.0: self._build_pipeline(1.0)}
        return self._pipelines[1.0]

    def _build_pipeline(self, scale: float) -> Callable[[Any], dict]:
        pipeline = super()._init_pipeline(ConfigDict(test_dataloader=scale_pipeline(self._loader, scale)))
        channels = input_channels(self.model)
        return lambda image: pipeline(_with_channels(image, channels) if isinstance(image, np.ndarray) else image)

    def _inputs_to_list(self, inputs: str | Path | np.ndarray | Sequence) -> list:
        if isinstance(inputs, (str, Path)) and Path(inputs).is_dir():
            inputs = find_images(inputs)  # mmdet leaves out files such as IMG_0001.JPG
        if isinstance(inputs, Path):
            inputs = str(inputs)
        items = [str(item) if isinstance(item, Path) else item for item in super()._inputs_to_list(inputs)]
        self.show_progress = self._show_progress and len(items) > 1  # no bar for each frame of a video
        return items


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image (H, W), (H, W, 1) or (H, W, 3) in BGR to the number of channels that the model accepts."""
    there = 1 if image.ndim == 2 else image.shape[-1]
    if there == channels:
        return image
    if (there, channels) == (3, 1):
        return mmcv.bgr2gray(image)
    if (there, channels) == (1, 3):
        return mmcv.gray2bgr(image)
    raise ValueError(f'the image has the shape {image.shape}, but the model accepts images of {channels} channels')
