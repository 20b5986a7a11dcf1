from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sightline.config import (
    Config,
    allowed,
    build,
    describe,
    gather,
    parse_value,
    show,
    to_markdown,
    to_yaml,
)
from sightline.data.policy import choose_policy
from sightline.errors import SettingsError
from sightline.watched import refuse_inert, watch


def load(*words: str, recipe: str | Path | dict[str, Any] | None = None) -> dict[str, Any]:
    """The whole tree, as plain values."""
    return Config.load(recipe, words).model_dump()


def refusal(*words: str, recipe: Any = None) -> str:
    with pytest.raises(SettingsError) as caught:
        Config.load(recipe, words)
    return str(caught.value)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-2", -2),
        ("010", 10),
        ("08", 8),
        ("64_000_000", 64_000_000),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("0x1F", "0x1F"),
        ("2026-11-22", "2026-11-22"),
        ("[1, 2.5,x]", [1, 2.5, "x"]),
        ("[]", []),
        ('"1e-3"', "1e-3"),
        ("'no # comment'", "no # comment"),
        ("/run #2/a: b/*.safetensors", "/run #2/a: b/*.safetensors"),
        ("@here", "@here"),
        ("!tag", "!tag"),
        (" spaced ", "spaced"),
    ],
)
def test_words_are_read_as_yaml_1_2_and_plain_text_is_taken_whole(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_every_number_that_python_writes_is_that_number(number: float) -> None:
    assert parse_value(repr(number)) == number


def test_a_word_sets_what_it_names_and_a_later_one_holds() -> None:
    assert load("train.lr=1e-3", "train.epochs=7", "train.epochs=8")["train"] == (load()["train"] | {"lr": 0.001, "epochs": 8})
    assert load("split.fractions=[0.8,0.1,0.1]")["split"]["fractions"] == (0.8, 0.1, 0.1)
    assert load("model.head=[1600,1024]")["model"]["head"] == (1600, 1024)
    assert load("train.patience=3", "train.patience=None")["train"]["patience"] is None
    assert load("data.mean=auto")["data"]["mean"] == "auto"
    assert load('model.weights="12"')["model"]["weights"] == "12"


def test_yaml_words_and_python_say_the_same(tmp_path: Path) -> None:
    text = "train:\n  lr: 1e-3\n  judge: false\naugment:\n  crop_scale: [0.5, 1]\nmodel:\n"
    recipe = write(tmp_path / "recipe.yaml", text)
    tree = {"train": {"lr": 0.001, "judge": False}, "augment": {"crop_scale": (0.5, 1)}}
    flat = {"train.lr": 0.001, "train.judge": False, "augment.crop_scale": [0.5, 1]}
    words = ("train.lr=1e-3", "train.judge=false", "augment.crop_scale=[0.5,1]")
    assert load(recipe=recipe) == load(recipe=tree) == load(recipe=flat) == load(*words)
    assert gather(recipe, []) == {"train.lr": 0.001, "train.judge": False, "augment.crop_scale": [0.5, 1]}


def test_words_come_after_the_recipe() -> None:
    assert load("train.lr=2", recipe={"train": {"lr": 1, "epochs": 5}})["train"]["lr"] == 2


def test_with_values_changes_a_copy() -> None:
    before = Config.load(None, ["train.epochs=5", "model.head=[8]"])
    after = before.with_values({"train.lr": 0.5})
    assert (before.train.lr, after.train.lr, after.train.epochs, after.model.head) == ("auto", 0.5, 5, (8,))


def test_settings_are_frozen() -> None:
    config = Config()
    with pytest.raises(ValidationError):
        config.train.lr = 1.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        watch(config, set()).train.lr = 1.0  # type: ignore[misc]


# ---- refusals, word by word ------------------------------------------------------------------------------------------

UNKNOWN = [
    ("lr=1", "There is no setting lr. Did you mean train.lr?"),
    ("train.epoch=3", "There is no setting train.epoch. Did you mean train.epochs?"),
    ("train.weight-decay=0", "There is no setting train.weight-decay. Did you mean train.weight_decay?"),
    ("Train.LR=1", "There is no setting Train.LR. Did you mean train.lr?"),
    ("aug.hue=0.1", "There is no setting aug.hue. Did you mean augment.hue?"),
    ("data.image_size=64", "There is no setting data.image_size. Did you mean data.size?"),
    ("seed=1", "There is no setting seed. Did you mean split.seed or train.seed or tune.seed?"),
    ("train.learning_rate=1", "There is no setting train.learning_rate. Did you mean train.lr or train.schedule?"),
    ("model.pretrained=yes", "There is no setting model.pretrained. Did you mean model.weights?"),
    ("zzz=1", "There is no setting zzz. `sightline settings` lists them all."),
    ("train.lr.max=1", "There is no setting train.lr.max. Did you mean train.lr?"),
    ("train=5", "train is a group of settings: write train.NAME=VALUE, such as train.epochs=30."),
    ("train={lr: 1}", "train is a group of settings: write train.NAME=VALUE, such as train.epochs=30."),
    ("train=", "train is a group of settings: write train.NAME=VALUE, such as train.epochs=30."),
]


@pytest.mark.parametrize(("word", "sentence"), UNKNOWN)
def test_unknown_settings_are_refused_with_the_nearest_one(word: str, sentence: str) -> None:
    assert refusal(word) == sentence


WRONG = [
    ("train.epochs=0", "train.epochs must be a whole number from 1 to 100000, not 0."),
    ("train.epochs=true", "train.epochs must be a whole number from 1 to 100000, not true."),
    ("train.epochs=1.5", "train.epochs must be a whole number from 1 to 100000, not 1.5."),
    ("train.lr=true", "train.lr must be a number above 0 and at most 100, or auto, not true."),
    ("train.lr='1'", "train.lr must be a number above 0 and at most 100, or auto, not '1'."),
    ("train.lr=fast", "train.lr must be a number above 0 and at most 100, or auto, not fast."),
    ("train.lr=", "train.lr must be a number above 0 and at most 100, or auto, not null."),
    ("train.lr=.nan", "train.lr must be a number above 0 and at most 100, or auto, not .nan."),
    ("train.lr=1e999", "train.lr must be a number above 0 and at most 100, or auto, not .inf."),
    ("train.clip_norm=.inf", "train.clip_norm must be a number above 0, or null, not .inf."),
    ("train.warmup=.nan", "train.warmup must be a number of at least 0, not .nan."),
    ("train.momentum=1", "train.momentum must be a number of at least 0 and below 1, not 1."),
    ("train.clip_norm=0", "train.clip_norm must be a number above 0, or null, not 0."),
    ("train.patience=0", "train.patience must be a whole number of at least 1, or null, not 0."),
    ("train.judge=no", "train.judge must be true or false, not no."),
    ("train.judge=1", "train.judge must be true or false, not 1."),
    ("train.optimizer=sgdd", "train.optimizer must be auto, sgd, adam, adamw or muon, not sgdd."),
    ("model.name=1", "model.name must be a text, not 1."),
    ("data.size=4", "data.size must be a whole number from 8 to 4096, or auto, not 4."),
    ("data.mean=[123,117,104]", "data.mean must be a list of 3 numbers from 0 to 1, or auto, not [123,117,104]."),
    ("data.std=[0,1,1]", "data.std must be a list of 3 numbers above 0 and at most 1, or auto, not [0,1,1]."),
    ("augment.hue=0.6", "augment.hue must be a number from 0 to 0.5, or null, not 0.6."),
    (
        "augment.crop_scale=[0.5,2]",
        "augment.crop_scale must be a list of 2 numbers above 0 and at most 1, or null, not [0.5,2].",
    ),
    ("augment.crop_ratio=[2]", "augment.crop_ratio must be a list of 2 numbers above 0, or null, not [2]."),
    ("augment.crop_ratio=[true,1]", "augment.crop_ratio must be a list of 2 numbers above 0, or null, not [true,1]."),
    ("augment.scale=[2,1]", "augment.scale must give the smaller number first."),
    ("model.head=[0]", "model.head must be a list of whole numbers from 1 to 65536, not [0]."),
    ("model.head=1600", "model.head must be a list of whole numbers from 1 to 65536, not 1600."),
    ("model.head={a: 1}", "model.head must be a list of whole numbers from 1 to 65536, not a: 1."),
    ("split.fractions=[0.5,0.5]", "split.fractions must be a list of 3 numbers from 0 to 1, not [0.5,0.5]."),
    (
        "split.fractions=[0.5,0.2,0.2]",
        "split.fractions must be three shares that add up to 1, train and val above 0, such as [0.7,0.15,0.15].",
    ),
    (
        "split.fractions=[0.8,0,0.2]",
        "split.fractions must be three shares that add up to 1, train and val above 0, such as [0.7,0.15,0.15].",
    ),
    ("train.lr", "'train.lr' is not a setting: write KEY=VALUE, such as train.epochs=20."),
    ("--epochs", "There is no option --epochs. A setting is written without dashes, such as train.epochs=30."),
    ("--lr=0.1", "There is no option --lr. A setting is written without dashes, such as train.lr=auto."),
    ("--bogus", "There is no option --bogus. --help lists the options."),
    ("=3", "'=3' is not a setting: write KEY=VALUE, such as train.epochs=20."),
    (
        "model.head=[1,",
        "model.head: the value [1, cannot be read; write lists as [0.8,1.2] and texts with brackets in quotes.",
    ),
]


@pytest.mark.parametrize(("word", "sentence"), WRONG)
def test_a_wrong_value_is_told_with_its_setting_and_what_it_may_be(word: str, sentence: str) -> None:
    assert refusal(word).replace(", ", ",") == sentence.replace(", ", ",")


def test_all_wrong_values_are_told_at_once() -> None:
    assert refusal("train.epochs=0", "data.size=1") == (
        "data.size must be a whole number from 8 to 4096, or auto, not 1. train.epochs must be a whole number from 1 to 100000, not 0."
    )


def test_a_number_of_thousands_of_digits_is_refused_in_a_short_sentence() -> None:
    assert len(refusal("train.seed=" + "9" * 5000)) < 200


def test_values_that_no_file_could_hold_are_refused_too() -> None:
    assert refusal(recipe={"model.weights": Path("a.safetensors")}) == "model.weights must be a text, not a.safetensors."
    assert "train.lr must be a number" in refusal(recipe={"train": {"lr": {}}})


def test_python_itself_is_held_to_the_same_checks() -> None:
    with pytest.raises(ValidationError):
        Config(train={"lr": True})  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Config(trian={})  # type: ignore[call-arg]


# ---- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train:\n  lr: 1\n  lr: 2\n", "In the recipe PATH, lr is written twice in the same place (line 2)."),
        (
            "train: {lr: 1}\ntrain: {epochs: 2}\n",
            "In the recipe PATH, train is written twice in the same place (line 1).",
        ),
        ("train: {lr: 1}\ntrain.lr: 2\n", "train.lr is given twice in the recipe."),
        ("train: 5\n", "train is a group of settings: write train.NAME=VALUE, such as train.epochs=30."),
        ("trian: {lr: 1}\n", "There is no setting trian.lr. Did you mean train.lr?"),
        ("trian:\n", "There is no setting trian. Did you mean train?"),
        ("- train\n", "The recipe PATH must hold settings, such as 'train: {epochs: 20}'."),
        ("train.epochs=20\n", "The recipe PATH must hold settings, such as 'train: {epochs: 20}'."),
        ("train: &t {lr: *t}\n", "There is no setting train.lr.lr. Did you mean train.lr?"),
        ("1: 2\n", "There is no setting 1. `sightline settings` lists them all."),
    ],
)
def test_recipes_that_make_no_sense_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path / "recipe.yaml", text)
    assert refusal(recipe=path) == sentence.replace("PATH", str(path))


