from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from sightline.config import Config
from sightline.errors import SettingsError, SightlineError
from sightline.run.audit import AuditResult, audit, audit_prepared
from sightline.run.prepare import prepare


def flagged(result: AuditResult, name: str) -> list[str]:
    finding = next(one for one in result.to_json()["findings"] if one["name"] == name)
    return sorted(image["path"] for image in finding["images"])


def found(result: AuditResult) -> set[str]:
    return {one.name for one in result.findings if one.count}


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.fixture
def planted(make_folder: Callable[..., Path]) -> Path:
    """A sound folder with one of each defect in class red."""
    folder = make_folder("photos", {"blue": 40, "red": 40}, side=32)
    red, picture = folder / "red", Image.open(folder / "red" / "red-000.png")
    picture.save(red / "z-cut.jpg")
    (red / "z-cut.jpg").write_bytes((red / "z-cut.jpg").read_bytes()[:300])
    Image.open(folder / "blue" / "blue-003.png").save(red / "z-twin.png")
    Image.new("RGB", (32, 32)).save(red / "z-black.png")
    Image.new("RGB", (32, 32), "white").save(red / "z-white.png")
    shapes = Image.new("RGB", (32, 32), (200, 60, 40))
    ImageDraw.Draw(shapes).ellipse((4, 8, 24, 28), fill=(40, 60, 200))
    shapes.filter(ImageFilter.GaussianBlur(3)).save(red / "z-blurred.png")
    Image.open(red / "red-001.png").convert("L").save(red / "z-grey.png")
    frames = [Image.open(red / f"red-00{i}.png").rotate(40) for i in (4, 5)]
    frames[0].save(red / "z-animated.gif", save_all=True, append_images=frames[1:])
    hidden = np.dstack([np.asarray(Image.open(red / "red-006.png").rotate(70)), np.full((32, 32), 255, dtype=np.uint8)])
    hidden[:9, :9, 3] = 0
    Image.fromarray(hidden).save(red / "z-hidden.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(red / "red-007.png").rotate(20).save(red / "z-turned.jpg", exif=exif, quality=95)
    return folder


def test_each_planted_defect_is_found(planted: Path) -> None:
    before = listing(planted)
    result = audit(planted)
    assert flagged(result, "unreadable") == ["red/z-cut.jpg"]
    assert flagged(result, "exact-twins") == flagged(result, "conflicts") == ["blue/blue-003.png", "red/z-twin.png"]
    assert flagged(result, "low-information") == ["red/z-black.png", "red/z-white.png"]
    assert flagged(result, "dark") == ["red/z-black.png"]
    assert flagged(result, "bright") == ["red/z-white.png"]
    assert "red/z-blurred.png" in flagged(result, "blur")
    assert "red/z-grey.png" in flagged(result, "colour")
    assert flagged(result, "animation") == ["red/z-animated.gif"]
    assert flagged(result, "hidden-alpha") == ["red/z-hidden.png"]
    assert flagged(result, "rotated") == ["red/z-turned.jpg"]
    assert listing(planted) == before
    record = result.to_json()
    assert (record["found"], record["used"], sum(record["quarantined"].values())) == (89, 88, 1)


def test_a_sound_folder_is_silent_and_passes_strict(make_folder: Callable[..., Path]) -> None:
    result = audit(make_folder("photos", {"blue": 20, "green": 14, "red": 18}))
    assert found(result) == set()
    assert result.strict_failures() == []
    assert "52 images: 52 used" in result.text()
    assert "every class" in result.text()


def test_strict_fails_for_what_needs_a_person_and_not_for_what_is_unusual(planted: Path) -> None:
    failures = " ".join(audit(planted).strict_failures())
    for title in (
        "cannot be used: 1",
        "twins with different labels: 2",
        "blank or nearly so: 2",
        "animations and pages: 1",
        "hidden transparency: 1",
    ):
        assert title in failures
    for title in ("dark", "blurred", "grey", "exact twins", "turned"):
        assert title not in failures


def test_out_gets_the_record_and_a_page_with_its_pictures(planted: Path, tmp_path: Path) -> None:
    result = audit(planted, out=tmp_path / "told" / "here")
    assert json.loads((tmp_path / "told" / "here" / "audit.json").read_text()) == result.to_json()
    page = (tmp_path / "told" / "here" / "audit.html").read_text()
    assert "red/z-twin.png" in page
    assert '"pictures":["' in page


def test_nothing_is_written_among_the_images(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing(planted)
    for place in (planted, planted / "audit", planted / "red" / "x"):
        with pytest.raises(SettingsError, match="never written to: choose another place with --out"):
            audit(planted, out=place)
    monkeypatch.chdir(planted)
    with pytest.raises(SettingsError, match="never written to"):
        audit(planted, out="audit")
    assert listing(planted) == before


def test_settings_that_do_nothing_are_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"An audit reads the settings of data and split only: leave train\.epochs out"):
        audit(folder, ["train.epochs=3"])
    with pytest.raises(SettingsError, match=r"data\.mean has no effect"):
        audit(folder, ["data.mean=[0.5,0.5,0.5]"])
    with pytest.raises(SettingsError, match=r"split\.repair has no effect"):
        audit(folder, ["split.repair=drop"])


def _leaking(make_folder: Callable[..., Path]) -> Path:
    make_folder("photos/train", {"blue": 20, "red": 20}, seed=1)
    folder = make_folder("photos/test", {"blue": 8, "red": 8}, seed=2).parent
    for i in range(3):
        Image.open(folder / "train" / "red" / f"red-00{i}.png").save(folder / "test" / "red" / f"copy-{i}.png")
    return folder


def test_a_leaking_split_is_an_error_that_repair_mends(make_folder: Callable[..., Path]) -> None:
    folder = _leaking(make_folder)
    result = audit(folder)
    assert flagged(result, "leakage") == [f"test/red/copy-{i}.png" for i in range(3)]
    assert "twins across splits: 3" in result.strict_failures()
    leak = next(one for one in result.to_json()["findings"] if one["name"] == "leakage")
    assert leak["images"][0]["with"] == "train/red/red-000.png"
    assert "3 of 19 images in test" in leak["found"]
    mended = audit(folder, ["split.repair=drop"])
    assert "leakage" not in found(mended)
    assert (mended.to_json()["quarantined"], mended.to_json()["left_out"]) == ({}, {"twin in test or val": 3})


def test_the_split_is_that_of_training(folder: Path) -> None:
    prepared = prepare(folder, Config())
    assert audit_prepared(prepared).to_json() == audit(folder).to_json()


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_one_hundred_per_cent_twins_are_told(tmp_path: Path) -> None:
    picture = Image.effect_noise((16, 16), 90).convert("RGB")
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            picture.save(tmp_path / "photos" / name / f"{i}.png")
    result = audit(tmp_path / "photos")
    assert {"exact-twins", "conflicts", "balance"} <= found(result)
    assert any(note.startswith("It cannot be trained on as it is: No image is left") for note in result.to_json()["notes"])
    assert result.text()


def test_a_class_that_only_test_has_is_quarantined(make_folder: Callable[..., Path]) -> None:
    make_folder("photos/train", {"blue": 20, "red": 20}, seed=1)
    make_folder("photos/test", {"blue": 8, "red": 8, "green": 4}, seed=2)
    result = audit(make_folder("photos/train", {}).parent)
    assert result.to_json()["quarantined"] == {"class is not in train": 4}
    assert flagged(result, "unreadable") == [f"test/green/green-00{i}.png" for i in range(4)]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="There is no folder"):
        audit(tmp_path / "nowhere")


def test_one_class_is_audited_and_told(make_folder: Callable[..., Path]) -> None:
    result = audit(make_folder("photos", {"blue": 12}))
    assert "Only one class, blue, has images that can be used" in result.text(200)
    assert result.strict_failures() == ["classes that cannot be judged: 12"]


@pytest.mark.parametrize("classes", [["cat"], ["cat", "dog"]])
def test_nothing_but_broken_files_is_a_finding(tmp_path: Path, classes: list[str]) -> None:
    for name in classes:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "photos" / name / f"{i}.jpg").write_bytes(b"broken" * i)
    result = audit(tmp_path / "photos", out=tmp_path / "out")
    assert found(result) == {"unreadable"}
    assert f"0 used, {2 * len(classes)} quarantined" in result.text()
    assert (tmp_path / "out" / "audit.html").exists()


def test_all_black_images_are_audited(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (16 + i, 20)).save(tmp_path / "photos" / name / f"{i}.png")
    result = audit(tmp_path / "photos")
    assert {"low-information", "dark", "conflicts"} <= found(result)
