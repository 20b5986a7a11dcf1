from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from sightline.auditing import (
    alpha,
    animation,
    balance,
    blur,
    bright,
    colour,
    conflicts,
    dark,
    exact_twins,
    information,
    leakage,
    near_twins,
    rotation,
    size,
    unreadable,
)
from sightline.auditing.checks import CHECKS, run_checks
from sightline.auditing.finding import Finding
from sightline.auditing.material import Material
from sightline.data.split import make_split

Picture = npt.NDArray[np.uint8]
Make = Callable[..., Material]


def flagged(finding: Finding) -> list[int]:
    return np.flatnonzero(finding.flag).tolist()


def darkened(picture: Picture, factor: float) -> Picture:
    return (picture * factor).astype(np.uint8)


def blurred(picture: Picture, radius: float) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def washed_out(picture: Picture, factor: float) -> Picture:
    return (255 - (255 - picture.astype(np.float64)) * factor).astype(np.uint8)


def greyed(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


def as_jpeg(picture: Picture, quality: int = 60) -> Picture:
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def test_a_sound_folder_is_silent(make_material: Make, scenes: list[Picture]) -> None:
    assert {finding.name: flagged(finding) for finding in run_checks(make_material(scenes)) if finding.count} == {}


def test_every_check_has_a_name_of_its_own_and_says_something(make_material: Make, scenes: list[Picture]) -> None:
    findings = run_checks(make_material(scenes))
    assert len({finding.name for finding in findings}) == len({finding.title for finding in findings}) == len(CHECKS)
    assert all(finding.sentence.endswith(".") and not finding.advice for finding in findings)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__module__.rpartition(".")[2])
def test_a_folder_without_a_usable_image_can_be_checked(make_material: Make, check: Callable[[Material], Finding]) -> None:
    finding = check(make_material([], refused=["empty file"] * 3))
    assert finding.count == (3 if check is unreadable.check else 0)


# ---- what the decoder says -------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_told_with_their_reasons(make_material: Make, scenes: list[Picture]) -> None:
    finding = unreadable.check(make_material(scenes, refused=["empty file", "truncated", "empty file"]))
    assert (finding.count, finding.level) == (3, "error")
    assert "3 images of 43 cannot be used: 2 empty file; 1 truncated." in finding.sentence
    assert finding.why(int(finding.worst(1)[0])) == "empty file"


@pytest.mark.parametrize(("check", "word"), [(animation.check, "animated"), (alpha.check, "hidden-alpha"), (rotation.check, "rotated")])
def test_what_the_decoder_noted_is_flagged(
    make_material: Make, scenes: list[Picture], check: Callable[[Material], Finding], word: str
) -> None:
    finding = check(make_material(scenes, notes={3: word, 7: f"alpha {word}", 9: "alpha", 11: f"un{word}"}))
    assert flagged(finding) == [3, 7]
    assert finding.sentence.startswith("2 images")


# ---- twins -----------------------------------------------------------------------------------------------------------


def test_equal_pixels_are_exact_twins(make_material: Make, scenes: list[Picture]) -> None:
    finding = exact_twins.check(make_material([*scenes, scenes[5], scenes[5], scenes[8]], labels=["cat"] * 43))
    assert flagged(finding) == [5, 8, 40, 41, 42]
    assert [group.tolist() for group in finding.groups] == [[5, 40, 41], [8, 42]]
    assert finding.sentence == "5 images in 2 groups show exactly the same pixels as another."
    assert "3 files could go" in finding.advice
    assert finding.partner is not None
    assert finding.partner[[5, 40, 41, 8, 42, 0]].tolist() == [40, 5, 5, 42, 8, 0]
    assert finding.why(5) == "the same pixels as 2 others"


def test_near_twins_carry_their_similarity_and_hang_together(make_material: Make, scenes: list[Picture]) -> None:
    finding = near_twins.check(make_material(scenes, twins=[(1, 2, 0.8), (2, 3, 0.95), (10, 11, 0.7)]))
    assert flagged(finding) == [1, 2, 3, 10, 11]
    assert finding.severity[[1, 2, 3, 10]] == pytest.approx([0.8, 0.95, 0.95, 0.7], abs=1e-6)
    assert finding.partner is not None
    assert finding.partner[[1, 2, 3]].tolist() == [2, 3, 2]
    assert [group.tolist() for group in finding.groups] == [[1, 2, 3], [10, 11]]


def test_exact_twins_are_no_near_twins(make_material: Make, scenes: list[Picture]) -> None:
    assert flagged(near_twins.check(make_material([*scenes, scenes[0]], twins=[(0, 40, 1.0)]))) == []


# ---- leakage ---------------------------------------------------------------------------------------------------------


