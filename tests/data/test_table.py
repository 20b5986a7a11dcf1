from __future__ import annotations

import os
import socket
import subprocess
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.table import ImageTable, scan
from sightline.data.walk import list_images
from sightline.errors import DataError


def plant(root: Path, *paths: str) -> Path:
    """Empty files: a scan looks at names only."""
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return root


def table(root: Path, text: str | bytes, name: str = "photos.csv") -> Path:
    path = root / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(found: ImageTable, *columns: str) -> list[tuple[str, ...]]:
    return found.frame.select(columns or ("path", "label")).rows()


def refusal(source: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        scan(source)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


CATS_AND_DOGS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")


# ---- three layouts ---------------------------------------------------------------------------------------------------


def test_a_folder_a_class(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, "dog/b.jpg", "cat/2.png", "cat/10.png"))
    assert found.classes == ("cat", "dog")
    assert found.frame.rows() == [
        (path, label, None, None, 0, found.frame["changed"][i], None)
        for i, (path, label) in enumerate([("cat/10.png", "cat"), ("cat/2.png", "cat"), ("dog/b.jpg", "dog")])
    ]
    assert (found.skipped, found.notes, found.root, len(found)) == ({}, (), tmp_path, 3)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "valid", "TEST"), ("training", "Validation", "testing")])
def test_a_folder_a_part(tmp_path: Path, names: tuple[str, str, str]) -> None:
    train, val, test = names
    found = scan(plant(tmp_path, *(f"{part}/{label}/1.jpg" for part in names for label in ("cat", "dog"))))
    assert found.classes == ("cat", "dog")
    assert set(rows(found, "path", "label", "given")) == {
        (f"{part}/{label}/1.jpg", label, given)
        for part, given in ((train, "train"), (val, "val"), (test, "test"))
        for label in ("cat", "dog")
    }
    assert found.notes == ()


def test_a_table(tmp_path: Path) -> None:
    plant(tmp_path, "b.jpg", "deep/a.jpg")
    text = "path,label,split,group\nb.jpg,dog,train,7\ndeep/a.jpg,cat,train,\n"
    found = scan(table(tmp_path, text))
    assert found.classes == ("cat", "dog")
    assert found.root == tmp_path
    assert rows(found, "path", "label", "given", "group") == [
        ("b.jpg", "dog", None, "7"),
        ("deep/a.jpg", "cat", None, None),
    ]