@pytest.mark.parametrize("rubbish", [b"train: [", b"\xff\xfe\x00", b"a: *b", b"\tx: 1", b"[" * 5000, b"--- a\n--- b", b"a: !!int b"])
def test_what_is_no_yaml_is_one_sentence(tmp_path: Path, rubbish: bytes) -> None:
    message = refusal(recipe=write(tmp_path / "recipe.yaml", rubbish))
    assert message.startswith(f"The recipe {tmp_path / 'recipe.yaml'} is not valid YAML: ")
    assert "\n" not in message


def test_a_recipe_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert refusal(recipe=missing) == f"The recipe {missing} cannot be read: No such file or directory."
    assert refusal(recipe=tmp_path) == f"The recipe {tmp_path} cannot be read: Is a directory."


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "train: {}\n", "\ufeff# with a mark\r\n"])
def test_an_empty_recipe_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert gather(write(tmp_path / "recipe.yaml", text), []) == {}


# ---- there and back --------------------------------------------------------------------------------------------------


HARD = {
    "train.lr": st.floats(1e-9, 100) | st.just("auto"),
    "train.seed": st.integers(0, 2**63 - 1),
    "train.judge": st.booleans(),
    "train.clip_norm": st.none() | st.floats(1e-300, 1e300),
    "train.optimizer": st.sampled_from(["auto", "sgd", "adam", "adamw", "muon"]),
    "model.name": st.text(max_size=20),
    "model.weights": st.text(max_size=200) | st.sampled_from(["no", "1e-3", "~", "", " a", "\x85", "\ud800", "a" * 99 + " b"]),
    "model.head": st.lists(st.integers(1, 65536), max_size=40).map(tuple),
    "augment.scale": st.none() | st.tuples(st.floats(0.1, 1), st.floats(1, 9)),
    "data.mean": st.just("auto") | st.tuples(*[st.floats(0, 1)] * 3),
    "data.store_gb": st.just("auto") | st.floats(0, 1e6),
}


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional=HARD))
def test_what_is_written_is_read_back_the_same(tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]) -> None:
    config = build(given)
    path = write(tmp_path_factory.getbasetemp() / "there-and-back.yaml", to_yaml(config))
    assert Config.load(path) == config
    path = write(path, to_yaml(config, given))
    assert gather(path, []).keys() == given.keys()
    assert Config.load(path) == config


