"""Corrections lie over the table and never over the files; the test part changes only where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.data.corrections import DROPPED, as_used, correct, decided, read_corrections
from sightline.data.split import Split
from sightline.data.table import ImageTable, scan
from sightline.errors import DataError


@pytest.fixture
def table(make_folder: Callable[..., Path]) -> ImageTable:
    return scan(make_folder("photos", {"blue": 5, "green": 4, "red": 4}))


@pytest.fixture
def split(table: ImageTable) -> Split:
    """Of each class: the first image is test, the second val, the others train."""
    part = np.array([{"000": "test", "001": "val"}.get(path[-7:-4], "train") for path in table.usable["path"]], dtype="<U5")
    return Split(part, np.zeros(len(part), dtype=bool), ())


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: str, head: str = "path,label,action,old_label") -> Path:
        path = tmp_path / "corrections.csv"
        path.write_text("\n".join([head, *rows]) + "\n")
        return path

    return write


def label_of(table: ImageTable, path: str) -> str:
    return str(table.frame.filter(pl.col("path") == path)["label"][0])


def dropped(table: ImageTable) -> list[str]:
    return table.frame.filter(pl.col("dropped") == DROPPED)["path"].to_list()


def corrected(table: ImageTable, split: Split, path: Path, test: bool = False) -> tuple[ImageTable, Split]:
    return correct(table, split, read_corrections(path, table), test)


def test_relabel_drop_and_keep(table: ImageTable, split: Split, write: Callable[..., Path]) -> None:
    file = write("blue/blue-003.png,red,relabel,blue", "red/red-002.png,red,drop,red", "green/green-002.png,green,keep,green")
    done, divided = corrected(table, split, file)
    assert label_of(done, "blue/blue-003.png") == "red"
    assert label_of(done, "green/green-002.png") == "green"
    assert dropped(done) == ["red/red-002.png"]
    assert done.usable["path"].filter(pl.Series(divided.part == "")).to_list() == ["red/red-002.png"]
    assert done.frame["found_label"].equals(table.frame["label"].alias("found_label"))
    assert divided.notes == ("By corrections.csv: 1 relabelled, 1 dropped, 1 looked at and kept.",)
    assert DROPPED == "dropped by corrections"


def test_rows_classes_and_the_given_table_stay_as_they_are(table: ImageTable, split: Split, write: Callable[..., Path]) -> None:
    done, _ = corrected(table, split, write("blue/blue-003.png,red,relabel,blue", "red/red-002.png,red,drop,red"))
    assert done.usable["path"].to_list() == table.usable["path"].to_list()
    assert done.classes == table.classes
    assert label_of(table, "blue/blue-003.png") == "blue"
    assert (split.part != "").all()
    others = done.frame.filter(pl.col("path") != "blue/blue-003.png")
    assert others.drop("found_label", "dropped").equals(table.frame.filter(pl.col("path") != "blue/blue-003.png"))


def test_the_test_part_is_never_corrected_silently(table: ImageTable, split: Split, write: Callable[..., Path]) -> None:
    file = write("blue/blue-000.png,red,relabel,blue", "red/red-000.png,red,drop,red", "green/green-001.png,red,relabel,green")
    done, divided = corrected(table, split, file)
    assert label_of(done, "blue/blue-000.png") == "blue"
    assert label_of(done, "green/green-001.png") == "red"
    assert dropped(done) == []
    assert (divided.part == split.part).all()
    assert divided.notes[0] == "By corrections.csv: 1 relabelled, 0 dropped."
    assert divided.notes[1] == "2 test images are not corrected, as that would change the judge; data.correct_test=true corrects them too."


def test_the_test_part_is_corrected_where_that_is_asked_for_and_told(table: ImageTable, split: Split, write: Callable[..., Path]) -> None:
    file = write("blue/blue-000.png,red,relabel,blue", "red/red-000.png,red,drop,red", "green/green-000.png,green,keep,green")
    done, divided = corrected(table, split, file, test=True)
    assert label_of(done, "blue/blue-000.png") == "red"
    assert len(dropped(done)) == 1
    assert divided.notes[0] == "By corrections.csv: 1 relabelled, 1 dropped, 1 looked at and kept."
    assert "2 of these correct the test part" in divided.notes[1]


def test_keeping_a_test_image_is_no_correction(table: ImageTable, split: Split, write: Callable[..., Path]) -> None:
    _, divided = corrected(table, split, write("blue/blue-000.png,blue,keep,blue"))
    assert divided.notes == ("By corrections.csv: 0 relabelled, 0 dropped, 1 looked at and kept.",)


def test_what_has_its_label_already_and_what_is_quarantined_are_counted(
    table: ImageTable, split: Split, write: Callable[..., Path]
) -> None:
    quarantined = table.quarantine({"blue/blue-004.png": "truncated"})
    rest = Split(split.part[[p != "blue/blue-004.png" for p in table.usable["path"]]], split.twins[:-1], ())
    file = write("red/red-002.png,red,relabel,blue", "blue/blue-004.png,red,relabel,blue")
    _, divided = corrected(quarantined, rest, file)
    assert divided.notes == ("By corrections.csv: 0 relabelled, 0 dropped, 1 with that label already, 1 quarantined anyway.",)


def test_old_label_may_be_left_out_and_the_file_may_come_from_a_spreadsheet(table: ImageTable, split: Split, tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    path.write_bytes("\ufeffPath, Label ,ACTION,remark\r\nblue/blue-003.png, red ,Relabel,sure\r\nred/red-002.png,,drop,\r\n".encode())
    done, _ = corrected(table, split, path)
    assert label_of(done, "blue/blue-003.png") == "red"
    assert len(dropped(done)) == 1


def test_names_with_commas_quotes_and_composed_letters(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    odd = 'a,"b'
    table = scan(make_folder("odd", {odd: 4, "caf\u00e9": 4}))
    split = Split(np.full(8, "train", dtype="<U5"), np.zeros(8, dtype=bool), ())
    path = tmp_path / "corrections.csv"
    pl.DataFrame({"path": [f"{odd}/{odd}-001.png"], "label": ["cafe\u0301"], "action": ["relabel"]}).write_csv(path)
    assert label_of(corrected(table, split, path)[0], f"{odd}/{odd}-001.png") == "caf\u00e9"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["blue/none.png,red,relabel,blue"], r"'blue/none\.png' is no image of .*photos"),
        (["blue/blue-003.png,red,rename,blue"], r"'blue/blue-003\.png' has an unknown action, 'rename'.*keep, relabel or drop"),
        (["blue/blue-003.png,pink,relabel,blue"], r"'pink', which is no class.*blue, green, red"),
        (["blue/blue-003.png,,relabel,blue"], r"has no label.*blue, green, red"),
        (["blue/blue-003.png,red,relabel,blue", "blue/blue-003.png,red,drop,blue"], r"'blue/blue-003\.png' is there more than once"),
        (["blue/blue-003.png,red,,blue"], r"no path or no action"),
        ([",red,relabel,blue", ",red,drop,blue"], r"a row has no path or no action \(and 1 more\)"),
        (["blue/blue-003.png,red,relabel,green"], r"was 'green' when it was reviewed and is 'blue' now"),
        (["blue/blue-003.png,red,drop,green", "blue/blue-002.png,red,keep,red"], r"'blue/blue-003\.png' \(and 1 more\) was 'green'"),
        ([f"red/red-00{i}.png,blue,relabel,red" for i in range(4)], r"would leave no image of 'red' to train on"),
        ([f"red/red-00{i}.png,red,drop,red" for i in range(2, 4)], r"would leave no image of 'red' to train on"),
    ],
)
def test_what_is_wrong_with_the_rows_is_a_sentence(
    table: ImageTable, split: Split, write: Callable[..., Path], rows: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        corrected(table, split, write(*rows))


def test_what_is_wrong_with_the_file_is_a_sentence(table: ImageTable, write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*gone\.csv"):
        read_corrections(tmp_path / "gone.csv", table)
    with pytest.raises(DataError, match="needs one column 'action' and has path, label"):
        read_corrections(write("a,b", head="path,label"), table)
    with pytest.raises(DataError, match="commas"):
        read_corrections(write("a;b;c", head="path;label;action"), table)
    for twice in ("path,label,label,action", "path,label,action,old_label,Old_Label", "path,path,label,action"):
        with pytest.raises(DataError, match=r"needs one column '(label|old_label|path)' and has"):
            read_corrections(write(head=twice), table)
    with pytest.raises(DataError, match="holds no decision"):
        read_corrections(write(), table)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_corrections(tmp_path / "empty.csv", table)
    (tmp_path / "bytes.csv").write_bytes(b"path,label,action\n\xff\xfe,a,b\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_corrections(tmp_path / "bytes.csv", table)
    with pytest.raises(DataError, match="There is no file"):
        read_corrections(tmp_path, table)


def test_decided_paths(write: Callable[..., Path], tmp_path: Path) -> None:
    assert decided(write("a/1.png,b,keep,b", "a/2.png,b,drop,b")) == {"a/1.png", "a/2.png"}
    assert decided(tmp_path / "gone.csv") == frozenset()
    assert decided(write("1", head="other")) == frozenset()


def test_a_run_finds_its_labels_again_without_the_file(table: ImageTable, split: Split, write: Callable[..., Path]) -> None:
    done, _ = corrected(table, split, write("blue/blue-003.png,red,relabel,blue"))
    again = as_used(scan(table.root), done.frame.select("path", "label", "found_label"))
    assert again.frame["label"].equals(done.frame["label"])
    assert again.frame["found_label"].equals(done.frame["found_label"])
    assert again.classes == table.classes


def test_what_was_not_corrected_has_the_label_that_the_folder_gives_it_now(table: ImageTable) -> None:
    before = pl.DataFrame({"path": ["blue/blue-003.png"], "label": ["red"], "found_label": ["red"]})
    assert label_of(as_used(table, before), "blue/blue-003.png") == "blue"
    assert as_used(table, before.drop("found_label")) is table


def test_notes_of_the_split_stay_before_those_of_the_corrections(table: ImageTable, split: Split, write: Callable[..., Path]) -> None:
    _, divided = corrected(table, Split(split.part, split.twins, ("There is no val.",)), write("blue/blue-003.png,red,relabel,blue"))
    assert divided.notes == ("There is no val.", "By corrections.csv: 1 relabelled, 0 dropped.")
