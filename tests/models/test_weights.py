import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sightline.errors import ModelError
from sightline.models import weights
from sightline.models.pretrained import make


def test_tensors_come_back_as_they_were_written(tmp_path):
    save_file({"a": torch.arange(3.0)}, tmp_path / "w.safetensors")
    assert torch.equal(weights.read(tmp_path / "w.safetensors")["a"], torch.arange(3.0))


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w"])
def test_a_pickle_is_never_read(tmp_path, name):
    torch.save({"a": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(ModelError, match=r"is not a \.safetensors file"):
        weights.read(tmp_path / name)


def test_a_pickle_with_another_suffix_is_not_read_either(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"w\.safetensors cannot be read"):
        weights.read(tmp_path / "w.safetensors")


def test_a_truncated_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(100)}, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:-8])
    with pytest.raises(ModelError, match="cannot be read"):
        weights.read(tmp_path / "w.safetensors")


def test_a_missing_file_is_named():
    with pytest.raises(ModelError, match=r"model\.weights=imagenet is not auto, pretrained or none"):
        weights.weight_file("imagenet")


def test_tensors_are_split_into_trunk_and_head():
    tensors = {"trunk.0.weight": torch.zeros(1), "head.classifier.bias": torch.ones(1)}
    assert weights.is_ours(tensors)
    assert weights.split(tensors) == ({"0.weight": torch.zeros(1)}, {"classifier.bias": torch.ones(1)})


@pytest.mark.parametrize("keys", [["fc.weight"], ["head.weight"], ["trunk.a", "head.b", "fc.c"], []])
def test_other_files_are_not_taken_for_ours(keys):
    assert not weights.is_ours(dict.fromkeys(keys, torch.zeros(1)))


def test_fitting_tensors_fill_a_module():
    module = nn.Linear(2, 3)
    weights.fill(module, {"weight": torch.ones(3, 2), "bias": torch.ones(3)}, "w")
    assert torch.equal(module.weight, torch.ones(3, 2))


def test_what_does_not_fit_is_listed_and_nothing_is_loaded():
    module = nn.Linear(2, 3)
    before = module.bias.clone()
    with pytest.raises(ModelError) as caught:
        weights.fill(module, {"weight": torch.ones(4, 2), "extra": torch.ones(1)}, "w.safetensors")
    assert str(caught.value) == (
        "The weights w.safetensors do not fit this network: missing: bias; unknown: extra; of another shape: weight is 4x2 for 3x2."
    )
    assert torch.equal(module.bias, before)


def test_only_the_first_keys_are_listed():
    assert weights.few("abcde") == "a, b, c and 2 more"


def test_a_head_for_other_classes_is_left_out_and_noted():
    head = nn.Linear(2, 3)
    before = head.weight.clone()
    (note,) = weights.fill_head(head, {"weight": torch.ones(4, 2), "bias": torch.ones(4)}, "w")
    assert "starts from scratch" in note
    assert "4x2 for 3x2" in note
    assert torch.equal(head.weight, before)


def test_a_head_that_fits_is_loaded_and_noted():
    head = nn.Linear(2, 3)
    (note,) = weights.fill_head(head, {"weight": torch.ones(3, 2), "bias": torch.ones(3)}, "w")
    assert "was loaded" in note
    assert torch.equal(head.weight, torch.ones(3, 2))


def test_what_fits_is_loaded_where_it_was_asked_for_and_the_rest_is_named() -> None:
    torch.manual_seed(0)
    module, other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    before = module[1].weight.clone()
    (note,) = weights.fill_partly(module, other.state_dict(), "w.safetensors")
    assert torch.equal(module[0].weight, other[0].weight)
    assert torch.equal(module[1].weight, before)
    wrong = "of another shape: 1.weight is 5x3 for 4x3, 1.bias is 5 for 4"
    assert note == f"2 of 4 tensors were loaded from w.safetensors; the others STAY RANDOM ({wrong})."
    assert weights.fill_partly(module, module.state_dict(), "w") == ()
    with pytest.raises(ModelError, match="Nothing of the weights w fits"):
        weights.fill_partly(module, {"x": torch.ones(1)}, "w")


# ---- allocated and not filled ----


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto"])
def test_a_network_is_built_without_random_numbers_and_is_the_same_when_it_is_loaded(name):
    plain = make(name, {})
    before = torch.get_rng_state()
    with weights.Unfilled():
        network = make(name, {})
    assert torch.equal(torch.get_rng_state(), before)
    own = network.state_dict()
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in plain.state_dict().items()}
    network.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), plain.eval()(images))


def test_what_is_not_random_is_filled_all_the_same():
    with weights.Unfilled():
        norm = nn.BatchNorm2d(4)
    assert norm.weight.tolist() == [1.0] * 4
    assert norm.running_var.tolist() == [1.0] * 4
    assert norm.bias.tolist() == [0.0] * 4
