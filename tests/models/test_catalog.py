import json

import pytest
import torch
from safetensors.torch import save_file

from sightline.config import Config
from sightline.errors import ModelError
from sightline.models import catalog, pretrained
from sightline.settings import ModelSettings
from sightline.watched import watch

TINY = "resnet10t"


def build(name, classes=5, size=32, **settings):
    return catalog.build(ModelSettings(name=name, **{"weights": "none", **settings}), classes, size)


def reads_of(**settings):
    """The settings that `build` reads."""
    seen = set()
    config = watch(Config.load({"model": {"weights": "none", **settings}}), seen)
    catalog.build(config.model, 3, 32)
    return {path.removeprefix("model.") for path in seen}


# ---- listing ----


def test_our_networks_come_first():
    names = [info.name for info in catalog.list_models()]
    assert names[: len(catalog.OURS)] == list(catalog.OURS)
    assert set(names[len(catalog.OURS) :]) == set(pretrained.names())


def test_a_pattern_without_wildcards_matches_anywhere():
    assert [info.name for info in catalog.list_models("springfield")] == ["springfield_first", "springfield_best"]
    assert "seresnet18" in [info.name for info in catalog.list_models("resnet18")]
    assert [info.name for info in catalog.list_models("resnet18*")] == ["resnet18", "resnet18d"]


def test_a_pattern_with_a_dot_finds_published_weights():
    rows = catalog.list_models("resnet10t.*")
    assert [(row.name, row.about) for row in rows] == [("resnet10t.c3_in1k", "weights c3_in1k")]


def test_nothing_matches_nothing():
    assert catalog.list_models("no such network") == []


def test_rows_tell_parameters_without_the_class_layer_and_the_native_side():
    (row,) = catalog.list_models("resnet18d")
    assert (row.family, row.size, row.about) == ("timm", 224, "weights ra2_in1k")
    assert row.parameters == sum(p.numel() for p in pretrained.make("resnet18d", {}).parameters())
    (own,) = catalog.list_models("springfield_first")
    assert own.parameters == 1_331_802 - (512 * 42 + 42)


def test_parameters_of_very_many_networks_are_not_counted():
    assert {row.parameters for row in catalog.list_models() if row.family == "timm"} == {None}


def test_the_native_side_of_a_name():
    assert catalog.native_size("inception_v3") == 299
    assert catalog.native_size("sightline_small") is None


# ---- building ----


@pytest.mark.parametrize("name", [*catalog.OURS, TINY, "vit_tiny_patch16_224"])
def test_a_network_is_made_again_from_its_description(name):
    torch.manual_seed(0)
    built = build(name)
    again = catalog.rebuild(json.loads(json.dumps(built.spec)))
    assert list(again.state_dict()) == list(built.network.state_dict())
    again.load_state_dict(built.network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), built.network.eval()(images))


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "searchable_cnn", "depth": 2, "width": 16, "dropout": 0.1},
        {"name": "simpsons_residual", "dropout": 0.2},
        {"name": TINY, "head": (16, 8), "head_activation": "gelu", "head_dropout": 0.1, "head_batch_norm": True},
        {"name": TINY, "dropout": 0.4, "drop_path": 0.1},
    ],
)
def test_settings_are_in_the_description(settings):
    built = build(**settings)
    assert str(catalog.rebuild(json.loads(json.dumps(built.spec)))) == str(built.network)
    assert str(built.network) != str(build(settings["name"]).network)


@pytest.mark.parametrize("name", ["springfield_first", "searchable_cnn", TINY, "sightline_small"])
def test_the_same_seed_gives_the_same_network(name):
    torch.manual_seed(4)
    first = build(name).network.state_dict()
    torch.manual_seed(4)
    second = build(name).network.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_scratch_networks_report_what_they_are():
    built = build("sightline_small", weights="auto")
    assert (built.weights, built.size, built.mean, built.std, built.notes) == ("none", None, None, None, ())


def test_the_size_chooses_the_stem_of_the_compact_network():
    assert build("sightline_small", size=28).spec["options"]["stem_stride"] == 1
    assert build("sightline_small", size=128).spec["options"]["stem_stride"] == 4