def test_a_test_image_with_a_twin_in_train_leaks(make_material: Make, scenes: list[Picture]) -> None:
    part = ["train"] * 20 + ["val"] * 10 + ["test"] * 11
    groups = [*range(40), 4]
    groups[31], groups[25] = 7, 8  # near twins of 7 and 8
    material = make_material([*scenes, scenes[4]], part=part, given=part, groups=groups, twins=[(7, 31, 0.9), (8, 25, 0.8), (9, 10, 0.99)])
    finding = leakage.check(material)
    assert flagged(finding) == [25, 31, 40]
    assert finding.severity[[25, 31, 40]] == pytest.approx([0.8, 0.9, 1.0], abs=1e-6)
    assert finding.partner is not None
    assert finding.partner[[25, 31, 40]].tolist() == [8, 7, 4]
    assert "2 of 11 images in test (18.2 %) and 1 of 10 images in val (10.0 %)" in finding.sentence
    assert finding.why(40) == "in test, its twin in train, the same pixels"


def test_a_tie_over_other_images_leaks_too(make_material: Make, scenes: list[Picture]) -> None:
    part = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    groups = list(range(40))
    groups[35] = groups[36] = 3
    finding = leakage.check(make_material(scenes, part=part, given=part, groups=groups, twins=[(3, 36, 0.9), (35, 36, 0.9)]))
    assert flagged(finding) == [35, 36]
    assert finding.severity[[35, 36]] == pytest.approx([0.5, 0.9], abs=1e-6)
    assert finding.partner is not None
    assert finding.partner[35] == 3


def test_leaks_are_those_that_the_split_tells(make_material: Make, scenes: list[Picture]) -> None:
    draws = np.random.default_rng(0)
    part = draws.choice(["train", "val", "test"], 40).tolist()
    groups = draws.integers(0, 25, 40)
    material = make_material(scenes, part=part, given=part, groups=groups)
    digests = material.frame.with_columns(digest=material.frame["pixel_digest"])
    split = make_split(digests, np.unique(groups, return_inverse=True)[1].astype(np.int64), (0.7, 0.15, 0.15), 0)
    assert split.twins.any()
    assert flagged(leakage.check(material)) == np.flatnonzero(split.twins).tolist()


def test_images_that_are_left_out_of_the_split_do_not_leak(make_material: Make, scenes: list[Picture]) -> None:
    part = [""] * 20 + ["val"] * 10 + ["test"] * 10
    assert flagged(leakage.check(make_material(scenes, part=part, groups=[0] * 20 + [*range(1, 11)] + [0] * 10))) == []


# ---- conflicts -------------------------------------------------------------------------------------------------------


def test_the_same_pixels_under_two_labels_are_an_error(make_material: Make, scenes: list[Picture]) -> None:
    finding = conflicts.check(make_material([*scenes, scenes[5], scenes[6]], labels=["cat"] * 40 + ["dog", "cat"]))
    assert (flagged(finding), finding.level) == ([5, 40], "error")
    assert finding.partner is not None
    assert finding.partner[[5, 40]].tolist() == [40, 5]
    assert finding.why(5) == "cat here, dog there"
    assert [group.tolist() for group in finding.groups] == [[5, 40]]


def test_near_twins_under_two_labels_are_a_warning(make_material: Make, scenes: list[Picture]) -> None:
    labels = ["cat"] * 20 + ["dog"] * 20
    finding = conflicts.check(make_material(scenes, labels=labels, twins=[(1, 2, 0.9), (3, 30, 0.8)]))
    assert (flagged(finding), finding.level) == ([3, 30], "warning")
    assert finding.severity[[3, 30]] == pytest.approx([0.8, 0.8], abs=1e-6)


# ---- balance ---------------------------------------------------------------------------------------------------------


def test_classes_are_counted_with_what_can_be_evaluated(make_material: Make, scenes: list[Picture]) -> None:
    labels = ["one"] + ["two"] * 2 + ["many"] * 37
    part = ["train", "train", "test", "val", "test"] + ["train"] * 35
    material = make_material(scenes, labels=labels, part=part, groups=[0, 1, 2, 3, 3, *range(4, 39)])
    assert balance.classes(material) == [
        {"name": "many", "images": 37, "train": 35, "val": 1, "test": 1, "different": 36, "evaluable": "all"},
        {"name": "one", "images": 1, "train": 1, "val": 0, "test": 0, "different": 1, "evaluable": "train only"},
        {"name": "two", "images": 2, "train": 1, "val": 0, "test": 1, "different": 2, "evaluable": "train and test"},
    ]
    finding = balance.check(material)
    assert flagged(finding) == [0, 1, 2]
    assert finding.severity[0] == 1
    assert "3 classes, from 1 image (one) to 37 (many), in train from 1 to 35." in finding.sentence
    assert "imbalance" in finding.advice


def test_what_train_lacks_is_not_hidden_by_a_test_part_of_equal_classes(make_material: Make, scenes: list[Picture]) -> None:
    material = make_material(scenes, labels=["rare"] * 11 + ["common"] * 29, part=["test"] * 10 + ["train"] * 20 + ["test"] * 10)
    found = balance.classes(material)
    assert balance.spread(found) == "of 11 to 29 images, in train 1 to 19"
    assert balance.unbalanced(found)
    assert not balance.unbalanced([one | {"train": 19} for one in found])