def test_a_table_without_split_and_group_in_parquet(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")
    pl.DataFrame({"label": [7, 1], "path": ["b.jpg", "a.jpg"], "more": [None, None]}).write_parquet(tmp_path / "x.parquet")
    found = scan(tmp_path / "x.parquet")
    assert rows(found, "path", "label", "given", "group") == [("a.jpg", "1", None, None), ("b.jpg", "7", None, None)]


def test_a_tables_own_split_is_kept(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{i}.jpg" for i in range(6)))
    lines = [f"{i}.jpg,{'cat' if i % 2 else 'dog'},{part}" for i, part in enumerate(["train", "Train", "val", "valid"])]
    found = scan(table(tmp_path, "\n".join(["path,label,split", *lines, "4.jpg,dog,test", "5.jpg,cat,TEST"])))
    assert found.frame["given"].to_list() == ["train", "train", "val", "val", "test", "test"]


def test_size_and_last_change_of_each_file_are_known(tmp_path: Path) -> None:
    plant(tmp_path, *CATS_AND_DOGS)
    (tmp_path / "cat/1.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "cat/1.jpg", ns=(5, 5))  # who sets the time back has changed the file now
    first = scan(tmp_path).frame.row(0, named=True)
    assert first["bytes"] == 5
    assert first["changed"] == (tmp_path / "cat/1.jpg").stat().st_ctime_ns
    os.utime(tmp_path / "cat/1.jpg", ns=(2**62, 2**62))
    assert scan(tmp_path).frame["changed"][0] == 2**62


def test_rows_do_not_depend_on_the_order_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, *(f"{label}/{i}.jpg" for label in "cab" for i in range(5)), "a/deep/x.jpg", "a/deep.jpg")
    expected = scan(tmp_path)
    scandir = os.scandir

    class Backwards:
        def __init__(self, folder: Path) -> None:
            with scandir(folder) as listing:
                self.entries = sorted(listing, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> Iterable[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert scan(tmp_path).frame.equals(expected.frame)
    assert expected.frame["path"].to_list() == sorted(expected.frame["path"])


# ---- what is left out, and counted -----------------------------------------------------------------------------------


def test_what_is_no_image_is_left_out_and_counted(tmp_path: Path) -> None:
    plant(tmp_path, *CATS_AND_DOGS, "cat/A.JPG", "cat/b.JpEg", "dog/c.WEBP")
    plant(tmp_path, "cat/.hidden.jpg", "cat/._1.jpg", ".git/objects/1.jpg", ".git/objects/2.jpg", "__MACOSX/cat/1.jpg")
    plant(tmp_path, "cat/.ipynb_checkpoints/1.jpg", "cat/Thumbs.db", "dog/desktop.ini", "dog/@eaDir/1.jpg/thumb.jpg")
    plant(tmp_path, "cat/notes.txt", "README", "cat/video.mp4", "cat/jpg", "lone.jpg", "cat/.DS_Store", "cat/1.CR2", "dog/1.nef")
    found = scan(tmp_path)
    assert len(found) == 6
    assert found.classes == ("cat", "dog")
    expected = {"hidden or made by the system": 10, "not an image": 4, "without a class folder": 1}
    assert found.skipped == expected | {"camera raw; export it as JPEG": 2}


def test_heic_is_tried_and_where_nothing_else_is_there_it_is_said(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, "cat/1.HEIC", "cat/2.heif", "dog/1.heic", "dog/2.jxl"))
    assert (len(found), found.skipped) == (4, {})
    reasons = dict.fromkeys(found.frame["path"], "HEIC; convert it to JPEG") | {"cat/1.HEIC": "empty file"}
    with pytest.raises(DataError, match=r"no usable image; .* Of 4 images 4 cannot be used, 3 of them: HEIC; convert it to JPEG\.$"):
        found.quarantine(reasons)


def test_pipes_sockets_and_devices_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, *CATS_AND_DOGS)
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    (tmp_path / "cat/zeros.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as place:
        place.bind("cat/s.gif")
        found = scan(tmp_path)
    assert len(found) == 3
    assert found.skipped == {"not a regular file": 3}


def test_names_that_are_not_unicode_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, *CATS_AND_DOGS)
    try:
        os.close(os.open(os.fsencode(tmp_path / "cat") + b"/\xff.jpg", os.O_CREAT))
        os.makedirs(os.fsencode(tmp_path) + b"/\xe9t\xe9/deep")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    for name in (b"/\xe9t\xe9/1.jpg", b"/\xe9t\xe9/deep/2.jpg"):
        os.close(os.open(os.fsencode(tmp_path) + name, os.O_CREAT))
    found = scan(tmp_path)
    assert len(found) == 3
    assert found.skipped == {"name is not valid Unicode": 3}


HARD_NAMES = [
    "two words",
    " led by a space",
    "comma, and ; and \t",
    "line\nbreak",
    "quote\" and '",
    "back\\slash",
    "é composed",
    "🌸🇩🇪",
    "עברית",
    "ﷺ\u200f",
    "a" * 200,
    "%s{}$HOME*?[x]",
    "-rf",
    "CON",
    "\x7f\x01",
]


@pytest.mark.parametrize("name", HARD_NAMES)
def test_any_unicode_is_a_name(tmp_path: Path, name: str) -> None:
    plant(tmp_path, f"{name}/{name}.jpg", "other/1.jpg")
    found = scan(tmp_path)
    assert set(rows(found)) == {(f"{name}/{name}.jpg", name), ("other/1.jpg", "other")}
    assert (tmp_path / f"{name}/{name}.jpg").is_file()
    csv = tmp_path / "photos.csv"
    found.frame.select("path", "label").write_csv(csv)
    again = scan(csv)
    assert again.frame["path"].to_list() == found.frame["path"].to_list()
    assert again.frame["label"].to_list() == [label.strip() for label in found.frame["label"]]


def test_classes_are_matched_however_an_accent_is_spelt(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    plant(tmp_path, f"train/{composed}/1.jpg", "train/bar/1.jpg", f"val/{apart}/1.jpg", "val/bar/1.jpg")
    found = scan(tmp_path)
    assert found.classes == (composed, "bar")
    assert found.notes == ()
    assert (tmp_path / found.frame.filter(given="val", label=composed)["path"][0]).is_file()
    text = f"path,label\nval/{apart}/1.jpg,{apart}\ntrain/bar/1.jpg,{composed}\nval/bar/1.jpg,bar\n"
    assert scan(table(tmp_path, text)).classes == (composed, "bar")


# ---- links -----------------------------------------------------------------------------------------------------------


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", *CATS_AND_DOGS)
    plant(tmp_path / "elsewhere", "a.jpg", "deep/b.jpg")
    (root / "bird").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "up").symlink_to(root)
    (root / "dog" / "self").symlink_to(root / "dog")
    (root / "dog" / "2.jpg").symlink_to(root / "cat" / "2.jpg")
    (root / "dog" / "circle.jpg").symlink_to("circle.jpg")
    (root / "dog" / "round").symlink_to("round")
    (root / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    found = scan(root)
    assert found.classes == ("bird", "cat", "dog")
    assert [path for path, _ in rows(found)] == [
        "bird/a.jpg",
        "bird/deep/b.jpg",
        "cat/1.jpg",
        "cat/2.jpg",
        "dog/1.jpg",
        "dog/2.jpg",
        "dog/circle.jpg",
        "dog/gone.jpg",
    ]
    assert found.frame["bytes"].to_list() == [0] * 8
    assert found.frame.filter(pl.col("changed") == 0)["path"].to_list() == ["dog/circle.jpg", "dog/gone.jpg"]
    assert found.skipped == {"link back to a folder above": 2, "not an image": 1}


def test_two_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    plant(tmp_path, *CATS_AND_DOGS)
    (tmp_path / "cat/dogs").symlink_to(tmp_path / "dog")
    (tmp_path / "dog/cats").symlink_to(tmp_path / "cat")
    found = scan(tmp_path)
    assert len(found) == 3 + 1 + 2
    assert found.skipped == {"link back to a folder above": 2}


def test_a_hidden_link_counts_as_one(tmp_path: Path) -> None:
    plant(tmp_path, *CATS_AND_DOGS)
    (tmp_path / ".all").symlink_to(tmp_path)
    assert scan(tmp_path).skipped == {"hidden or made by the system": 1}


def test_very_deep_folders_are_walked(tmp_path: Path) -> None:
    plant(tmp_path, "cat/", "dog/1.jpg")
    deep = tmp_path / "cat"
    for _ in range(1200):  # more than Python's limit of calls within calls
        deep /= "d"
        deep.mkdir()
    (deep / "1.jpg").touch()
    try:
        assert len(scan(tmp_path)) == 2
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "cat"], check=True)  # pytest itself cannot


# ---- counts add up ---------------------------------------------------------------------------------------------------

folder_names = st.sampled_from(["cat", "dog", ".git", "__MACOSX", "train", "test", "val", "sub", "é"]).map(os.fsencode)
any_bytes = st.binary(min_size=1, max_size=6).filter(lambda b: not set(b) & set(b"/\0") and b not in (b".", b".."))
file_names = st.tuples(
    any_bytes | st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=5).map(str.encode),
    st.sampled_from([b".jpg", b".PNG", b".txt", b"", b".db"]),
).map(b"".join)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.tuples(st.lists(folder_names | any_bytes, max_size=3).map(tuple), file_names), max_size=25))
def test_every_file_is_a_row_or_is_counted(tree: set[tuple[tuple[bytes, ...], bytes]]) -> None:
    with TemporaryDirectory() as place:
        root = plant(Path(place), *CATS_AND_DOGS)
        for folders, name in tree:
            folder = os.path.join(os.fsencode(root), *folders)
            with suppress(OSError):  # a file where another wants a folder
                os.makedirs(folder, exist_ok=True)
                os.close(os.open(os.path.join(folder, name), os.O_CREAT))
        on_disk = sum(len(files) for _, _, files in os.walk(root))
        listed, skipped = list_images(root)
        assert len(listed) == len(set(listed))
        assert all(path.is_file() for path in listed)
        assert len(listed) + sum(skipped.values()) == on_disk
        try:
            found = scan(root)
        except DataError:  # train alone, or the like
            return
        assert len(found) + sum(found.skipped.values()) == on_disk
        assert {root / path for path in found.frame["path"]} <= set(listed)
        assert set(found.usable["label"]) == set(found.classes)


