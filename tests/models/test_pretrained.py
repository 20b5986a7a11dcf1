import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save, save_file

from sightline.errors import ModelError
from sightline.models import pretrained
from sightline.models.head import Network, mlp_head

TINY = "resnet10t"


def timm_file(path, name=TINY, classes=1000, **options):
    """A network of timm with random weights, and the file that its publisher would have put on the hub."""
    torch.manual_seed(3)
    network = timm.create_model(name, num_classes=classes, **options).eval()
    save_file(network.state_dict(), path)
    return network


def same(module, other):
    return all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True))


# ---- networks of every kind ----


@pytest.mark.parametrize(
    ("name", "side"),
    [
        (TINY, 28),
        ("mobilenetv3_small_050", 64),
        ("deit_tiny_distilled_patch16_224", 64),
        ("convnext_atto", 64),
        ("efficientnet_b0", 64),
        ("regnetx_002", 64),
        ("swin_tiny_patch4_window7_224", 56),
    ],
)
def test_every_kind_of_network_gives_the_features_that_were_measured(name, side):
    options = pretrained.options_for(name, side)
    features = pretrained.measure(name, options, side)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert pretrained.make(name, options)(images).shape == (2, features)


@pytest.mark.parametrize(("name", "features"), [("vgg11", 4096), ("inception_v3", 2048)])
def test_large_networks_are_measured_without_memory(name, features):
    assert pretrained.measure(name, {}, pretrained.native_size(name)) == features


@pytest.mark.parametrize(
    ("name", "side", "hint"),
    [
        ("vgg11", 28, "32, the next that it takes, or 224, its own"),
        ("convnext_atto", 16, "32, the next"),
        ("inception_v3", 64, "80, the next that it takes, or 299, its own"),
        ("vit_tiny_patch16_224", 28, "32, the next"),
    ],
)
def test_a_side_that_the_network_cannot_take_is_answered_with_one_that_it_can(name, side, hint):
    with pytest.raises(ModelError, match=rf"{name} cannot take pictures of {side} x {side} .* Set data\.size to {hint}"):
        pretrained.measure(name, pretrained.options_for(name, side), side)


def test_only_networks_with_a_fixed_side_are_built_for_another():
    assert pretrained.options_for("vit_tiny_patch16_224", 64) == {"img_size": 64}
    assert pretrained.options_for("vit_tiny_patch16_224", 224) == {}
    assert pretrained.options_for(TINY, 64) == {}


def test_a_network_without_stochastic_depth_refuses_drop_path():
    with pytest.raises(ModelError, match=r"vgg11 has no stochastic depth: leave model\.drop_path out"):
        pretrained.measure("vgg11", pretrained.options_for("vgg11", 64, 0.1), 64)


def test_drop_path_reaches_the_network():
    trunk = pretrained.make(TINY, pretrained.options_for(TINY, 64, 0.25))
    assert max(getattr(module, "drop_prob", 0) or 0 for module in trunk.modules()) == 0.25


def test_a_network_that_gives_no_feature_vector_is_refused():
    with pytest.raises(ModelError, match="gives no feature vector"):
        pretrained.measure("qwen3_vit_88m_enc", {}, pretrained.native_size("qwen3_vit_88m_enc"))


# ---- local files ----


@pytest.mark.parametrize("name", [TINY, "deit_tiny_distilled_patch16_224", "mobilenetv3_small_050"])
def test_a_trunk_from_a_file_computes_what_the_files_network_computed(tmp_path, name):
    theirs = timm_file(tmp_path / "w.safetensors", name)
    loaded = pretrained.trunk(name, {}, str(tmp_path / "w.safetensors"))
    assert loaded.weights == str(tmp_path / "w.safetensors")
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        torch.testing.assert_close(loaded.trunk.eval()(images), expected)


