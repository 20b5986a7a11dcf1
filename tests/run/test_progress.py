"""What a person sees while a command works, where nobody sees a bar."""

from __future__ import annotations

import pytest

from sightline.run.progress import Screen


def test_without_a_terminal_each_long_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        count = screen.counter("decoding")
        for done in range(1, 4):
            count(done, 3)
        screen.counter("pictures")(8, 8)  # done at once: nobody waited
        with screen.step("laying out test images"):
            pass
    assert capsys.readouterr().err.splitlines() == ["decoding ...", "laying out test images ..."]