def test_the_users_folder_is_not_written_to(tmp_path: Path) -> None:
    plant(tmp_path, *CATS_AND_DOGS)
    before = {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]}
    scan(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.rglob("*")]} == before


# ---- the user's own split --------------------------------------------------------------------------------------------


def test_a_difference_between_the_class_lists_is_told(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "train/cow/1.jpg", "train/emu/")
    plant(
        tmp_path,
        "val/cat/1.jpg",
        "val/Dog/1.jpg",
        "test/cat/1.jpg",
        "test/dog/1.jpg",
        "test/fox/1.jpg",
        "test/yak/1.jpg",
    )
    found = scan(tmp_path)
    assert found.classes == ("cat", "cow", "dog")
    assert found.notes == (
        "Not in train, so left out: Dog, fox, yak.",
        "No usable image, so left out: emu.",
        "test has no image of cow.",
        "val has no image of cow, dog.",
    )
    assert rows(found, "path", "reason")[0] == ("test/cat/1.jpg", None)
    assert found.frame.filter(reason="class is not in train")["path"].to_list() == [
        "test/fox/1.jpg",
        "test/yak/1.jpg",
        "val/Dog/1.jpg",
    ]


def test_a_lone_train_is_divided_like_any_other_folder(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "docs/readme.txt"))
    assert rows(found, "path", "label", "given") == [("train/cat/1.jpg", "cat", None), ("train/dog/1.jpg", "dog", None)]
    assert found.classes == ("cat", "dog")
    assert found.notes == ("Your split has a train part only: train is divided into train, val and test.",)


