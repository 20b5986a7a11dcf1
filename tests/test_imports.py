"""The house holds: rooms import in one direction, and the door stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sightline

SOURCE = Path(sightline.__file__).parent
ORDER = [
    *(
        "errors",
        "yaml12",
        "settings",
        "config",
        "watched",
        "randomness",
        "processes",
        "threads",
        "device",
        "files",
        "data",
        "auditing",
        "models",
        "training",
    ),
    *("evaluation", "classifier", "reporting", "tuning", "export", "run", "serve", "cli", "__main__"),
]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The sightline rooms that a file imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sightline":
            names = [node.module] if node.module != "sightline" else [f"sightline.{alias.name}" for alias in node.names]
            found.update(name.split(".")[1] for name in names)
        elif isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("sightline."))
    return found


@pytest.mark.parametrize("path", [p for p in SOURCE.rglob("*.py") if p.name != "__init__.py"], ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_file_imports_only_from_its_own_room_and_those_above(path: Path) -> None:
    room = room_of(path)
    assert room in ORDER, f"{room} has no place in the order"
    for other in imports_of(path):
        assert ORDER.index(other) <= ORDER.index(room), f"{path.name} imports {other}, which lies below {room}"


def test_package_files_are_empty_but_for_the_front_door() -> None:
    for path in SOURCE.rglob("__init__.py"):
        assert path.parent == SOURCE or path.read_text() == "", path


def test_the_public_names_are_the_real_ones() -> None:
    for name in sightline.__all__:
        assert getattr(sightline, name).__name__ == name
        assert name in dir(sightline)
    assert set(sightline.__all__) == set(sightline._HOMES)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sightline.nonsense


@pytest.mark.parametrize("statement", ["import sightline", "import sightline.cli", "from sightline import Config"])
def test_the_door_and_the_command_line_are_light(statement: str) -> None:
    heavy = ["torch", "timm", "matplotlib", "sklearn", "scipy"]
    code = f"import sys; {statement}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_network_of_our_own_is_built_without_timm() -> None:
    code = (
        "import sys; from sightline.config import Config; from sightline.models.catalog import build, rebuild; "
        "rebuild(build(Config().model, 3, size=32).spec); print('timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_nothing_heavy_comes_before_images_are_decoded() -> None:
    code = (
        "import sys, sightline.run.train; from sightline.run.inert import refuse_what_does_nothing\n"
        "refuse_what_does_nothing({}, set(), [10, 10], False)\n"
        "print(sorted({'matplotlib', 'timm', 'torchvision', 'torch._dynamo', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