def test_the_class_layer_of_a_file_makes_the_same_classifier(tmp_path):
    theirs = timm_file(tmp_path / "w.safetensors", classes=7)
    loaded = pretrained.trunk(TINY, {}, str(tmp_path / "w.safetensors"))
    network = Network(loaded.trunk, mlp_head(512, [], 7)).eval()
    network.head.load_state_dict(loaded.head)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network(images), theirs(images))


def test_a_file_without_a_class_layer_is_whole(tmp_path):
    theirs = timm_file(tmp_path / "w.safetensors", classes=0)
    loaded = pretrained.trunk(TINY, {}, str(tmp_path / "w.safetensors"))
    assert same(loaded.trunk, theirs)
    assert loaded.head == {}


def test_position_embeddings_are_adapted_to_another_side(tmp_path):
    theirs = timm_file(tmp_path / "w.safetensors", "vit_tiny_patch16_224")
    loaded = pretrained.trunk("vit_tiny_patch16_224", {"img_size": 64}, str(tmp_path / "w.safetensors"))
    assert theirs.pos_embed.shape == (1, 1 + 14 * 14, 192)
    assert loaded.trunk.pos_embed.shape == (1, 1 + 4 * 4, 192)
    torch.testing.assert_close(loaded.trunk.blocks[3].mlp.fc1.weight, theirs.blocks[3].mlp.fc1.weight)