@given(st.fixed_dictionaries({}, optional={k: v for k, v in HARD.items() if not k.startswith("model.")}))
@settings(max_examples=60, deadline=None)
def test_a_shown_value_is_a_word_that_sets_it(given: dict[str, Any]) -> None:
    config = build(given)
    assert Config.load(None, [f"{path}={show(value)}" for path, value in given.items()]) == config


def test_the_file_is_plain_for_people() -> None:
    config = build({"train.lr": 0.001, "model.weights": "Blüte.safetensors", "data.mean": (0.5, 0.25, 0.125)})
    assert to_yaml(config, ["train.lr", "model.weights", "data.mean", "train.judge"]) == (
        "data:\n  mean: [0.5, 0.25, 0.125]\nmodel:\n  weights: Blüte.safetensors\ntrain:\n  lr: 0.001\n  judge: true\n"
    )
    assert to_yaml(config, []) == ""


# ---- what nothing read -----------------------------------------------------------------------------------------------


def test_reading_a_setting_is_noted_and_passing_by_is_not() -> None:
    reads: set[str] = set()
    config = watch(Config(), reads)
    room = config.train
    assert reads == set()
    assert room.epochs == 30
    assert config.model_dump() == Config().model_dump()
    assert reads == {"train.epochs"}


def test_a_changed_copy_of_watched_settings_is_watched() -> None:
    reads: set[str] = set()
    model = watch(Config(), reads).model.model_copy(update={"weights": "none"})
    assert (model.weights, model.depth) == ("none", 4)
    assert reads == {"model.weights", "model.depth"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"augment.policy": "none", "augment.hue": 0.1}, "augment.hue has no effect with augment.policy=none."),
        (
            {"augment.fill": "constant", "data.fit": "letterbox"},
            "augment.fill has no effect with augment.policy=standard and data.fit=letterbox.",
        ),
    ],
)
def test_a_given_setting_that_the_policy_does_not_read_is_an_error(given: dict[str, Any], sentence: str) -> None:
    reads: set[str] = set()
    config = watch(build(given), reads)
    choose_policy(config.augment, config.data.fit)
    with pytest.raises(SettingsError) as caught:
        refuse_inert(build(given), given, reads)
    assert str(caught.value) == f"{sentence} Leave it out, or change what it depends on."


