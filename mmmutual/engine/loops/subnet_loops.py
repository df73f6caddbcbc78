"""Validation and test loops that evaluate many sub-networks in one run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import LOOPS
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.runner.amp import autocast
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmmutual.config import nominal_size, scale_pipeline
from mmmutual.datasets import drawable_meta
from mmmutual.layers import check_decoder_layers, check_ratios, evaluated_widths, frozen, use_decoder_layers, use_width
from mmmutual.number_checks import check_whole
from mmmutual.upstream import parse_losses, update_losses

from ..calibration import calibrate, kept_statistics, norms_with_statistics
from ..calibration_data import rebuilt_loader
from ..image_sides import fit_padding
from ..norm_check import check_statistics
from ..pass_errors import named_errors
from ..sampling import Subnet
from ..unwrapped import unwrapped
from .evaluators import evaluator_for, fill_missing, quiet

REPORT = 'SubnetReportHook'  # by its registered name: engine must not import evaluation


if TYPE_CHECKING:
    from mmengine.runner import ValLoop as Loop
else:
    Loop = object  # a mix-in of MMEngine's loops


class _SubnetLoop(Loop):
    """Common base of the two loops; ``mode`` is ``'val'`` or ``'test'``.

    Args:
        runner: The runner.
        dataloader: Config of the data loader; a built one allows scale 1.0 only.
        evaluator: Config of the evaluator, or a built one.
        widths: Width multipliers to evaluate, in any order. Defaults to the grid that the model was built for.
        scales: Input scales to evaluate, in any order: the test pipeline resizes the original image to its size times
            the scale.
        fp16: Whether to evaluate under autocast.
        calibration_batches: Number of training batches from which to recompute the batch-norm statistics at each scale,
            as the authors do for classifiers; the former statistics are restored afterwards. 0 evaluates with the
            statistics of the checkpoint.
        num_widths: Without ``widths``: number of widths of the model's grid to evaluate, at least 1. They are evenly
            spread and include the widest and the narrowest; 1 means the widest only.
        decoder_layers: Numbers of decoder layers to evaluate a DETR-like detector with, in any order; None for all
            layers only.

    Raises:
        TypeError: If ``widths``, ``scales``, ``calibration_batches``, ``num_widths`` or ``decoder_layers`` are not
            numbers.
        ValueError: If they are out of range, if ``widths`` is None and the model declares no grid, if the model has no
            decoder whose layers can be left out, if the test pipeline cannot be scaled, or in ``run``, before anything
            is evaluated, if the model does not support a width.
    """

    mode: str

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        widths: Sequence[float] | None = None,
        scales: Sequence[float] = (1.0,),
        fp16: bool = False,
        calibration_batches: int = 0,
        num_widths: int | None = None,
        decoder_layers: Sequence[int] | None = None,
    ) -> None:
        calibration_batches = check_whole(calibration_batches, 'calibration_batches', 0)
        self.calibration_batches = calibration_batches
        self.scales = check_ratios(scales, 'scales')
        model = unwrapped(runner.model)
        self.widths = evaluated_widths(model, widths, num_widths)
        given = decoder_layers is not None
        self.decoder_layers = check_decoder_layers(model, decoder_layers) if given else (None,)
        configs = self._scaled_configs(dataloader)
        super().__init__(runner, dataloader, evaluator, fp16)
        runner.visualizer.dataset_meta = drawable_meta(runner.visualizer.dataset_meta)
        self._loaders = {scale: runner.build_dataloader(config) for scale, config in configs.items()}
        self._loaders.setdefault(1.0, self.dataloader)
        self.size = nominal_size(dataloader) if isinstance(dataloader, dict) else None
        grid = product(self.scales, self.widths, self.decoder_layers)
        self.subnets = [Subnet(width, scale, number) for scale, width, number in grid]
        self.reference = self.subnets[0]
        self._evaluators = {subnet: evaluator_for(self.evaluator, subnet) for subnet in self.subnets[1:]}
        self._evaluators = {self.reference: self.evaluator, **self._evaluators}
        self.results: dict[Subnet, dict[str, float]] = {}
        self._training_data: Dataset | None = None
        if not any(type(hook).__name__ == REPORT for hook in runner.hooks):
            runner.register_hook(dict(type=REPORT))

    def run(self) -> dict[str, float]:
        """Evaluate all sub-networks: one pass over the data for each scale, all widths on each loaded batch.

        Returns:
            Metrics. Those of the widest network at the largest scale have their stock names, and include its losses if
            the model predicts any. Other metrics have the sub-network as prefix, as ``w0.5_s0.8/coco/bbox_mAP``.
        """
        self._losses.clear()
        self._call_hook('before_{}')
        self.check_widths()  # BNCalibrationHook has calibrated them
        fit_padding(self._model)
        self._call_hook('before_{}_epoch')
        self.runner.model.eval()
        keeping = kept_statistics(self._model) if self.calibration_batches else nullcontext()
        with use_width(self._model, self.widths[0]), keeping:
            for scale in reversed(self.scales):  # the full scale last: --show-dir keeps the pictures drawn last
                self.runner.logger.info(
                    f'Evaluating scale {scale:g} at widths {", ".join(f"{width:g}" for width in self.widths)}'
                )
                self._calibrate(scale)
                with frozen(self._model):  # after the calibration, which changes statistics
                    for index, batch in enumerate(self._loaders[scale]):
                        self._run_batch(index, batch, scale)
            metrics = self._evaluate()
        self._call_hook('after_{}_epoch', metrics=metrics)
        self._call_hook('after_{}')
        return metrics

    def check_widths(self) -> None:
        """Raise ``ValueError`` before the evaluation for a width at which the model cannot be evaluated."""
        if not self.calibration_batches:
            check_statistics(self._model, self.widths)

    @property
    def _losses(self) -> dict:
        """The losses of the model that MMEngine's loop collects."""
        return getattr(self, f'{self.mode}_loss')

    @property
    def _model(self) -> nn.Module:
        return unwrapped(self.runner.model)

    def _calibrate(self, scale: float) -> None:
        if self.calibration_batches and norms_with_statistics(self._model):
            if self._training_data is None:
                self._training_data = self.runner.build_dataloader(self.runner.cfg.train_dataloader).dataset
            loader = rebuilt_loader(self.runner, self._training_data)
            calibrate(self._model, islice(loader, self.calibration_batches), self.widths, (scale,))

    @torch.no_grad()
    def _run_batch(self, index: int, batch: dict, scale: float) -> None:
        """Predict one batch at every width; the hooks receive the widest network's predictions."""
        step = self.runner.model.val_step if self.mode == 'val' else self.runner.model.test_step
        self._call_hook('before_{}_iter', batch_idx=index, data_batch=batch)
        for subnet in reversed([subnet for subnet in self.subnets if subnet.scale == scale]):
            with (
                named_errors('evaluation', subnet, batch),
                use_width(self._model, subnet.width),
                use_decoder_layers(self._model, subnet.decoder_layers),
                autocast(enabled=self.fp16),
            ):
                outputs = step(batch)
            outputs, _ = update_losses(outputs, self._losses if subnet == self.reference else {})
            self._evaluators[subnet].process(data_samples=outputs, data_batch=batch)
        self._call_hook('after_{}_iter', batch_idx=index, data_batch=batch, outputs=outputs)

    def _evaluate(self) -> dict[str, float]:
        size = len(self.dataloader.dataset)
        self.results = {self.reference: self.evaluator.evaluate(size)}
        with quiet():
            for subnet, evaluator in list(self._evaluators.items())[1:]:
                self.results[subnet] = evaluator.evaluate(size)
        for subnet in fill_missing(self.results):
            self.runner.logger.warning(f'{subnet} detected nothing: its missing metrics are set to 0')
        metrics = dict(self.results[self.reference])
        if self._losses:
            metrics.update(parse_losses(self._losses, self.mode))
        for subnet in list(self.results)[1:]:
            metrics.update({f'{subnet}/{name}': value for name, value in self.results[subnet].items()})
        return metrics

    def _scaled_configs(self, dataloader: DataLoader | dict) -> dict[float, dict]:
        narrower = [scale for scale in self.scales if scale != 1.0]
        if narrower and not isinstance(dataloader, dict):
            raise ValueError(
                f'scales {narrower} need the config of the data loader, since its pipeline changes with the scale, but '
                f'dataloader is a {type(dataloader).__name__}'
            )
        return {scale: scale_pipeline(dataloader, scale) for scale in narrower}

    def _call_hook(self, name: str, **kwargs: Any) -> None:
        self.runner.call_hook(name.format(self.mode), **kwargs)


@LOOPS.register_module()
class SubnetValLoop(_SubnetLoop, ValLoop):
    """MMEngine's validation loop over many sub-networks, with the arguments of the base class."""

    mode = 'val'


@LOOPS.register_module()
class SubnetTestLoop(_SubnetLoop, TestLoop):
    """MMEngine's test loop over many sub-networks.

    Args:
        *args: As the base class.
        report: Whether ``SubnetReportHook`` writes the table (JSON) and the plot next to the log.
        **kwargs: As the base class.
    """

    mode = 'test'

    def __init__(self, *args: Any, report: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.report = report