def test_a_file_of_ours_gives_trunk_and_head(tmp_path):
    network = Network(pretrained.make(TINY, {}), mlp_head(512, [8], 4))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    loaded = pretrained.trunk(TINY, {}, str(tmp_path / "model.safetensors"))
    assert same(loaded.trunk, network.trunk)
    assert set(loaded.head) == set(network.head.state_dict())
    assert loaded.mean is None
    assert "data.mean" in loaded.notes[0]


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "another network"])
def test_a_file_that_does_not_fit_is_refused_with_its_first_keys(tmp_path, change):
    file = tmp_path / "w.safetensors"
    timm_file(file, "resnet18" if change == "another network" else TINY, classes=5)
    tensors = load_file(file)
    if change == "missing":
        del tensors["layer1.0.conv1.weight"]
    if change == "unknown":
        tensors["layer9.weight"] = torch.zeros(1)
    if change == "shape":
        tensors["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"do not fit resnet10t: .*layer") as caught:
        pretrained.trunk(TINY, {}, str(file))
    assert len(str(caught.value)) < 900


def test_no_copy_of_the_weights_stays_behind(tmp_path):
    timm_file(tmp_path / "w.safetensors")
    loaded = pretrained.trunk(TINY, {}, str(tmp_path / "w.safetensors"))
    assert "state_dict" not in loaded.trunk.pretrained_cfg


# ---- the hub ----

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def answer(files, asked, hang):
    """A request handler that speaks as much of the hub's language as its client needs."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._reply(body=False)

        def do_GET(self):
            self._reply(body=True)

        def _reply(self, body):
            asked.append(f"{self.command} {self.path}")
            if hang.is_set():
                time.sleep(3)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", '"0f"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content:
                self.wfile.write(content)

        def log_message(self, *_arguments):
            pass

    return Hub


class FakeHub:
    def __init__(self):
        self.files, self.asked, self.hang = {}, [], threading.Event()

    def publish(self, content, file="model.safetensors", repo="timm/resnet10t.c3_in1k"):
        self.files[f"/{repo}/resolve/main/{file}"] = content


@contextmanager
def served(hub):
    server = ThreadingHTTPServer(("127.0.0.1", 0), answer(hub.files, hub.asked, hub.hang))
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def point_at(monkeypatch, tmp_path, address):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = FakeHub()
    with served(hub) as address:
        point_at(monkeypatch, tmp_path, address)
        yield hub


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    point_at(monkeypatch, tmp_path, "http://127.0.0.1:9")  # nobody listens


def test_published_weights_are_fetched_and_loaded(hub):
    torch.manual_seed(5)
    theirs = timm.create_model(TINY)
    hub.publish(save(theirs.state_dict()))
    loaded = pretrained.trunk(TINY, {}, "pretrained")
    theirs.reset_classifier(0)
    assert same(loaded.trunk, theirs)
    assert (loaded.weights, loaded.notes, loaded.head) == ("pretrained", (), None)
    assert loaded.mean == (0.485, 0.456, 0.406)


def test_weights_in_the_cache_need_no_hub(hub, monkeypatch, tmp_path):
    hub.publish(save(timm.create_model(TINY).state_dict()))
    first = pretrained.trunk(TINY, {}, "auto")
    point_at(monkeypatch, tmp_path, "http://127.0.0.1:9")
    again = pretrained.trunk(TINY, {}, "pretrained")
    assert (first.weights, again.weights) == ("pretrained", "pretrained")
    assert same(first.trunk, again.trunk)


def test_the_tag_of_the_name_chooses_the_weights(hub):
    hub.publish(save(timm.create_model("resnet18").state_dict()), repo="timm/resnet18.tv_in1k")
    assert pretrained.trunk("resnet18.tv_in1k", {}, "pretrained").weights == "pretrained"
    assert all("resnet18.tv_in1k" in line for line in hub.asked)


@pytest.mark.usefixtures("no_hub")
def test_without_a_hub_pretrained_fails_at_once():
    start = time.perf_counter()
    with pytest.raises(ModelError, match=r"resnet10t are not in the hub's cache and could not be fetched"):
        pretrained.trunk(TINY, {}, "pretrained")
    assert time.perf_counter() - start < 5  # the hub's own client tries for 23 seconds


@pytest.mark.usefixtures("no_hub")
def test_without_a_hub_auto_starts_from_scratch_and_says_so():
    torch.manual_seed(1)
    loaded = pretrained.trunk(TINY, {}, "auto")
    torch.manual_seed(1)
    assert same(loaded.trunk, pretrained.make(TINY, {}))
    assert (loaded.weights, loaded.mean, loaded.std) == ("none", None, None)
    assert "STARTS FROM SCRATCH" in loaded.notes[0]


def test_a_hub_that_does_not_answer_is_left_soon(hub, monkeypatch):
    monkeypatch.setattr(pretrained, "HUB_SECONDS", 0.2)
    hub.hang.set()
    start = time.perf_counter()
    with pytest.raises(ModelError, match="could not be fetched"):
        pretrained.fetch(TINY)
    assert time.perf_counter() - start < 2
    assert len(hub.asked) == 1


def test_a_pickle_on_the_hub_is_not_even_asked_for(hub):
    hub.publish(b"not read", file="pytorch_model.bin")
    with pytest.raises(ModelError, match="could not be fetched"):
        pretrained.fetch(TINY)
    assert not any("pytorch_model" in line for line in hub.asked)


def test_a_network_published_as_a_pickle_only_is_refused():
    with pytest.raises(ModelError, match="legacy_seresnet18 are published as a pickle only"):
        pretrained.fetch("legacy_seresnet18")


def test_a_network_without_published_weights_says_so():
    with pytest.raises(ModelError, match="seresnet18 has no published weights"):
        pretrained.trunk("seresnet18", {}, "pretrained")
    assert "no published weights" in pretrained.trunk("seresnet18", {}, "auto").notes[0]


def test_a_damaged_file_on_the_hub_is_refused(hub):
    hub.publish(save(timm.create_model(TINY).state_dict())[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        pretrained.trunk(TINY, {}, "pretrained")


@pytest.mark.usefixtures("no_hub")
def test_no_road_to_weights_reads_a_pickle(tmp_path, monkeypatch):
    def explode(*_arguments, **_named):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(torch, "load", explode)
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pth")
    for name, wanted in ((TINY, "auto"), ("legacy_seresnet18", "auto"), (TINY, "none")):
        pretrained.trunk(name, {}, wanted)
    with pytest.raises(ModelError, match="is not a"):
        pretrained.trunk(TINY, {}, str(tmp_path / "w.pth"))
