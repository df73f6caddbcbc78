"""Data loaders of training batches for a calibration, separate from the loader of the training."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset


def rebuilt_loader(runner: Runner, dataset: Dataset) -> DataLoader:
    """Build the data loader of the training again for a data set that is already built.

    A new loader always has the same first batches, also after a resume, and its workers end with it. The data set is
    shared, because reading the annotations again would be slow.

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
    """As ``rebuilt_loader``, for the data of the current training.

    Args:
        runner: The runner; its data loader may have been built without a config.

    Returns:
        The data loader. Without a config it shares the sampler of the training loader.
    """
    loader = runner.train_dataloader
    if isinstance(runner.cfg.get('train_dataloader'), Mapping):
        return rebuilt_loader(runner, loader.dataset)
    if not getattr(loader, 'persistent_workers', False):
        return loader
    names = ('batch_sampler', 'num_workers', 'collate_fn', 'pin_memory', 'worker_init_fn')
    options = {name: getattr(loader, name) for name in names}
    return DataLoader(loader.dataset, **options)  # iterating over the training loader would restart its workers
