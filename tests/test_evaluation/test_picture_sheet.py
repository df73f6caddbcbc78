"""The sheet that compares sub-networks is shown pixel by pixel."""

import matplotlib.image
import numpy as np

from mmmutual.evaluation.plotting.picture_sheet import GAP, TILE, TITLE, Sheet


def test_pictures_stand_side_by_side_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    low, tall = (rng.integers(0, 255, (2, height, TILE, 3), dtype=np.uint8) for height in (100, 400))
    sheet = Sheet(columns=2)
    sheet.start_block(['left', 'right'])
    sheet.add_row(low, ['', ''])
    sheet.add_row(tall, ['', ''])
    saved = matplotlib.image.imread(sheet.save(tmp_path / 'new' / 'sheet.png', legend={}))
    saved = (saved[..., :3] * 255).round().astype(np.uint8)
    assert saved.shape == (TITLE + 100 + 400 + 3 * GAP, 2 * TILE + 3 * GAP, 3)
    y = TITLE
    for row in (low, tall):
        for column, picture in enumerate(row):
            x = GAP + column * (TILE + GAP)
            assert np.array_equal(saved[y : y + picture.shape[0], x : x + TILE], picture)
        y += row.shape[1] + GAP


def test_notes_titles_and_the_legend_take_room(tmp_path):
    def saved(title: str, note: str, legend: dict) -> np.ndarray:
        sheet = Sheet(columns=1)
        sheet.start_block([title])
        sheet.add_row([np.zeros((80, TILE, 3), np.uint8)], [note])
        return matplotlib.image.imread(sheet.save(tmp_path / 'sheet.png', legend))

    plain = saved('', '', {})
    assert (plain[:TITLE] == 1).all() and (plain[TITLE : TITLE + 80, GAP : GAP + TILE, :3] == 0).all()
    titled = saved('width 0.5', 'nothing detected', {})
    assert (titled[:TITLE] != 1).any() and (titled[TITLE : TITLE + 80, GAP : GAP + TILE, :3] != 0).any()
    many = saved('', '', {f'class {index}': (255, 0, 0) for index in range(9)})
    assert many.shape[0] > saved('', '', {'class': (255, 0, 0)}).shape[0] > plain.shape[0]
