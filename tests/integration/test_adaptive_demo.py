"""The demo as a user runs it, on a tiny detector; its page in a headless Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.registry import MODELS

from mmmutual.engine import calibrate
from mmmutual.evaluation import MeasuredSubnet, QueryTable
from tests.support.tiny import build_runner, tiny_config

WIDTHS = (1.0, 0.25)


@pytest.fixture(scope='module')
def setting(tiny_data, tmp_path_factory):
    """A config, a checkpoint and a table of four sub-networks, 10 to 40 ms; a video of the images."""
    folder = tmp_path_factory.mktemp('demo')
    config = tiny_config(tiny_data, folder / 'work')
    model = MODELS.build(config.model)
    model.init_weights()
    calibrate(model, list(build_runner(config.copy()).train_dataloader)[:2], widths=WIDTHS)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=list(config.classes)))),
        folder / 'model.pth',
    )
    config.dump(folder / 'config.py')
    subnets = [
        MeasuredSubnet(
            width, scale, round(40e6 * (width + scale) / 2), 1, {'box mAP': (width + scale) / 4}, 20 * (width + scale)
        )
        for width in WIDTHS
        for scale in (1.0, 0.5)
    ]
    context = dict(
        config='', checkpoint='', checkpoint_sha256='', size=[64, 64], device='', threads=1, batch_size=1, versions={},
        created='',
    )  # fmt: skip
    QueryTable(tuple(subnets), context).save(folder / 'table.json')
    writer = cv2.VideoWriter(str(folder / 'video.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 64))
    for image in sorted((tiny_data / 'val').iterdir()):
        writer.write(cv2.imread(str(image)))
    writer.release()
    return folder


def command(setting, *arguments) -> list[str]:
    demo = os.path.join(os.path.dirname(__file__), '..', '..', 'demo', 'adaptive_demo.py')
    files = ('--config', 'config.py', '--checkpoint', 'model.pth', '--table', 'table.json', '--device', 'cpu')
    return [sys.executable, demo, *files, *map(str, arguments)]


def demo(setting, *arguments, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(setting, *arguments), cwd=setting, capture_output=True, text=True, timeout=240, **kwargs
    )


def test_images_and_videos_are_drawn_with_the_subnet(setting, tiny_data):
    result = demo(setting, tiny_data / 'val', 'video.mp4', '--budget-ms', 31, '--score-thr', 0.1, '--out-dir', 'out')
    assert result.returncode == 0, result.stderr
    assert 'pictures: out' in result.stdout
    names = {path.stem for path in (tiny_data / 'val').iterdir()}
    assert {path.name for path in (setting / 'out').iterdir()} == {f'{name}.jpg' for name in names} | {'video.mp4'}
    picture = cv2.imread(str(setting / 'out' / f'{min(names)}.jpg'))
    assert picture.shape == (448 + 24, 448, 3)  # 64 px, enlarged seven times, and the strip of text
    capture = cv2.VideoCapture(str(setting / 'out' / 'video.mp4'))
    frames = [capture.read() for _ in range(5)]
    assert [there for there, _ in frames] == [True] * 4 + [False]
    assert frames[0][1].shape == (472, 448, 3)


def test_wrong_input_is_one_sentence(setting, tiny_data):
    (setting / 'empty').mkdir(exist_ok=True)
    for arguments, message in (
        (
            (tiny_data / 'val', '--budget-ms', 1),
            'error: no sub-network fits a budget of 1.0 ms: the cheapest is width 0.25',
        ),
        (('nowhere.jpg',), 'error: there is no nowhere.jpg on this machine'),
        (('empty',), 'error: the folder empty has no file that ends in one of .jpg'),
    ):
        result = demo(setting, *arguments)
        assert result.returncode == 1 and message in result.stderr and 'Traceback' not in result.stderr


def test_without_gradio_the_page_says_what_to_install(setting, tmp_path, tiny_data):
    (tmp_path / 'gradio.py').write_text("raise ImportError('no gradio in this test')")
    result = demo(setting, tiny_data / 'val', '--web', env={**os.environ, 'PYTHONPATH': str(tmp_path)})
    assert result.returncode == 1
    assert 'error: --web needs Gradio, which does not import here (no gradio in this test)' in result.stderr
    assert 'pip install -r requirements/demo.txt' in result.stderr


@pytest.fixture
def browser():
    """A headless Chromium."""
    pytest.importorskip('gradio', reason='the page needs Gradio: pip install -r requirements/demo.txt')
    webdriver = pytest.importorskip('selenium.webdriver', reason='needs selenium: pip install -r requirements/demo.txt')
    program, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if program is None or driver is None:
        pytest.skip('the page is tested in Chromium: apt-get install chromium chromium-driver')
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--window-size=1280,1000'):
        options.add_argument(argument)
    window = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield window
    window.quit()


def wait_for_page(address: str, server: subprocess.Popen, log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f'no page at {address} after {seconds} s: {log.read_text()}')


@pytest.fixture
def address(setting, tiny_data):
    """Where the demo serves its page."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    arguments = (tiny_data / 'val', '--web', '--port', port, '--score-thr', 0.1)
    with open(setting / 'web.log', 'w') as log:
        server = subprocess.Popen(
            command(setting, *arguments), cwd=setting, stdout=log, stderr=log,
            env={**os.environ, 'GRADIO_ANALYTICS_ENABLED': 'False'},
        )  # fmt: skip
    try:
        wait_for_page(f'http://127.0.0.1:{port}', server, setting / 'web.log')
        yield f'http://127.0.0.1:{port}'
    finally:
        server.terminate()
        server.wait(20)


def test_the_slider_of_the_page_chooses_the_subnet(browser, address):
    """From a budget of 25 ms to the fastest sub-network, to none that fits, and to the best one."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def wait_for(text: str) -> None:
        wait = WebDriverWait(browser, 60)
        wait.until(lambda _: text in browser.find_element(By.ID, 'chosen').text, f'{text!r} did not appear')

    def set_budget(value: float) -> None:
        number = browser.find_element(By.CSS_SELECTOR, 'input[type=number]')
        script = (
            'Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(arguments[0], arguments[1]);'
            'arguments[0].dispatchEvent(new Event("input", {bubbles: true}));'
            'arguments[0].dispatchEvent(new Event("change", {bubbles: true}));'
            'arguments[0].dispatchEvent(new Event("blur", {bubbles: true}));'
        )
        browser.execute_script(script, number, str(value))

    browser.get(address)
    wait_for('Ran width 0.25 at scale 1 in')
    assert '25.0 ms in the table' in browser.find_element(By.ID, 'chosen').text
    set_budget(42)
    wait_for('Ran width 1 at scale 1 in')
    set_budget(16)
    wait_for('Ran width 0.25 at scale 0.5 in')
    set_budget(14)
    wait_for('no sub-network fits a budget of 14.0 ms: the cheapest is width 0.25 at scale 0.5')
    set_budget(42)
    wait_for('Ran width 1 at scale 1 in')
    sources = [image.get_attribute('src') for image in browser.find_elements(By.CSS_SELECTOR, 'img')]
    assert any('/file=' in (source or '') for source in sources)
