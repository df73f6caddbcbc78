"""Nothing in a checkpoint is executed."""

import io
import os
import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmmutual.checkpoint import read_checkpoint
from tests.support.checkpoints import DAMAGED, FORMATS, as_legacy, as_pickle, as_zip, content, refusal


class Bait:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class TestUnsafe:
    @pytest.mark.parametrize('write', [as_zip, as_legacy, as_pickle])
    @pytest.mark.parametrize(
        'nest',
        [
            lambda bait: bait,
            lambda bait: dict(state_dict={}, meta=dict(epoch=1, hooks=[dict(bait=bait)])),
            lambda bait: dict(state_dict=dict(weight=bait)),
            lambda bait: dict(state_dict={}, message_hub=np.array([bait], dtype=object)),
        ],
        ids=['bare', 'meta', 'state_dict', 'numpy'],
    )
    @pytest.mark.parametrize(
        'bait',
        [
            lambda folder: Bait(os.mkdir, str(folder)),
            lambda folder: Bait(exec, f'import os; os.mkdir({str(folder)!r})'),
        ],
        ids=['mkdir', 'exec'],
    )
    def test_code_is_refused_and_does_not_run(self, bait, nest, write, path, tmp_path):
        folder = tmp_path / 'executed'
        write(nest(bait(folder)), path)
        assert DAMAGED in (message := refusal(path))
        assert re.search(r'\(UnpicklingError: .*(posix\.mkdir|GLOBAL exec|ObjectDType)', message)
        assert not re.search('Please|weights_only=|trust', message), "PyTorch's advice is not for users"
        assert not folder.exists()
        (pickle.loads(path.read_bytes()) if write is as_pickle else torch.load(path, weights_only=False))
        assert folder.exists(), 'the bait does nothing: the test shows nothing'

    @FORMATS
    @pytest.mark.parametrize(
        'owner', [np.ndarray, torch.Size, Bait(getattr, HistoryBuffer, 'mean')], ids=['array', 'size', 'bait']
    )
    def test_getattr_is_for_history_buffers(self, owner, write, path):
        """Of what a checkpoint may hold, too."""
        write(dict(state_dict={}, meta=Bait(getattr, HistoryBuffer, 'mean')), path)
        assert read_checkpoint(path)['meta'] is HistoryBuffer.mean
        write(dict(state_dict={}, meta=Bait(getattr, owner, '__init__')), path)
        assert "ValueError: refused to read the attribute '__init__' of <" in refusal(path)

    def test_unknown_class(self, path):
        torch.save({**content(), 'meta': io.BytesIO()}, path)
        assert 'GLOBAL _io.BytesIO was not an allowed global' in refusal(path)
