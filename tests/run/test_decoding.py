"""How large pictures are stored, before there is a network."""

from __future__ import annotations

import math
import subprocess
import sys

from sightline.run.decoding import side_for_crop


def test_the_central_square_of_a_4_to_3_picture_keeps_its_pixels() -> None:
    assert [side_for_crop(size) for size in (3, 28, 224)] == [4, 38, 299]
    assert all(math.floor(side_for_crop(size) * 3 / 4) >= size for size in range(8, 500, 3))


def test_what_decodes_needs_no_torch() -> None:
    code = (
        "import sys, sightline.data.store, sightline.data.table, sightline.run.decoding, sightline.run.ahead; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