def test_an_inert_setting_is_told_with_what_decides() -> None:
    given = {"split.seed": 1, "train.seed": 1, "model.depth": 2}
    with pytest.raises(SettingsError) as caught:
        refuse_inert(build(given), given, {"train.lr"})
    assert str(caught.value) == (
        "split.seed has no effect with images that are divided already. "
        "train.seed has no effect with these settings. "
        "model.depth has no effect with model.name=sightline_small. Leave it out, or change what it depends on."
    )


def test_what_was_read_or_not_given_is_no_error() -> None:
    refuse_inert(Config(), [], set())
    refuse_inert(build({"train.lr": 1}), ["train.lr"], {"train.lr"})


@pytest.mark.parametrize("policy", ["none", "flip", "light", "standard", "strong"])
@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_a_written_run_never_names_an_inert_setting(tmp_path: Path, policy: str, fit: str) -> None:
    def read(config: Config) -> None:
        choose_policy(config.augment, config.data.fit)

    reads: set[str] = set()
    first = build({"augment.policy": policy, "data.fit": fit})
    read(watch(first, reads))
    given = gather(write(tmp_path / "config.yaml", to_yaml(first, reads)), [])
    again: set[str] = set()
    read(watch(build(given), again))
    refuse_inert(build(given), given, again)
    assert again == set(given)


# ---- one description -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", describe())
def test_every_setting_is_described(path: str) -> None:
    info = describe()[path]
    assert info.description
    assert allowed(path)
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    needs = extra["needs"]
    assert isinstance(needs, list)
    assert all(need in describe() or " " in str(need) for need in needs)


def test_the_table_for_the_docs_has_a_row_for_every_setting() -> None:
    rows = [line.split(" | ") for line in to_markdown().splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(describe())
    assert {len(row) for row in rows} == {4}
    assert "| `augment.hue` | `null` | a number from 0 to 0.5, or null | largest turn" in to_markdown()


def test_the_defaults_pass_their_own_checks() -> None:
    assert build({path: info.default for path, info in describe().items()}) == Config()
