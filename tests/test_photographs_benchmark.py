"""The trainings, the tables and the page of benchmarks/photographs.py and benchmarks/resident_detectors.py."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

import photographs
import resident_detectors
from evidence import photograph_jobs
from evidence.photograph_jobs import BOOSTING, EPOCHS, SCALES, Job, annotations_of_training_images, jobs_of
from evidence.photograph_tables import TABLES, format_tables, select, total_compute, trainings
from evidence.trainings import WIDTHS

COSTS = {(width, scale): width * scale for width in (*WIDTHS, *BOOSTING) for scale in SCALES}


def result_of(*values: float, training: float = 0.9, widths: tuple[float, ...] = WIDTHS) -> dict:
    """Full scale has the values, half the scale half of them."""
    rows = [
        {'width': width, 'scale': scale, 'multiply_adds': 1e6 * width * scale, 'box mAP': value * scale}
        for scale in (1.0, 0.5)
        for width, value in zip(widths, values)
    ]
    fitted = [{**row, 'box mAP': training} for row in rows if row['scale'] == 1]
    return dict(training=dict(iterations=3, seconds=1.0), rows=rows, training_images=fitted)


def test_the_cost_of_an_iteration_is_that_of_its_passes():
    scale = sum(SCALES) / 3
    assert Job(10).cost(COSTS) == pytest.approx(10 * (1 + 0.25 * scale + 2 * 0.625 * scale))
    assert Job(10, scales=(1.0,)).cost(COSTS) == pytest.approx(10 * (1 + 0.25 + 2 * 0.625))
    assert Job(10, widths=(1.0,)).cost(COSTS) == pytest.approx(10 * (1 + 3 * scale))
    assert Job(10, widths=BOOSTING).cost(COSTS) == pytest.approx(10 * (1 + 0.9 * scale + 2 * 0.95 * scale))
    assert Job(10, 'stock', (0.5,)).cost(COSTS) == 5


@pytest.mark.parametrize('data_set', EPOCHS)
def test_trainings_of_equal_compute_have_equal_compute(data_set):
    compute = {name: job.cost(COSTS) for name, job in jobs_of(data_set, COSTS).items()}
    expected = compute['US-Net']
    assert total_compute('independent', compute) == pytest.approx(expected)
    for name in ('MutualNet, equal compute', 'elastic', 'independent 1, equal compute'):
        assert total_compute(name, compute) == pytest.approx(expected, rel=0.04), name


def test_each_training_is_in_a_table():
    shown = {name for methods, _ in TABLES.values() for name in trainings(methods)}
    assert shown == set(jobs_of('bccd', COSTS))


@pytest.fixture
def runs():
    return {
        'independent 1': {'0': result_of(0.5, widths=(1.0,)), '1': result_of(0.7, widths=(1.0,))},
        'MutualNet': {'0': result_of(0.6, 0.5, 0.4, 0.3), '1': result_of(0.6, 0.5, 0.4, 0.3, training=0.7)},
        'US-Net': {'0': result_of(0.4, 0.3, 0.2, 0.1)},
    }


def test_a_table_pairs_the_seeds_that_all_of_its_trainings_have(runs):
    assert len(select(runs, ('MutualNet', 'independent 1'), 'rows')['MutualNet']) == 2
    assert len(select(runs, ('MutualNet', 'US-Net', 'independent'), 'rows')['MutualNet']) == 1
    assert [*select(runs, ('MutualNet', 'independent'), 'rows')] == ['MutualNet']  # width 0.5 alone is missing
    assert select({}, ('MutualNet',), 'rows') == {}
    compute = dict.fromkeys(jobs_of('bccd', COSTS), 10.0)
    del runs['US-Net']
    text = format_tables(runs, compute)
    assert text.startswith('**The full network, box mAP, seeds 0, 1**')
    assert '| independent 1 | 10 | 0.600 ± 0.100 | 0.900 ± 0.000 | 0.300 |  |' in text
    assert '| MutualNet | 10 | 0.600 ± 0.000 | 0.800 ± 0.100 | 0.200 | +0.000 (-0.100 to +0.100) |' in text


def test_a_training_of_another_seed_hides_no_table(runs):
    compute = dict.fromkeys(jobs_of('bccd', COSTS), 10.0)
    runs['boosting'] = {'2': result_of(0.5, widths=(1.0,))}
    assert format_tables(runs, compute).startswith('**Equal steps, box mAP, seeds 0**')


def test_without_results_there_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(photographs, 'relative_costs', lambda *_: COSTS)
    arguments = ['--data', 'nowhere', '--data-sets', 'bccd', '--no-training', '--work-dir', str(tmp_path / 'work')]
    monkeypatch.setattr('sys.argv', ['photographs.py', *arguments])
    photographs.main()
    assert capsys.readouterr().out.strip() == f'{tmp_path}/work/bccd has no results yet'
    monkeypatch.setattr('sys.argv', ['photographs.py', *arguments, '--jobs', 'mutual'])
    with pytest.raises(SystemExit, match=r"--jobs must be out of \['independent 1', .* but got \['mutual'\]"):
        photographs.main()


def test_tables_of_equal_steps_and_of_fitting(runs):
    compute = dict.fromkeys(jobs_of('bccd', COSTS), 10.0)
    text = format_tables({name: runs[name] for name in ('MutualNet', 'US-Net')}, compute)
    assert '| MutualNet | 0.600 ± 0.000 | 0.500 ± 0.000 | 0.400 ± 0.000 | 0.300 ± 0.000 | 0.225 ± 0.000' in text
    assert '| 0.25 | 0.5 | 0 | 0.150 ± 0.000 | 0.050 ± 0.000 | +0.100 (+0.100 to +0.100) |' in text
    assert '| scale | MutualNet over US-Net |' in text and '| 0.5 | +0.100 (+0.100 to +0.100) |' in text
    assert '| US-Net | 0.500 ± 0.000 | 0.600 ± 0.000 | 0.700 ± 0.000 | 0.800 ± 0.000 | 0.650 ± 0.000 |' in text


def test_a_training_from_the_stock_detector_counts_it():
    compute = {'independent 1': 16.0, 'elastic': 20.0, 'MutualNet': 30.0}
    assert total_compute('elastic', compute) == 36
    assert total_compute('MutualNet', compute) == 30


def test_results_are_found_by_training_and_seed(tmp_path):
    jobs = dict.fromkeys(('MutualNet', 'MutualNet, equal compute'), Job(1))
    for folder, value in (('MutualNet_0', 1), ('MutualNet_equal_compute_2', 2), ('other_0', 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'result.json').write_text(f'{value}')
    (tmp_path / 'MutualNet_1').mkdir()  # a training that was interrupted
    assert photographs.collect(tmp_path, jobs) == {'MutualNet': {'0': 1}, 'MutualNet, equal compute': {'2': 2}}


def test_two_processes_do_not_run_the_same_training(tmp_path):
    path = tmp_path / 'work' / 'MutualNet_0.lock'
    with photographs.claimed(path) as first:
        with photographs.claimed(path) as second:
            assert (first, second) == (True, False)
    with photographs.claimed(path) as again:
        assert again


def test_training_images_are_as_many_as_validation_images(tmp_path):
    (tmp_path / 'annotations').mkdir()
    for part, count in (('train', 9), ('val', 3)):
        images = [dict(id=index, file_name=f'{index}.jpg') for index in range(1, count + 1)]
        content = dict(images=images, annotations=[dict(id=index, image_id=index) for index in range(1, count + 1)])
        (tmp_path / 'annotations' / f'instances_{part}.json').write_text(json.dumps(content))
    found = json.loads(annotations_of_training_images(tmp_path, tmp_path).read_text())
    assert [image['id'] for image in found['images']] == [1, 5, 9]
    assert [annotation['image_id'] for annotation in found['annotations']] == [1, 5, 9]


@pytest.mark.parametrize(
    ('job', 'tools'),
    [
        (Job(3, 'stock', (0.5,)), ['train.py', 'test.py', 'test.py']),
        (Job(3, scales=(1.0,)), ['train.py', 'test.py', 'test.py']),
        (Job(2, 'elastic'), ['elastic.py', 'test.py', 'test.py']),
    ],
    ids=lambda value: value.tool if isinstance(value, Job) else '',
)
def test_a_job_runs_the_tools_and_keeps_its_sub_networks(job, tools, tmp_path, monkeypatch, root):
    calls = []
    folder = tmp_path / 'job'

    def call(tool, arguments, environment, log):
        calls.append((tool, arguments, environment))
        rows = [dict(width=1.0, scale=1.0, value=len(calls))]
        (folder / 'subnets.json').write_text(json.dumps(rows))
        (folder / 'vis_data').mkdir(exist_ok=True)
        records = [dict(loss=4.0 - step, time=0.5, step=step) for step in (1, 2)] + [{'coco/bbox_mAP': 0.4, 'step': 2}]
        (folder / 'vis_data' / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
        (folder / 'epoch_1.pth').touch()
        (folder / 'epoch_2.pth').touch()
        (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
        (folder / 'photographs.py').write_text('')

    monkeypatch.setattr(photograph_jobs, 'call', call)
    monkeypatch.setattr(photograph_jobs, 'annotations_of_training_images', lambda *_: Path('some.json'))
    monkeypatch.setattr(photograph_jobs, 'make_mutual', lambda *_: Config(dict(made='mutual')))
    (tmp_path / 'last_checkpoint').write_text('stock.pth')
    job.run(tmp_path / 'data', 'bccd', 7, folder, tmp_path)
    assert [tool for tool, *_ in calls] == tools
    (_, train, environment), (_, test, _), (_, on_training_images, _) = calls
    assert 'randomness.seed=7' in train
    assert environment['EPOCHS'] == f'{job.epochs}' and environment['DATA_SET'] == 'bccd'
    assert environment['WIDTH'] == ('0.5' if job.tool == 'stock' else '1.0')
    assert ('--mutual' in train) == (job.tool == 'mutual')
    assert ('stock.pth' in train) == (job.tool == 'elastic')
    config = {'stock': 'as_mutual.py', 'mutual': 'photographs.py', 'elastic': 'elastic_photographs.py'}[job.tool]
    assert test[:2] == [str(folder / config), str(folder / 'epoch_2.pth')]
    assert test[test.index('--scales') + 1 : test.index('--work-dir')] == ['1.0', '0.75', '0.5']
    assert test[test.index('--widths') + 1 : test.index('--scales')] == (
        ['1.0'] if job.tool == 'stock' else [*map(str, WIDTHS)]
    )
    assert 'test_evaluator.ann_file=some.json' in on_training_images
    result = json.loads((folder / 'result.json').read_text())
    width = 0.5 if job.tool == 'stock' else 1.0
    assert result['rows'] == [dict(width=width, scale=1.0, value=2)]
    assert result['training_images'] == [dict(width=width, scale=1.0, value=3)]
    assert result['training'] == dict(iterations=2, seconds=1.0, first_loss=3.0, last_loss=2.0)
    assert not (folder / 'epoch_1.pth').exists() and (folder / 'epoch_2.pth').exists()


def test_figures_of_resident_detectors_and_the_best_within_their_latencies():
    names = ('MutualNet', 'elastic', *(f'independent {width:g}' for width in WIDTHS))
    widths = {name: (float(name.split()[1]),) if ' ' in name else WIDTHS for name in names}
    runs = {name: {'0': result_of(*(width / 2 for width in widths[name]), widths=widths[name])} for name in names}
    kinds = (resident_detectors.SEPARATE, *resident_detectors.SHARED)
    figures = dict.fromkeys(kinds, dict(disk_mb=1.0, weights_mb=2.0, process_mb=3.0, switch_ms=0.1))
    latencies = [[kind, width, scale, 10 * width * scale] for kind in kinds for width in WIDTHS for scale in (1.0, 0.5)]
    found = dict(figures=figures, latencies=latencies)
    text = resident_detectors.format_tables(found, dict(compute=dict.fromkeys(names, 10.0), runs=runs))
    assert '|  | three detectors | elastic | MutualNet |' in text
    assert '| training, epochs of the stock detector | 30 | 20 | 10 |' in text
    assert '| memory of the process, MB | 3.00 | 3.00 | 3.00 |' in text
    half = ' | '.join(['0.250 ± 0.000'] * 4)
    assert f'| 5.0 ms, width 0.5 alone | {half} |' in text


def test_the_best_sub_network_within_a_latency():
    rows = result_of(0.6, 0.5, 0.4, 0.3)['rows']
    latencies = {('elastic', row['width'], row['scale']): 10 * row['width'] * row['scale'] for row in rows}
    arguments = (rows, latencies, 'elastic', 4.0, 'box mAP')
    assert resident_detectors.best(*arguments, (1.0,)) == 0.3
    assert resident_detectors.best(*arguments, (1.0, 0.5)) == 0.3
    assert resident_detectors.best(rows, latencies, 'elastic', 4.91, 'box mAP', (1.0, 0.5)) == 0.4


def test_sizes_are_those_of_the_weights():
    model = nn.Linear(10, 100)
    assert resident_detectors.weights_size(model) == 1100 * 4
    assert 1100 * 4 < resident_detectors.file_size(model) < 1100 * 4 + 4000


def test_resident_detectors_are_those_of_their_runs(tmp_path):
    for name in ('independent_1', 'independent_0.5', 'independent_0.25', 'elastic'):
        folder = tmp_path / f'{name}_0'
        folder.mkdir()
        (folder / 'result.json').touch()
        (folder / 'last_checkpoint').write_text(f'{name}.pth')
    found = resident_detectors.checkpoints(tmp_path, resident_detectors.SEPARATE, 0)
    assert {width: path.name for width, (_, path) in found.items()} == {
        1.0: 'independent_1.pth',
        0.5: 'independent_0.5.pth',
        0.25: 'independent_0.25.pth',
    }
    assert resident_detectors.checkpoints(tmp_path, 'elastic', 0)[1.0][0].name == 'elastic_photographs.py'
    with pytest.raises(SystemExit, match='MutualNet_0 has no finished training: run benchmarks/photographs.py first'):
        resident_detectors.checkpoints(tmp_path, 'MutualNet', 0)


def test_the_page_shows_the_runs_that_are_kept(root):
    pages = dict(bccd='results_photographs.md', nuclei='results_nuclei.md')
    folder = root / 'benchmarks' / 'results' / 'photographs'
    for data_set in EPOCHS:
        page = (root / 'docs' / pages[data_set]).read_text()
        kept = json.loads((folder / f'{data_set}.json').read_text())
        tables = format_tables(kept['runs'], kept['compute']).split('\n\n**')
        assert len(tables) > 3
        for table in tables:
            assert table.removeprefix('**') in page


@pytest.mark.parametrize(('data_set', 'classes'), [('bccd', 3), ('nuclei', 1)])
def test_the_config_has_the_classes_and_the_metrics_of_its_data(data_set, classes, root, monkeypatch):
    monkeypatch.setenv('DATA_SET', data_set)
    monkeypatch.setenv('DATA', 'some')
    monkeypatch.setenv('WIDTH', '0.5')
    config = Config.fromfile(root / 'benchmarks' / 'evidence' / 'photographs.py')
    assert config.model.backbone.base_channels == 16
    assert config.model.roi_head.bbox_head.num_classes == len(config.classes) == classes
    assert config.test_evaluator == config.val_evaluator
    assert config.val_evaluator.ann_file == f'some/{data_set}/annotations/instances_val.json'
    assert config.train_dataloader.dataset.ann_file == 'annotations/instances_train.json'
    assert ('mask_head' in config.model.roi_head) == ('segm' in config.val_evaluator.metric) == (data_set == 'nuclei')