def test_twins_with_different_labels_are_no_spare_files(make_material: Make, scenes: list[Picture]) -> None:
    pictures = [scenes[0]] * 3 + [scenes[1]] * 2 + scenes[2:4]
    advice = exact_twins.check(make_material(pictures, labels=["cat"] * 4 + ["dog"] * 3)).advice
    assert "2 files could go without anything being lost. In 1 group the labels differ: settle that first." in advice
    assert "could go" not in exact_twins.check(make_material(pictures[3:], labels=["cat", "dog", "cat", "dog"])).advice


# ---- what the pixels show --------------------------------------------------------------------------------------------

WORSE: dict[str, tuple[Callable[[Material], Finding], Callable[[Picture, float], Picture], Sequence[float]]] = {
    "dark": (dark.check, darkened, (0.4, 0.25, 0.1, 0.02, 0.0)),
    "bright": (bright.check, washed_out, (0.5, 0.3, 0.1, 0.02, 0.0)),
    "blur": (blur.check, blurred, (0.7, 1.0, 2.0)),
    "information": (
        information.check,
        lambda picture, factor: (128 + (picture.astype(float) - 128) * factor).astype(np.uint8),
        (0.3, 0.1, 0.03, 0.0),
    ),
}


@pytest.mark.parametrize("name", WORSE)
def test_the_worse_the_more_severe(make_material: Make, scenes: list[Picture], name: str) -> None:
    check, worsen, steps = WORSE[name]
    severity = check(make_material([*scenes, *(worsen(scenes[0], step) for step in steps)])).severity[40:]
    assert (np.diff(severity) >= 0).all()
    assert severity[-1] > severity[0]
    assert severity[-1] >= 0.5


@pytest.mark.parametrize("name", WORSE)
def test_a_bad_one_among_good_ones_is_flagged_and_no_other(make_material: Make, scenes: list[Picture], name: str) -> None:
    check, worsen, steps = WORSE[name]
    assert flagged(check(make_material([*scenes, worsen(scenes[0], steps[-1])]))) == [40]


def test_all_black_images_are_dark_and_blank(make_material: Make) -> None:
    material = make_material([np.zeros((16, 16, 3), dtype=np.uint8)] * 40)
    assert dark.check(material).count == information.check(material).count == 40
    assert {finding.name for finding in run_checks(material) if finding.count} == {"dark", "low-information", "exact-twins", "conflicts"}


@pytest.mark.parametrize("name", WORSE)
def test_what_the_whole_folder_is_like_is_not_odd(make_material: Make, scenes: list[Picture], name: str) -> None:
    check, worsen, _ = WORSE[name]
    mild = {"dark": 0.2, "bright": 0.1, "blur": 1.5, "information": 0.12}[name]
    assert check(make_material([worsen(picture, mild) for picture in scenes])).count == 0


def test_grey_among_colour_is_found_through_jpeg_and_the_other_way_round(make_material: Make, scenes: list[Picture]) -> None:
    greys = [greyed(picture) for picture in scenes]
    finding = colour.check(make_material([*scenes[:38], as_jpeg(greys[38]), greys[39]]))
    assert flagged(finding) == [38, 39]
    assert finding.sentence == "2 images are grey among 38 in colour."
    finding = colour.check(make_material([*greys[:38], scenes[38], scenes[39]]))
    assert flagged(finding) == [38, 39]
    assert finding.sentence == "2 images are in colour among 38 grey ones."


def test_half_grey_and_half_colour_flags_none_and_says_so(make_material: Make, scenes: list[Picture]) -> None:
    finding = colour.check(make_material([*map(greyed, scenes[:20]), *scenes[20:]]))
    assert finding.count == 0
    assert finding.sentence == "20 of 40 images are grey, 20 in colour: both are common here."


def test_an_icon_and_a_banner_are_odd(make_material: Make, scenes: list[Picture], scene: Callable[..., Picture]) -> None:
    finding = size.check(make_material([*scenes, scene(90, 8, 9), scene(91, 20, 200)]))
    assert flagged(finding) == [40, 41]
    assert "usual are about 64 x 48 pixels" in finding.sentence
    assert finding.why(41) == "200 x 20 pixels"


# ---- the whole -------------------------------------------------------------------------------------------------------


def test_one_hundred_per_cent_twins_are_told_and_nothing_breaks(make_material: Make, scenes: list[Picture]) -> None:
    findings = {finding.name: finding for finding in run_checks(make_material([scenes[0]] * 12, labels=["cat"] * 12, groups=[0] * 12))}
    assert findings["exact-twins"].count == 12
    assert "11 files could go" in findings["exact-twins"].advice


def test_a_finding_refuses_a_flag_without_severity(make_material: Make, scenes: list[Picture]) -> None:
    frame = make_material(scenes[:2]).frame
    with pytest.raises(ValueError, match="flagged with severity 0"):
        Finding("x", "x", "info", frame, np.zeros(2), np.array([True, False]), "", "", str)
