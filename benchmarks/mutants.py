"""Check that the tests detect faults in the core: python benchmarks/mutants.py [--only TEXT].

Changes one line of the core at a time in a copy of the repository and runs the tests of that part, which should fail.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYERS = tuple(f'tests/test_layers/test_{name}.py' for name in ('conv_linear', 'norms', 'width'))
LAYERS += ('tests/test_properties.py',)
TOKENS = tuple(f'tests/test_layers/test_{name}.py' for name in ('layer_norm', 'window_attention', 'parameters'))
FROZEN = ('tests/test_layers/test_frozen.py',)
CALIBRATION = ('tests/test_engine/test_calibration.py', 'tests/integration/test_calibration_hook.py')
HOOK = ('distillation', 'roi_distillation', 'iteration', 'loss_guard', 'mutual_learning_hook', 'synchronisation')
HOOK = tuple(f'tests/test_engine/test_{name}.py' for name in HOOK)
RESCALE = tuple(f'tests/test_engine/test_{name}.py' for name in ('rescale', 'rescale_masks', 'shared_masks'))
RESCALE += ('tests/test_properties.py',)
SAMPLING = ('tests/test_engine/test_sampling.py', 'tests/test_properties.py')
LOOPS = ('tests/integration/test_subnet_loops.py',)
SCALE = ('tests/test_config/test_scaled_pipeline.py',)
PLAN = tuple(f'tests/test_slimming/test_{name}.py' for name in ('operations', 'groups', 'operations_between_layers'))
PLAN += ('tests/test_slimming/test_plan_again.py', 'tests/test_slimming/test_planning.py')
RESUME = ('tests/integration/test_resume.py',)
DEVICES = ('tests/integration/test_devices.py',)

MUTANTS = (
    # file below mmmutual/, text, replacement, tests
    ('layers/channels.py', 'int(target + divisor / 2)', 'int(target)', LAYERS),
    ('layers/channels.py', 'rounded < 0.9 * target', 'rounded < 0.5 * target', LAYERS),
    ('layers/divided.py', 'narrow(dim, 0, channels) if', 'narrow(dim, size - channels, channels) if', LAYERS),
    ('layers/divided.py', 'take(tensor, self.out_segments,', 'take(tensor.flip(dim), self.out_segments,', LAYERS),
    ('layers/layer_norm.py', 'else take(value, segments, self.width)', 'else value[-channels:]', TOKENS),
    ('layers/parameters.py', 'self.width, -1)', '1.0, -1)', TOKENS),
    ('layers/attention/base.py', '(heads,) * HEADS[side]', '(Segment(tensor.size(dim), heads.divisor),)', TOKENS),
    ('layers/attention/window.py', 'query * self.scale)', 'query)', TOKENS),
    ('layers/width.py', "'width', former", "'width', 1.0", LAYERS),
    ('layers/width.py', '        layer.check_width(width)\n', '        pass\n', LAYERS),
    ('layers/batch_norm.py', 'momentum = self.momentum\n', 'momentum = 0.5\n', LAYERS),
    ('layers/batch_norm.py', 'self.statistics(self.width)\n', 'self.statistics(1.0)\n', LAYERS),
    ('layers/batch_norm.py', 'tracked.item() > 0', 'tracked.item() >= 0', LAYERS + CALIBRATION),
    ('layers/batch_norm.py', "1 if 'running_var' in name else 0", '1', LAYERS + CALIBRATION),
    ('layers/frozen.py', 'get((layer.width, key))', 'get((1.0, key))', FROZEN),
    ('layers/frozen.py', 'and not is_grad_enabled()', '', FROZEN),
    ('layers/frozen.py', ' or layer is not kept.layer', '', FROZEN),
    ('layers/frozen.py', 'else copied', 'else operands', FROZEN),
    ('layers/watched_tensors.py', 'tensors.get(name) is not tensor', 'False', FROZEN),
    ('layers/watched_tensors.py', 'write_count(tensor) != writes', 'False', FROZEN),
    ('layers/width.py', 'self._kept.found.clear()', 'pass', FROZEN),
    ('layers/statistics.py', 'delta.square() * self.count * count / total', '0', CALIBRATION),
    ('layers/statistics.py', '(total - 1).clamp(min=1)', 'total', CALIBRATION),
    ('engine/calibration.py', 'scales[index % len(scales)]', 'scales[0]', CALIBRATION),
    ('engine/calibration.py', 'norm.pooled = None', 'pass', CALIBRATION),
    ('engine/calibration.py', 'model.train(was_training)', 'pass', CALIBRATION),
    ('engine/sampling.py', '(self.seed, iteration)', '(0, iteration)', SAMPLING),
    ('engine/sampling.py', 'replace=False', 'replace=True', SAMPLING),
    ('engine/sampling.py', 'float(rng.choice(self.scales))', 'self.scales[0]', SAMPLING),
    ('engine/rescale.py', 'antialias=True', 'antialias=False', RESCALE),
    ('engine/rescale.py', 'instances.bboxes.clone()', 'instances.bboxes', RESCALE),
    ('engine/rescale.py', "mode='nearest'", "mode='bilinear'", RESCALE),
    ('engine/rescale.py', 'return max(height, 1), max(width, 1)', 'return height, width', RESCALE),
    ('engine/shared_masks.py', 'new[1] / self.old[1],', 'new[0] / self.old[0],', RESCALE),
    ('engine/shared_masks.py', 'return masks.copy()', 'return masks', RESCALE),
    ('engine/shared_masks.py', '/= self.rescaling.factor[1]', '/= self.rescaling.factor[0]', RESCALE),
    ('engine/shared_masks.py', 'if device not in self._moved', 'if True', RESCALE),
    ('engine/pass_losses.py', 'for name in self.terms', 'for name in self.terms[:1]', HOOK),
    ('engine/iteration.py', 'loss * factor', 'loss', HOOK),
    ('engine/iteration.py', 'use_layer_width(layers, subnet.width)', 'use_layer_width(layers, 1.0)', HOOK),
    ('engine/iteration.py', 'and teacher is not None', 'and False', HOOK),
    ('engine/iteration.py', 'data.update(copy.deepcopy(data, kept))', 'pass', HOOK),
    ('engine/iteration.py', 'optim_wrapper.zero_grad()', 'pass', HOOK),
    ('engine/iteration.py', 'del data, losses, output, loss, log', 'pass', HOOK),
    ('upstream.py', "former['_inner_count'] += 1", 'pass', ('tests/test_upstream.py',)),
    ('engine/distillation/base.py', 'output.detach()', 'output', HOOK),
    ('engine/distillation/pearson.py', 'flat - flat.mean(1, keepdim=True)', 'flat', HOOK),
    ('engine/distillation/roi.py', 'rois[:, 1:] * table[images]', 'rois[:, 1:]', HOOK),
    ('engine/distillation/roi.py', '(foreground * distances)', 'distances', HOOK),
    ('engine/hooks/mutual_learning_hook.py', 'self.sampler.seed = runner.seed', 'pass', (*HOOK, *RESUME)),
    ('engine/loss_guard.py', 'buffer.copy_(former)', 'pass', HOOK),
    ('engine/pass_losses.py', 'if not math.isfinite(number)', 'if math.isnan(number)', HOOK),
    ('engine/hooks/iteration_seed_hook.py', '_seed(runner.seed, runner.iter, TRAINING)', 'pass', (*HOOK, *RESUME)),
    ('engine/loops/subnet_loops.py', 'dict(self.results[self.reference])', '{}', LOOPS),
    ('engine/loops/subnet_loops.py', 'for subnet in reversed([', 'for subnet in list([', LOOPS),
    ('engine/loops/evaluators.py', 'copy.deepcopy(evaluator', 'copy.copy(evaluator) or (evaluator', LOOPS),
    ('config/scaled_pipeline.py', 'copy.deepcopy(config)', 'config', SCALE),
    ('slimming/operations.py', 'if any(ids.size(dim) > 1 for dim in dims):', 'if False:', PLAN),
    ('slimming/channel_ids.py', 'if not is_wide:', 'if False:', PLAN),
    ('slimming/planner.py', 'self.groups.require(vector, per_group)', 'pass', PLAN),
    ('slimming/planner.py', '                self._check_narrow(feed)\n', '                pass\n', PLAN),
    ('slimming/narrow_trace.py', 'if not _is_close(value, whole):', 'if False:', PLAN),
    ('slimming/dry_run.py', 'return noise(output, *output.shape)', 'return output', PLAN),
    ('slimming/channel_order.py', 'index.to(tensor.device)', 'index', DEVICES),
    ('engine/distillation/roi.py', '.to(rois, non_blocking=True)', '', DEVICES),
)  # fmt: skip


def main() -> None:
    """Try each mutant; list those that no test detects."""
    parser = argparse.ArgumentParser(description='Run the tests on changed copies of the core')
    parser.add_argument('--only', default='', help='run only mutants whose file or text contains this')
    args = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if args.only in f'{mutant[0]} {mutant[1]}']
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'copy'
        ignored = shutil.ignore_patterns('.venv', '.git', 'data', 'work_dirs', '__pycache__', '.hypothesis')
        shutil.copytree(ROOT, copy, ignore=ignored)
        shutil.copytree(ROOT / 'tests' / 'data', copy / 'tests' / 'data', dirs_exist_ok=True)
        for name, old, new, tests in chosen:
            start = time.perf_counter()
            caught = is_caught(copy, copy / 'mmmutual' / name, old, new, tests)
            spent = f'{time.perf_counter() - start:.0f} s'
            print(
                f'{"caught  " if caught else "SURVIVED"} {name}: {old.strip()} -> {new.strip()} ({spent})', flush=True
            )
            survived += [] if caught else [name]
    print(f'{len(chosen) - len(survived)} of {len(chosen)} mutants caught')


def is_caught(copy: Path, path: Path, old: str, new: str, tests: tuple[str, ...]) -> bool:
    """Whether a test fails on the changed file."""
    whole = path.read_text()
    if whole.count(old) < 1:
        raise SystemExit(f'{path.name} does not contain {old!r}: bring the list up to date')
    path.write_text(whole.replace(old, new, 1))
    environment = {**os.environ, 'PYTHONPATH': str(copy), 'OMP_NUM_THREADS': '1', 'PYTHONDONTWRITEBYTECODE': '1'}
    command = [sys.executable, '-m', 'pytest', '-x', '-p', 'no:cacheprovider', *tests]
    try:
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=1200).returncode == 1
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(whole)


if __name__ == '__main__':
    main()