def test_images_without_labels_are_told_and_left_for_predict(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg", "test/2.jpg"))
    assert found.frame["given"].null_count() == 2
    assert found.skipped == {"without a class folder": 2}
    assert found.notes == (
        "test holds 2 images without a class folder: they can only be predicted.",
        "Your split has a train part only: train is divided into train, val and test.",
    )


def test_a_test_folder_of_one_unknown_class_judges_nothing(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/unknown/1.jpg"))
    assert found.classes == ("cat", "dog")
    assert found.usable["given"].null_count() == 2
    assert found.frame["reason"].to_list() == ["class is not in train", None, None]
    assert found.notes == (
        "No usable labelled image in test: train is divided into train, val and test.",
        "Not in train, so left out: unknown.",
    )


def test_folders_beside_train_and_test_are_left_out_and_told(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg", "sample/1.jpg", "sample/cat/2.jpg", "0.jpg")
    found = scan(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.skipped == {"outside of train, val and test": 2, "without a class folder": 1}
    assert found.notes == ("Beside test, train there are other folders, left out: sample.", "test has no image of dog.")


def test_classes_may_be_called_like_parts(tmp_path: Path) -> None:
    assert scan(plant(tmp_path / "toys", "train/1.jpg", "bus/1.jpg", "car/1.jpg")).classes == ("bus", "car", "train")
    assert scan(plant(tmp_path / "x", "train/train/1.jpg", "train/test/1.jpg", "test/test/1.jpg")).classes == (
        "test",
        "train",
    )


def test_two_spellings_of_one_part_are_one_part(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{part}/{label}/1.jpg" for part in ("train", "val", "validation") for label in ("cat", "dog")))
    assert scan(tmp_path).frame["given"].value_counts(sort=True).rows() == [("val", 4), ("train", 2)]


def test_a_class_folder_may_hold_folders(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, "cat/2025/may/1.jpg", "cat/2.jpg", "dog/dog/dog.jpg"))
    assert rows(found) == [("cat/2.jpg", "cat"), ("cat/2025/may/1.jpg", "cat"), ("dog/dog/dog.jpg", "dog")]
    found = scan(plant(tmp_path / "own", "train/cat/a/1.jpg", "train/dog/1.jpg", "val/cat/b/1.jpg", "val/dog/1.jpg"))
    assert rows(found)[0] == ("train/cat/a/1.jpg", "cat")


# ---- one clear sentence ----------------------------------------------------------------------------------------------


def test_an_empty_class_is_told(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, *CATS_AND_DOGS, "emu/", "docs/readme.txt"))
    assert found.classes == ("cat", "dog")
    assert found.notes == ("No usable image, so left out: docs, emu.",)


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, *CATS_AND_DOGS, *(f"empty{i}/" for i in range(10))))
    assert found.notes == ("No usable image, so left out: empty0, empty1, empty2, empty3, empty4, empty5, empty6, empty7 and 2 more.",)


def test_folders_that_make_no_classes_are_refused(tmp_path: Path) -> None:
    def refused(name: str, *paths: str) -> str:
        return refusal(plant(tmp_path / name, *paths)).replace(str(tmp_path / name), "ROOT")

    assert refused("one", "cat/1.jpg", "dog/") == (
        "ROOT holds only one class with usable images, cat; a classifier needs two or more classes, each in a folder of its name."
    )
    assert refused("flat", "1.jpg", "2.jpg") == (
        "ROOT holds 2 images but no folder a class: put each class's images in a folder of its name, flat/CLASS/image."
    )
    assert refused("parts", "train/1.jpg", "val/2.jpg", "val/3.jpg") == (
        "ROOT holds 3 images but no folder a class: put each class's images in a folder of its name, parts/train/CLASS/image."
    )
    assert refused("void", "./") == ("ROOT holds no folders: put each class's images in a folder of its name, void/CLASS/image.")
    assert refused("texts", "cat/a.txt", "dog/b.txt").startswith(
        "No images were found in the 2 folders of ROOT; looked for .apng, .avif, .bmp"
    )
    assert refused("wrapped", "photos/cat/1.jpg", "photos/dog/1.jpg", "photos/x.txt") == (
        "All images of ROOT lie in the folders of photos: give ROOT/photos."
    )
    assert refused("no-train", "val/cat/1.jpg", "test/cat/1.jpg", "test/dog/2.jpg") == (
        "ROOT holds test and val but no train. To evaluate on test alone, give ROOT/test."
    )


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "notes.txt")
    assert refusal(tmp_path / "none") == f"There is no folder {tmp_path / 'none'}."
    assert refusal(tmp_path / "a\0b").startswith("There is no folder ")
    assert refusal("~nobody-of-this-name/x") == "There is no folder ~nobody-of-this-name/x."
    for name in ("a.jpg", "notes.txt"):
        assert refusal(tmp_path / name) == (
            f"{tmp_path / name} is a file: give the folder that holds one folder a class, or a .csv or .parquet table."
        )


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, *CATS_AND_DOGS, "emu/1.jpg")
    scandir = os.scandir
    closed = tmp_path / "emu"

    def refuse(folder: Path) -> object:  # the tests may run as a user who may read everything
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = scan(tmp_path)
    assert found.skipped == {"folder cannot be read": 1}
    assert found.notes == ("Cannot be read, so left out: emu.",)
    closed = tmp_path
    assert refusal(tmp_path) == f"The folder {tmp_path} cannot be read: change its rights."


