import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sightline.models import compact


def make(classes=5, stride=1, **options):
    chosen = {"widths": [32, 64], "blocks": [1, 1], "stem_width": 32, **options}
    return compact.compact_resnet(classes, stem_stride=stride, **chosen)


@pytest.mark.parametrize(("size", "stride"), [(8, 1), (28, 1), (32, 1), (33, 2), (64, 2), (65, 4), (128, 4), (129, 8), (224, 8), (4096, 8)])
def test_the_stem_shrinks_large_pictures_only(size, stride):
    assert compact.stem_stride(size) == stride


@pytest.mark.parametrize(("size", "side"), [(16, 20), (28, 20), (32, 20), (33, 36), (64, 36), (96, 72), (128, 72), (224, 144)])
def test_the_first_pictures_leave_a_map_of_about_eighteen(size, side):
    assert compact.first_side(size) == side
    assert 18 <= -(-side // compact.stem_stride(size)) <= 20


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 70), st.sampled_from([1, 2, 4, 8]))
def test_every_side_gives_class_scores(side, stride):
    assert make(stride=stride).eval()(torch.zeros(2, 3, side, side)).shape == (2, 5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_stem_sees_every_pixel(stride):
    image = torch.randn(1, 3, 13, 13, requires_grad=True)
    compact._stem(8, stride)[0](image).abs().sum().backward()
    assert (image.grad.abs().sum(1) > 0).all()


def test_each_stage_halves_the_map_and_has_its_width():
    network = make(widths=[32, 64, 96], blocks=[0, 1, 2]).eval()
    x, maps = torch.zeros(1, 3, 28, 28), []
    for stage in network.trunk[:-1]:
        x = stage(x)
        maps.append(tuple(x.shape[1:]))
    assert maps == [(32, 28, 28), (32, 14, 14), (64, 7, 7), (96, 4, 4)]
    assert [sum(isinstance(m, compact.Residual) for m in stage) for stage in network.trunk[1:-1]] == [0, 1, 2]


def test_a_residual_block_starts_as_the_identity():
    x = torch.randn(2, 8, 6, 6).relu()
    torch.testing.assert_close(compact.Residual(8)(x), x)


def test_pooling_before_the_norm_gives_what_pooling_at_the_end_gives():
    conv, pool, norm, act = compact._down(4, 8).eval()
    nn.init.uniform_(norm.weight, 0.1, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    x = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(act(norm(pool(conv(x)))), pool(act(norm(conv(x)))))


def test_the_scores_start_small():
    torch.manual_seed(0)
    network = make().eval()
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(network(images), network.head[1](network.trunk(images)) / 8)


def test_gradients_reach_every_parameter_once_the_residual_branches_are_open():
    network = make().train()
    for block in (m for m in network.modules() if isinstance(m, compact.Residual)):
        nn.init.ones_(block.norm2.weight)
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_it_learns_to_tell_two_kinds_of_picture():
    torch.manual_seed(0)
    labels = torch.arange(32) % 2
    images = torch.randn(32, 3, 12, 12) + labels[:, None, None, None] * torch.tensor([1.0, 0, -1])[:, None, None]
    network = make(classes=2).train()
    step = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(12):
        step.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        step.step()
    assert (network.eval()(images).argmax(1) == labels).all()
