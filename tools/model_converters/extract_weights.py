"""Keep the weights of another program's checkpoint: python tools/model_converters/extract_weights.py FILE -o OUT."""

from __future__ import annotations

import argparse

from mmmutual.checkpoint.extract_weights import write_weights
from mmmutual.engine import clear_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Write the weights of a checkpoint to a file that all tools read, without its other content (for '
        'example command-line options or classes of other packages). No code of the checkpoint runs.'
    )
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('-o', '--out', required=True, help='file for the weights')
    return parser.parse_args()


def main() -> None:
    """Read, write, report."""
    args = parse_args()
    with clear_errors():
        state = write_weights(args.checkpoint, args.out)
    print(f'{args.out}: {len(state)} tensors, {sum(value.numel() for value in state.values()) / 1e6:.2f} M numbers')


if __name__ == '__main__':
    main()