def test_to_judge_a_folder_its_own_parts_are_one_and_need_no_train(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, "train/cat/1.jpg", "test/cat/1.jpg", "test/dog/1.jpg"), least=1, learn=False)
    assert rows(found, "label", "given", "reason") == [("cat", None, None), ("dog", None, None), ("cat", None, None)]
    assert found.notes == ("Its parts, train and test, are taken together.",)
    assert scan(plant(tmp_path / "one", "test/cat/1.jpg"), least=1, learn=False).notes == ()
    assert scan(plant(tmp_path / "plain", "cat/1.jpg"), least=1, learn=False).classes == ("cat",)
    listed = scan(table(tmp_path, "path,label,split\ntest/dog/1.jpg,dog,test\n"), least=1, learn=False)
    assert rows(listed, "label", "given") == [("dog", None)]


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_tables_from_windows_and_from_spreadsheets_are_read(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.jpg", "dog/2.jpg", "cow/a, b.jpg")
    text = '\ufeffPath, Label ,note\r\ncat\\1.jpg, cat ,x\r\ndog/2.jpg,dog,\r\n"cow/a, b.jpg","co""w",\r\n'
    found = scan(table(tmp_path, text, "photos.CSV"))
    assert rows(found, "path", "label", "reason") == [
        ("cat/1.jpg", "cat", None),
        ("cow/a, b.jpg", 'co"w', None),
        ("dog/2.jpg", "dog", None),
    ]


def test_absolute_paths_and_paths_outside_are_taken(tmp_path: Path) -> None:
    plant(tmp_path, "far/1.jpg", "tables/", "near/2.jpg")
    found = scan(table(tmp_path / "tables", f"path,label\n{tmp_path}/far/1.jpg,cat\n../near/2.jpg,dog\n"))
    assert all((found.root / path).is_file() for path in found.frame["path"])
    assert (found.frame["changed"] > 0).all()


def test_a_missing_file_stays_a_row_and_reading_it_will_say_so(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "folder.jpg/")
    found = scan(table(tmp_path, "path,label\n1.jpg,cat\n2.jpg,dog\nfolder.jpg,dog\na\0b.jpg,dog\n"))
    assert rows(found, "path", "reason") == [
        ("1.jpg", None),
        ("2.jpg", None),
        ("a\0b.jpg", None),
        ("folder.jpg", "not a regular file"),
    ]


def test_rows_without_path_or_label_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    found = scan(table(tmp_path, "path,label\n1.jpg,cat\n\n,dog\n2.jpg,dog\n3.jpg,\n3.jpg,  \n"))
    assert rows(found) == [("1.jpg", "cat"), ("2.jpg", "dog")]
    assert found.skipped == {"row without a label": 2, "row without a path": 2}


@pytest.mark.parametrize(
    ("columns", "notes"),
    [
        ("group,split", ()),
        ("width,note", ("Columns that are not used: width, note.",)),
        (
            "Group_ID,subset",
            (
                "Columns that are not used: Group_ID, subset. Did you mean 'group' by 'Group_ID' and 'split' by 'subset'? "
                "Rename it then, for images are divided as if it were not there.",
            ),
        ),
        ("group,groups", ("Columns that are not used: groups.",)),
    ],
)
def test_columns_that_are_not_used_are_told(tmp_path: Path, columns: str, notes: tuple[str, ...]) -> None:
    plant(tmp_path, "1.jpg", "2.jpg")
    found = scan(table(tmp_path, f"path,label,{columns},\n1.jpg,cat,train,train,\n2.jpg,dog,train,train,\n"))
    assert [note for note in found.notes if "train part only" not in note] == list(notes)


def test_labels_that_are_no_whole_numbers_stay_as_they_are(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "2.jpg")
    pl.DataFrame({"path": ["1.jpg", "2.jpg"], "label": [1.0, 2.5]}).write_parquet(tmp_path / "x.parquet")
    assert rows(scan(tmp_path / "x.parquet"), "path", "label") == [("1.jpg", "1.0"), ("2.jpg", "2.5")]


def test_pandas_nan_is_no_class_and_no_group(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    nan = float("nan")
    frame = pl.DataFrame({"path": ["1.jpg", "2.jpg", "3.jpg"], "label": [1.0, 2.0, nan], "group": [nan, nan, 1.0], "__index_level_0__": 1})
    frame.write_parquet(tmp_path / "x.parquet")
    found = scan(tmp_path / "x.parquet")
    assert rows(found, "path", "label", "group") == [("1.jpg", "1", None), ("2.jpg", "2", None)]
    assert (found.skipped, found.notes) == ({"row without a label": 1}, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "TABLE cannot be read as a table: empty CSV."),
        ("path,label\n", "TABLE holds no labelled images."),
        ("path,label\n1.jpg,\n", "TABLE holds no labelled images."),
        (
            "file;class\n1.jpg;cat\n",
            "TABLE needs one column 'path' and has file;class. The columns are path,label[,split][,group], with commas between them.",
        ),
        (
            "path,class\n1.jpg,cat\n",
            "TABLE needs one column 'label' and has path, class. The columns are path,label[,split][,group], with commas between them.",
        ),
        (
            "path,label,Label\n1.jpg,cat,x\n",
            "TABLE needs one column 'label' and has path, label, Label. "
            "The columns are path,label[,split][,group], with commas between them.",
        ),
        (
            "path,label,label\n1.jpg,cat,x\n",
            "TABLE needs one column 'label' and has path, label, label. "
            "The columns are path,label[,split][,group], with commas between them.",
        ),
        (
            "path,label,group,Group\n1.jpg,cat,1,2\n",
            "TABLE needs one column 'group' and has path, label, group, Group. "
            "The columns are path,label[,split][,group], with commas between them.",
        ),
        ("path,label\n1.jpg,cat\n1.jpg,cat\n", "TABLE names 1.jpg more than once: keep one row an image."),
        (
            "path,label\n1.jpg,cat\n1.jpg,dog\n2.jpg,cat\n2.jpg,dog\n",
            "TABLE names 1.jpg and 1 others more than once: keep one row an image.",
        ),
        (
            "path,label\nno/1.jpg,cat\nno/2.jpg,dog\n",
            "None of the 2 files that TABLE names is there, such as ROOT/no/1.jpg: paths are relative to the table's own folder.",
        ),
        (
            "path,label,split\n1.jpg,cat,train\n2.jpg,dog,\n",
            "TABLE: 1 of 2 rows have no split. Give every row one, or leave the column out.",
        ),
        ("path,label,split\n1.jpg,cat,dev\n2.jpg,dog,train\n", "TABLE: 'dev' is no split; use train, val and test."),
        ("path,label,split\n1.jpg,cat,test\n2.jpg,dog,val\n", "TABLE: no row has the split train."),
        (
            "path,label\n1.jpg,cat\n2.jpg,cat\n",
            "ROOT holds only one class with usable images, cat; a classifier needs two or more classes, each in a folder of its name.",
        ),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    plant(tmp_path, "1.jpg", "2.jpg")
    path = table(tmp_path, text)
    assert refusal(path) == message.replace("TABLE", str(path)).replace("ROOT", str(tmp_path))


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
@pytest.mark.parametrize("rubbish", [b"\xff\xfe\x00\x01", b'path,label\n"a,b\n', b"path,label\na,b,c\n", b"PAR1" * 9])
def test_rubbish_is_one_sentence(tmp_path: Path, name: str, rubbish: bytes) -> None:
    path = table(tmp_path, rubbish, name)
    assert refusal(path).startswith((f"{path} cannot be read as a table: ", f"{path} needs one column"))


def test_columns_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"path": [b"\xff"], "label": ["a"]}).write_parquet(path)
    assert refusal(path) == f"{path}: the columns path, label must hold texts or numbers."
    for strange in (["a"], {"of": 1}):
        pl.DataFrame({"path": ["1.jpg"], "label": ["a"], "group": [strange]}).write_parquet(path)
        assert refusal(path) == f"{path}: the columns path, label, group must hold texts or numbers."


