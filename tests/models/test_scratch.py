import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sightline.models import scratch

NETWORKS = {
    "springfield_first": scratch.springfield_first,
    "springfield_best": scratch.springfield_best,
    "simpsons_residual": lambda classes: scratch.simpsons_residual(classes, dropout=0.5),
    "skilltest_cnn": scratch.skilltest_cnn,
    "searchable_cnn": lambda classes: scratch.searchable_cnn(classes, depth=4, width=32, dropout=0.3),
}
every_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def conv(before, width, side):
    return before * width * side**2 + width


def linear(before, width):
    return before * width + width


def norm(width):
    return 2 * width


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def shapes(network, side, kinds):
    """What each layer of these kinds puts out for one picture, in order, without the batch."""
    seen = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape[1:])))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    return seen


def test_springfield_first_has_the_parameters_counted_by_hand():
    convolutions = conv(3, 8, 3) + conv(8, 16, 3) + conv(16, 32, 3) + conv(32, 64, 3) + conv(64, 96, 3)
    fully_connected = linear(96 * 5 * 5, 512) + norm(512) + linear(512, 42)
    assert parameters(scratch.springfield_first(42)) == convolutions + fully_connected == 1_331_802


def test_springfield_first_halves_the_picture_five_times():
    maps = shapes(scratch.springfield_first(42), 224, (nn.Conv2d, nn.MaxPool2d))
    assert maps == [
        *[(8, 222, 222), (8, 111, 111)],
        *[(16, 109, 109), (16, 54, 54)],
        *[(32, 52, 52), (32, 26, 26)],
        *[(64, 24, 24), (64, 12, 12)],
        *[(96, 10, 10), (96, 5, 5)],
    ]


def test_springfield_best_has_the_parameters_counted_by_hand():
    convolutions = conv(3, 32, 7) + conv(32, 64, 5) + conv(64, 128, 3) + conv(128, 256, 3) + conv(256, 256, 3)
    norms = norm(64) + norm(128) + 3 * norm(256) + 3 * norm(2048)
    fully_connected = linear(4096, 2048) + 2 * linear(2048, 2048) + linear(2048, 42)
    assert parameters(scratch.springfield_best(42)) == convolutions + conv(256, 256, 2) + norms + fully_connected


def test_springfield_best_has_its_authors_maps():
    kinds = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, scratch.Resize)
    maps = shapes(scratch.springfield_best(42), 224, kinds)
    assert maps == [
        *[(32, 109, 109), (32, 54, 54), (64, 25, 25), (64, 12, 12)],
        *[(128, 12, 12), (256, 12, 12), (256, 12, 12), (256, 11, 11), (256, 5, 5), (256, 4, 4)],
    ]


def test_springfield_best_resizes_its_last_map_bilinearly():
    maps = torch.randn(2, 3, 5, 5)
    expected = F.interpolate(maps, size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scratch.Resize(4)(maps), expected)


def test_springfield_best_has_no_norm_after_its_first_convolution():
    names = [type(m).__name__ for m in scratch.springfield_best(42).trunk]
    assert names[1:7] == ["Conv2d", "ReLU", "AvgPool2d", "Conv2d", "BatchNorm2d", "ReLU"]


def test_simpsons_residual_has_the_parameters_counted_by_hand():
    def block(before, width, projected=False):
        projection = conv(before, width, 1) + norm(width) if projected else 0
        return conv(before, width, 3) + conv(width, width, 3) + 2 * norm(width) + projection

    blocks = 2 * block(64, 64) + block(64, 128, True) + block(128, 128) + block(128, 256, True) + block(256, 256)
    head = linear(256, 512) + norm(512) + linear(512, 42)
    assert parameters(NETWORKS["simpsons_residual"](42)) == conv(3, 64, 5) + norm(64) + blocks + head


def test_simpsons_residual_has_its_authors_maps():
    maps = shapes(NETWORKS["simpsons_residual"](42), 128, scratch.Block)
    assert maps == [(64, 65, 65), (64, 65, 65), (128, 33, 33), (128, 33, 33), (256, 17, 17), (256, 17, 17)]


def test_the_hidden_layer_of_simpsons_residual_drops_out_before_its_relu():
    head = NETWORKS["simpsons_residual"](42).head
    assert [type(m).__name__ for m in head] == ["Linear", "BatchNorm1d", "Dropout", "ReLU", "Linear"]


def test_a_block_adds_its_input_before_the_last_relu():
    block = scratch.Block(4, 4).eval()
    nn.init.zeros_(block.branch[-1].weight)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x.relu())


def test_a_block_with_a_stride_halves_its_input_by_a_projection():
    block = scratch.Block(4, 4, stride=2).eval()
    nn.init.zeros_(block.branch[-1].weight)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), block.skip(x).relu())
    assert block(x).shape == (2, 4, 3, 3)


@pytest.mark.parametrize(("depth", "width", "expected"), [(1, 8, [8]), (3, 32, [32, 64, 128]), (4, 128, [128, 256, 512, 512])])
def test_searchable_cnn_has_as_many_blocks_and_channels_as_asked(depth, width, expected):
    network = scratch.searchable_cnn(5, depth, width, dropout=0.25)
    assert [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)] == expected
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.25]


@every_network
@pytest.mark.parametrize("side", [8, 28, 64, 128, 224])
def test_every_side_gives_class_scores(make, side):
    assert make(7).train()(torch.randn(2, 3, side, side)).shape == (2, 7)


@every_network
def test_gradients_reach_every_parameter(make):
    network = make(5).train()
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    # A convolution's bias in front of a norm has none but rounding; it is there since the author has it.
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("name", "side"), [("springfield_first", scratch.FIRST_SIDE), ("springfield_best", scratch.BEST_SIDE)])
def test_pictures_are_enlarged_only_where_the_layers_would_not_do(name, side):
    layers = NETWORKS[name](3).eval().trunk[1:]  # without AtLeast
    assert layers(torch.zeros(1, 3, side, side)).shape[0] == 1
    with pytest.raises(RuntimeError, match=r"too small|can't be greater"):
        layers(torch.zeros(1, 3, side - 1, side - 1))


def test_larger_pictures_are_left_as_they_are():
    images = torch.randn(1, 3, 20, 8)
    assert scratch.AtLeast(8)(images) is images
    assert scratch.AtLeast(16)(images).shape == (1, 3, 20, 16)