def test_a_picture_that_is_enlarged_inside_the_network_is_noted():
    (note,) = build("springfield_first", size=28).notes
    assert note == "springfield_first needs 94 pixels; it enlarges pictures of 28 to that inside the network."
    assert build("springfield_first", size=94).notes == ()


def test_dropout_of_a_timm_network_acts_on_its_features():
    head = build(TINY, dropout=0.3).network.head
    assert [type(layer).__name__ for layer in head] == ["Dropout", "Linear"]


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        ({"name": "springfield_first"}, {"name", "weights"}),
        ({"name": "skilltest_cnn"}, {"name", "weights"}),
        ({"name": "sightline_small"}, {"name", "weights", "dropout"}),
        ({"name": "simpsons_residual"}, {"name", "weights", "dropout"}),
        ({"name": "searchable_cnn"}, {"name", "weights", "dropout", "depth", "width"}),
        ({"name": TINY}, {"name", "weights", "dropout", "drop_path", "head"}),
        (
            {"name": TINY, "head": [8]},
            {"name", "weights", "dropout", "drop_path", "head", "head_activation", "head_dropout", "head_batch_norm"},
        ),
    ],
)
def test_a_setting_is_read_only_where_it_is_used(settings, read):
    assert reads_of(**settings) == read


# ---- names ----


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("springfield_frist", "springfield_first"),
        ("resnet18e", "resnet18"),
        ("resnet10t.nonsense", r"resnet10t\.c3_in1k"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name, near):
    with pytest.raises(ModelError, match=rf"There is no network {name}\. Did you mean .*{near}.*`sightline models PATTERN`"):
        build(name)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:/tmp", "timm/resnet18", "zzzzzz", ""])
def test_only_registered_names_are_built(name):
    with pytest.raises(ModelError, match="There is no network"):
        build(name)


# ---- weights ----


def test_our_networks_have_no_published_weights():
    with pytest.raises(ModelError, match=r"sightline_small has no published weights; choose model\.weights=none"):
        build("sightline_small", weights="pretrained")


@pytest.mark.parametrize("name", ["sightline_small", TINY])
def test_a_trained_classifier_gives_its_weights_to_the_next(tmp_path, name):
    first = build(name).network
    save_file(first.state_dict(), tmp_path / "model.safetensors")
    second = build(name, weights=str(tmp_path / "model.safetensors"))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(second.network.eval()(images), first.eval()(images))
    assert second.weights == str(tmp_path / "model.safetensors")
    assert any("head" in note and "was loaded" in note for note in second.notes)


@pytest.mark.parametrize("name", ["sightline_small", TINY])
def test_for_other_classes_the_trunk_alone_is_taken(tmp_path, name):
    first = build(name, classes=4).network
    save_file(first.state_dict(), tmp_path / "model.safetensors")
    second = build(name, classes=5, weights=str(tmp_path / "model.safetensors"))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(second.network.eval().trunk(images), first.eval().trunk(images))
    assert any("head starts from scratch" in note.lower() for note in second.notes)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(build("sightline_tiny").network.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"do not fit this network: of another shape: "):
        build("sightline_small", weights=str(tmp_path / "model.safetensors"))


# ---- descriptions from strangers ----


@pytest.mark.parametrize(
    "change",
    [
        {"name": "local-dir:/tmp"},
        {"options": {"checkpoint_path": "evil.pth"}},
        {"options": {"pretrained_cfg_overlay": {"file": "evil.pth"}}},
        {"options": {"img_size": "large"}},
        {"options": None},
        {"head": {"widths": "wide"}},
        {"head": {}},
        {"classes": -1},
        {"features": None},
    ],
)
def test_a_damaged_description_is_refused(change):
    with pytest.raises(ModelError, match=r"description is damaged|There is no network"):
        catalog.rebuild({**build(TINY).spec, **change})


def test_a_description_without_its_parts_is_refused():
    with pytest.raises(ModelError, match="description is damaged"):
        catalog.rebuild({})