# ---- quarantine ------------------------------------------------------------------------------------------------------


def test_quarantined_rows_stay_in_the_table_and_leave_the_usable_ones(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, *CATS_AND_DOGS))
    after = found.quarantine({"cat/1.jpg": "damaged", "not/here.jpg": "x"})
    assert rows(after, "path", "reason") == [("cat/1.jpg", "damaged"), ("cat/2.jpg", None), ("dog/1.jpg", None)]
    assert after.usable["path"].to_list() == ["cat/2.jpg", "dog/1.jpg"]
    assert after.classes == ("cat", "dog")
    assert found.frame["reason"].null_count() == 3
    assert after.quarantine({"cat/1.jpg": "later"}).frame["reason"][0] == "damaged"
    assert after.quarantine({}).frame.equals(after.frame)


def test_a_class_that_loses_all_of_its_images_leaves_and_is_told_once(tmp_path: Path) -> None:
    found = scan(plant(tmp_path, *CATS_AND_DOGS, "emu/1.jpg", "fox/"))
    after = found.quarantine({"emu/1.jpg": "damaged"}).quarantine({"cat/1.jpg": "damaged"})
    assert after.classes == ("cat", "dog")
    assert after.notes == ("No usable image, so left out: emu, fox.",)
    with pytest.raises(DataError, match="holds only one class with usable images, cat; a classifier needs two or more"):
        after.quarantine({"dog/1.jpg": "damaged"})
    with pytest.raises(DataError, match="holds no usable image; a classifier needs two or more classes"):
        found.quarantine(dict.fromkeys(found.frame["path"], "damaged"))


