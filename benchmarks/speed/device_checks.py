"""Checks that everything computes on a device: each is a function that raises an error if it finds a fault."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from mmmutual import calibrate
from mmmutual.engine.loops import SubnetTestLoop
from mmmutual.inference import AdaptiveInferencer
from mmmutual.number_checks import is_number

from .batches import drawn_config, quiet
from .device_setting import WIDTHS, Check, Fault, Setting, check_operators, dense_outputs, require_same
from .device_training import check_bfloat16, check_float16, check_iterations, rounded
from .iterations import TimedIteration
from .networks import pretend_calibrated
from .synchronised import check_synchronised

SCORE_TOLERANCE = 1e-2


def check_widths(setting: Setting) -> None:
    """Features and maps of the RPN at every width are those of the CPU."""
    require_same(*(dense_outputs(each.detector(), each.image()) for each in (setting, setting.on_cpu())))


def check_channels_last(setting: Setting) -> None:
    """With ``channels_last``, features and maps stay the same and a training iteration runs."""
    model, image = setting.detector(), setting.image()
    expected = dense_outputs(model, image)
    model.to(memory_format=torch.channels_last)
    require_same(dense_outputs(model, image.to(memory_format=torch.channels_last)), expected)
    TimedIteration(model, setting.batch(), WIDTHS)()


def check_calibration(setting: Setting) -> None:
    """The calibrated statistics are those of the CPU."""
    require_same(*(_calibrated(each) for each in (setting, setting.on_cpu())))


def _calibrated(setting: Setting) -> dict[str, Tensor]:
    model = setting.detector()
    calibrate(model, [setting.batch()], WIDTHS, scales=(0.75,))
    return {name: value.cpu() for name, value in model.named_buffers() if 'running_' in name}


def check_test_loop(setting: Setting) -> None:
    """The test loop evaluates sub-networks of several widths and scales."""
    check_operators(setting)
    with tempfile.TemporaryDirectory() as folder, quiet():
        config = drawn_config(Path(folder), setting.image_size, images=4)
        config.experiment_name = config.visualizer.name = f'test_loop_{setting.device}'
        runner = Runner.from_cfg(config)
        runner.call_hook('before_run')  # the logger sets its file there
        pretend_calibrated(runner.model.to(setting.device))
        data = (config.test_dataloader, config.test_evaluator)
        loop = SubnetTestLoop(runner, *data, widths=(1.0, 0.5), scales=(1.0, 0.5), report=False)
        loop.run()
    numbers = [value for metrics in loop.results.values() for value in metrics.values()]
    if len(loop.results) != 4 or not numbers or not all(map(is_number, numbers)):
        raise Fault(f'the test loop should find numbers for 4 sub-networks, but has found {loop.results}')


def check_norm(setting: Setting) -> None:
    """SlimSyncBN in two processes is one norm over the batches of both."""
    check_synchronised(setting.device)


def check_inferencer(setting: Setting) -> None:
    """AdaptiveInferencer finds on the device what it finds on the CPU."""
    found, expected = (_best_scores(each) for each in (setting, setting.on_cpu()))
    if any(not abs(ours - theirs) <= SCORE_TOLERANCE for ours, theirs in zip(found, expected)):
        raise Fault(f'the best scores of two sub-networks are {rounded(found)}, those of the CPU {rounded(expected)}')


def _best_scores(setting: Setting) -> list[float]:
    check_operators(setting)
    config = Config.fromfile(setting.options().config_path)
    config.model.test_cfg.rcnn.score_thr = 0.0
    meta, side = dict(dataset_meta=config.metainfo.to_dict()), setting.image_size
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / 'config.py', Path(folder) / 'model.pth'
        config.dump(files[0])
        torch.save(dict(state_dict=setting.on_cpu().detector().state_dict(), meta=meta), files[1])
        inferencer = AdaptiveInferencer(*files, device=setting.device, show_progress=False)
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    results = [inferencer(image, width=width, scale=scale) for width, scale in ((1.0, 1.0), (0.5, 0.5))]
    return [max(result['predictions'][0]['scores']) for result in results]


CHECKS: dict[str, Check] = {
    'operators of mmcv': check_operators,
    'mutual iterations': check_iterations,
    'widths': check_widths,
    'calibration': check_calibration,
    'test loop': check_test_loop,
    'SlimSyncBN': check_norm,
    'float16': check_float16,
    'bfloat16': check_bfloat16,
    'AdaptiveInferencer': check_inferencer,
    'channels_last': check_channels_last,
}
