"""Data loaders of training batches for a calibration, apart from the loader that the training is reading from."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset


def rebuilt_loader(runner: Runner, dataset: Dataset) -> DataLoader:
    """Build the training's data loader again for a data set that is there already.

    A new loader has the same first batches whatever was read before it, a resume too, and workers that end with it.
    Reading the annotations again would take long.

    Args:
        runner: The runner; its config has the settings of the data loader.
        dataset: The training data.

    Returns:
        The data loader.
    """
    config = {**runner.cfg.train_dataloader, 'dataset': dict(type=lambda: dataset)}
    if config.get('persistent_workers'):
        config['persistent_workers'] = False
    return runner.build_dataloader(config, seed=runner.seed)


def calibration_loader(runner: Runner) -> DataLoader:
    """As ``rebuilt_loader``, for the data of the training under way.

    Args:
        runner: The runner; it may have been given a data loader without a config.

    Returns:
        The data loader. Without a config it shares the sampler with the training's.
    """
    loader = runner.train_dataloader
    if isinstance(runner.cfg.get('train_dataloader'), Mapping):
        return rebuilt_loader(runner, loader.dataset)
    if not getattr(loader, 'persistent_workers', False):
        return loader
    names = ('batch_sampler', 'num_workers', 'collate_fn', 'pin_memory', 'worker_init_fn')
    options = {name: getattr(loader, name) for name in names}
    return DataLoader(loader.dataset, **options)  # iterating over this one would restart the training's workers
