"""Write checkpoints that survive a kill at any moment: MMEngine's hook writes in place, and deletes before writing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmmutual.checkpoint.atomic_write import write_whole


class AtomicBackend(LocalBackend):
    """Local files that are written under another name and renamed, for ``backend_args=dict(backend='atomic')``."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write a file."""
        write_whole(filepath, lambda part: part.write_bytes(obj))


class _PostponingBackend(AtomicBackend):
    """Backend that postpones the removal of files until ``finish``."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def remove(self, filepath: str | Path) -> None:
        """Record a file to remove later."""
        self.removed.append(os.fspath(filepath))

    def finish(self, keep: tuple[str | None, ...]) -> None:
        """Remove the recorded files, except for those that have been written again since."""
        for path in self.removed:
            if path not in keep and self.isfile(path):
                super().remove(path)
        self.removed = []


register_backend('atomic', AtomicBackend, force=True)
LOCAL_BACKENDS = ('local', 'disk', 'atomic')  # 'disk' is MMEngine's former name


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` for local files, with the same arguments; a killed run does not lose a checkpoint.

    - A checkpoint receives its name only when it is completely written. ``CheckpointHook`` writes in place. It even
      overwrites the file that ``last_checkpoint`` names, after a validation with a new best score.
    - A former checkpoint (``max_keep_ckpts``, ``save_best``) is deleted only after its successor is written. After a
      resume in a copy of a work dir, only files in the copy are deleted.

    Args:
        *args: As ``CheckpointHook``.
        backend_args: As ``CheckpointHook``, but only for local files.
        file_client_args: The deprecated name of ``backend_args``.
        **kwargs: As ``CheckpointHook``.

    Raises:
        ValueError: If the checkpoints would not go to local files.
    """

    def __init__(
        self, *args: Any, backend_args: dict | None = None, file_client_args: dict | None = None, **kwargs: Any
    ) -> None:
        for name, value in (('backend_args', backend_args), ('file_client_args', file_client_args)):
            if value and value.get('backend') not in LOCAL_BACKENDS:
                raise ValueError(_not_local(f'{name}={value!r}'))
        super().__init__(*args, backend_args=dict(backend='atomic'), **kwargs)
        if '://' in str(self.out_dir or ''):
            raise ValueError(_not_local(f'out_dir={self.out_dir!r}'))
        self.file_backend = _PostponingBackend()  # an evaluation does not call before_train

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder, and postpone deletions from now on."""
        super().before_train(runner)
        self.file_backend = _PostponingBackend()
        if self.save_best is not None:  # the best checkpoints of the resumed run
            if best := getattr(self, 'best_ckpt_path', None):
                self.best_ckpt_path = self._in_own_folder(best)
            former = getattr(self, 'best_ckpt_path_dict', {})
            former.update({key: self._in_own_folder(path) for key, path in former.items() if path})

    def _in_own_folder(self, path: str) -> str | None:
        """The former best checkpoint, which a better one will replace; in a copied work dir only a file of the copy."""
        own = os.path.join(self.out_dir, os.path.basename(path))
        return own if os.path.isfile(own) else None

    # The public hooks decide whether a checkpoint is due; only these two run right after one was written.

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        self._delete_former()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._delete_former()

    def _delete_former(self) -> None:
        best = [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]
        self.file_backend.finish(keep=(self.last_ckpt, *best))


def _not_local(argument: str) -> str:
    return (
        f'AtomicCheckpointHook only writes local files, but got {argument}: use one of the backends '
        f"{', '.join(LOCAL_BACKENDS)} and a folder, or MMEngine's CheckpointHook"
    )