def test_a_class_that_train_loses_is_left_out_of_val_too(tmp_path: Path) -> None:
    parts = [f"{part}/{label}/1.jpg" for part in ("train", "val") for label in ("cat", "dog", "emu")]
    after = scan(plant(tmp_path, *parts)).quarantine({"train/emu/1.jpg": "damaged", "val/dog/1.jpg": "damaged"})
    assert after.classes == ("cat", "dog")
    assert after.frame.filter(path="val/emu/1.jpg")["reason"].to_list() == ["class is not in train"]
    assert after.notes == ("Not in train, so left out: emu.", "val has no image of dog.")


def test_where_only_train_is_left_it_is_divided_and_that_stays_told(tmp_path: Path) -> None:
    parts = [f"{part}/{label}/1.jpg" for part in ("train", "val") for label in ("cat", "dog", "emu")]
    found = scan(plant(tmp_path, *parts))
    after = found.quarantine(dict.fromkeys([p for p in parts if p.startswith("val")], "damaged"))
    assert after.usable["given"].null_count() == 3
    assert "No usable labelled image in val: train is divided into train, val and test." in after.quarantine({}).notes


# ---- lists to predict on ---------------------------------------------------------------------------------------------


def test_all_images_below_a_folder_are_listed_in_order(tmp_path: Path) -> None:
    plant(tmp_path, "b/1.jpg", "a.png", "b/deep/2.JPG", ".hidden/3.jpg", "notes.txt", "a/z.jpg")
    found, skipped = list_images(tmp_path)
    assert found == [tmp_path / name for name in ("a/z.jpg", "a.png", "b/1.jpg", "b/deep/2.JPG")]
    assert skipped == {"hidden or made by the system": 1, "not an image": 1}
    assert list_images(plant(tmp_path / "void", "./")) == ([], {})


def test_a_run_folder_is_no_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text("{}")
    with pytest.raises(DataError, match="is a run folder of sightline"):
        scan(tmp_path)
