"""Detect within a budget: python demo/adaptive_demo.py [IMAGE, FOLDER or VIDEO ...] --budget-ms 20, or --web."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mmmutual.checkpoint import latest_checkpoint
from mmmutual.engine import clear_errors
from mmmutual.evaluation.plotting import class_colors, draw_instances
from mmmutual.inference import AdaptiveInferencer, find_images
from mmmutual.inference.image_folder import IMG_EXTENSIONS
from mmmutual.moved_names import RenamedOption
from mmmutual.progress import Progress

CONFIG = 'configs/mutual_mask_rcnn_r18_shapes.py'
WORK_DIR = Path('work_dirs/mutual_mask_rcnn_r18_shapes')
IMAGES = Path('data/shapes/val')  # written by `make demo`, as the files of the config's work dir
PIXELS = 480  # small images are enlarged to about this size, so that names are readable
VIDEO_EXTENSIONS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')
KNOWN = (*IMG_EXTENSIONS, *VIDEO_EXTENSIONS)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Detect objects with the sub-network that fits a budget')
    parser.add_argument(
        'inputs', nargs='*', type=Path, default=[IMAGES], help=f'images, folders, videos; default: {IMAGES}'
    )
    parser.add_argument('--config', default=CONFIG, help=f'config file, or mmdet::NAME; default: {CONFIG}')
    parser.add_argument('--checkpoint', type=Path, help=f'checkpoint file; default: the last one in {WORK_DIR}')
    parser.add_argument('--table', type=Path, help=f'query table; default: {WORK_DIR}/query_table/table.json')
    parser.add_argument('--budget-ms', type=float, help='highest latency in the query table, in milliseconds')
    parser.add_argument('--budget-multiply-adds', type=float, help='most multiply-adds of one image, for example 250e6')
    parser.add_argument('--budget-flops', type=float, dest='budget_multiply_adds', action=RenamedOption)
    parser.add_argument('--target-ms', type=float, help='latency to keep, as measured, in milliseconds')
    parser.add_argument('--width', type=float, help='width multiplier')
    parser.add_argument('--scale', type=float, help='input scale')
    parser.add_argument('--score-thr', type=float, default=0.5, help='hide detections below this score; default: 0.5')
    parser.add_argument('--device', help="for example 'cpu' or 'cuda:0'; default: a GPU if there is one")
    parser.add_argument(
        '--out-dir',
        type=Path,
        default=Path('work_dirs/adaptive_demo'),
        help='folder for the pictures; default: work_dirs/adaptive_demo',
    )
    parser.add_argument('--web', action='store_true', help='open a page with a budget slider instead')
    parser.add_argument('--port', type=int, default=7860, help='port of the page; default: 7860')
    return parser.parse_args()


def load(args: argparse.Namespace) -> AdaptiveInferencer:
    """Load the inferencer from the given files, or from those that ``make demo`` writes."""
    checkpoint, table = args.checkpoint, args.table
    if checkpoint is None:
        checkpoint = latest_checkpoint(WORK_DIR) if args.config == CONFIG else None
        if checkpoint is None:
            raise FileNotFoundError('no checkpoint: pass --checkpoint, or train the example with `make demo`')
        default_table = WORK_DIR / 'query_table' / 'table.json'
        table = table or (default_table if default_table.is_file() else None)
    return AdaptiveInferencer(args.config, checkpoint, device=args.device, show_progress=False, table=table)


def find(inputs: list[Path]) -> list[Path]:
    """List images and videos; those of a folder are sorted by name."""
    files = []
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f'there is no {path} on this machine')
        if path.is_dir():
            files += find_images(path, KNOWN)
        elif path.suffix.lower() in KNOWN:
            files.append(path)
        else:
            raise ValueError(f'{path} is not an image or video; supported are {", ".join(KNOWN)}')
    return files


def detect(inferencer: AdaptiveInferencer, image: np.ndarray, score_thr: float, **choice) -> tuple[np.ndarray, dict]:
    """Detect on one image.

    Args:
        inferencer: The detector.
        image: (H, W, 3) in BGR.
        score_thr: Detections below this score are left out.
        **choice: As the inferencer's call, for example ``budget_ms``.

    Returns:
        The image in RGB with its detections, small ones enlarged; and width, scale and latency of the sub-network.
    """
    result = inferencer(image, return_datasamples=True, **choice)
    instances = result['predictions'][0].cpu().pred_instances
    meta = inferencer.visualizer.dataset_meta
    colors = class_colors(meta['classes'], meta.get('palette'))
    factor = max(1, PIXELS // max(image.shape[:2]))
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    picture = draw_instances(rgb, instances, colors, meta['classes'], score_thr, factor=factor)
    return picture, result['subnets'][0]


def caption(picture: np.ndarray, subnet: dict) -> np.ndarray:
    """The picture with a line of text below: the sub-network and its latency."""
    text = f'width {subnet["width"]:g}  scale {subnet["scale"]:g}  {subnet["latency_ms"]:.1f} ms'
    height = max(24, picture.shape[0] // 20)
    strip = np.zeros((height, picture.shape[1], 3), np.uint8)
    size = height / 40
    cv2.putText(strip, text, (6, round(height * 0.7)), cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3, 1, cv2.LINE_AA)
    return np.vstack((picture, strip))


def read_image(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) in BGR."""
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f'{path} cannot be read as an image')
    return image


def read_video(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """The frames of a video, each (H, W, 3) in BGR."""
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame


def run_video(inferencer: AdaptiveInferencer, path: Path, out: Path, score_thr: float, **choice) -> None:
    """Detect on each frame of a video, and write the pictures as a video."""
    capture = cv2.VideoCapture(str(path))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    writer = None
    for frame in Progress(read_video(capture), path.name, total if total > 0 else None, unit='frame'):
        picture, subnet = detect(inferencer, frame, score_thr, **choice)
        picture = caption(picture, subnet)
        if writer is None:
            codec, rate = cv2.VideoWriter_fourcc(*'mp4v'), capture.get(cv2.CAP_PROP_FPS) or 25
            writer = cv2.VideoWriter(str(out), codec, rate, picture.shape[1::-1])
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if writer is None:
        raise ValueError(f'{path} cannot be read as a video')
    writer.release()


def run(inferencer: AdaptiveInferencer, args: argparse.Namespace) -> None:
    """Detect on all images and videos, and write the pictures."""
    files = find(args.inputs)
    names = ('budget_ms', 'budget_multiply_adds', 'target_ms', 'width', 'scale')
    choice = {name: getattr(args, name) for name in names}
    args.out_dir.mkdir(parents=True, exist_ok=True)
    images = [file for file in files if file.suffix.lower() in IMG_EXTENSIONS]
    for file in Progress(images, 'images', unit='image', disable=not images):
        picture, subnet = detect(inferencer, read_image(file), args.score_thr, **choice)
        cv2.imwrite(str(args.out_dir / f'{file.stem}.jpg'), cv2.cvtColor(caption(picture, subnet), cv2.COLOR_RGB2BGR))
    for file in files:
        if file not in images:
            run_video(inferencer, file, args.out_dir / f'{file.stem}.mp4', args.score_thr, **choice)
    print(f'pictures: {args.out_dir}')


def main() -> None:
    """Load, then detect or open the page."""
    args = parse_args()
    with clear_errors():
        if args.web:
            from web import check_gradio, serve

            check_gradio()
            serve(load(args), find(args.inputs), args.score_thr, args.port)
        else:
            run(load(args), args)


if __name__ == '__main__':
    main()
