from __future__ import annotations

import json
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sightline.data import albumentations_file, pipelines
from sightline.data.albumentations_file import load_albumentations
from sightline.data.augment import FITS, Stored, View, plain_views
from sightline.data.pipelines import Pipeline, from_callable, pipeline_batches
from sightline.data.store import Limits, PixelFiles, PixelStore, open_pixels
from sightline.data.table import scan
from sightline.errors import DataError, SettingsError

Array = npt.NDArray[Any]
N = 9
SIDE = 12
VIEW = View(10, "squash", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
BATCHES = [np.array([4, 0, 7, 2]), np.array([1, 8, 3]), np.array([5, 6])]
FIRST = [np.zeros_like(rows) for rows in BATCHES]
KEYS = np.arange(N, dtype=np.uint64) * 977
PATHS = [f"a/{i}.png" for i in range(N)]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return pytest.importorskip("albumentations")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(N):
        folder = root / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        height, width = draws.integers(6, 30, 2)
        Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return root


@pytest.fixture
def pixels(photos: Path, tmp_path: Path) -> PixelStore | PixelFiles:
    return open_pixels(scan(photos), SIDE, Limits(64_000_000, 1.0, 2, tmp_path / "cache"))[1]


def run(pixels: Any, pipeline: Pipeline, workers: int = 0, view: View = VIEW, **how: Any) -> list[torch.Tensor]:
    given = {"batches": BATCHES, "numbers": FIRST, "keys": KEYS, "paths": PATHS, "seed": 0, "epoch": 0} | how
    return list(pipeline_batches(pixels, view=view, pipeline=pipeline, workers=workers, **given))


def saved(library: Any, transform: Any, path: Path) -> Path:
    library.save(transform, path, data_format="json" if path.suffix == ".json" else "yaml")
    return path


def nothing(picture: Image.Image) -> Image.Image:
    return picture


def jumps(picture: Image.Image) -> torch.Tensor:
    """Draws from all three global generators."""
    moved = np.roll(np.array(picture), (random.randrange(50), np.random.randint(50)), (0, 1))
    return torch.from_numpy(moved).permute(2, 0, 1).bitwise_xor(torch.randint(0, 256, (), dtype=torch.uint8))


# ---- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
def test_a_pipeline_that_does_nothing_gives_the_plain_views(pixels: PixelStore, fit: str) -> None:
    view = View(10, fit, VIEW.mean, VIEW.std)
    for rows, made in zip(BATCHES, run(pixels, from_callable(nothing), view=view), strict=True):
        stored = Stored(pixels.read(rows), pixels.extents[rows], KEYS[rows])
        np.testing.assert_allclose(made.numpy(), plain_views(stored, view).numpy(), atol=2e-5)


def test_a_pipeline_gets_the_picture_alone_and_may_change_its_shape(pixels: PixelStore) -> None:
    seen = []

    def quarter(picture: Array, seed: int) -> Array:
        seen.append(picture.shape)
        return np.full((2, 7, 3), 255, np.uint8)

    made = run(pixels, Pipeline("quarter", quarter))
    assert seen == [(*pixels.extents[row], 3) for rows in BATCHES for row in rows]
    for views in made:
        white = (1 - torch.tensor(VIEW.mean)) / torch.tensor(VIEW.std)
        torch.testing.assert_close(views, white.view(1, 3, 1, 1).expand_as(views))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(pixels: PixelStore, workers: int) -> None:
    alone = run(pixels, from_callable(jumps))
    for one, other in zip(alone, run(pixels, from_callable(jumps), workers), strict=True):
        assert torch.equal(one, other)
        assert one.dtype == torch.float32


def test_how_rows_are_batched_changes_nothing(pixels: PixelStore) -> None:
    rows = np.concatenate(BATCHES)
    again = run(pixels, from_callable(jumps), batches=np.split(rows, [1, 3, 8]), numbers=np.split(np.zeros_like(rows), [1, 3, 8]))
    assert torch.equal(torch.cat(run(pixels, from_callable(jumps))), torch.cat(again))


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"epoch": 1}, {"keys": KEYS + np.uint64(1)}, {"numbers": [n + 1 for n in FIRST]}], ids=lambda o: next(iter(o))
)
def test_another_seed_epoch_key_or_number_gives_other_views(pixels: PixelStore, other: dict[str, Any]) -> None:
    first, second = (torch.cat(run(pixels, from_callable(jumps), **how)) for how in ({}, other))
    assert (first != second).flatten(1).any(1).all()


def test_files_that_are_decoded_each_time_can_be_read_in_workers(photos: Path, pixels: PixelStore, tmp_path: Path) -> None:
    decoded = open_pixels(scan(photos), SIDE, Limits(64_000_000, 0.0, 2, tmp_path / "other"))[1]
    assert isinstance(decoded, PixelFiles)
    decoded.read(BATCHES[0])  # its threads are there, but not in the workers
    for one, other in zip(run(pixels, from_callable(jumps)), run(decoded, from_callable(jumps), 2), strict=True):
        assert torch.equal(one, other)
    decoded.pool.shutdown()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_go_on_as_if_nothing_had_been(pixels: PixelStore, workers: int) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.random(), float(torch.rand(()))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    run(pixels, from_callable(jumps), workers)
    assert draw() == expected


def test_pixels_survive_the_journey_to_a_process_that_does_not_fork(
    photos: Path, pixels: PixelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = open_pixels(scan(photos), SIDE, Limits(64_000_000, 0.0, 2, tmp_path / "other"))[1]
    for source in (pixels, decoded):
        sent = pickle.dumps(pipelines._Views(source, PATHS, VIEW, from_callable(jumps)))
        assert len(sent) < 5000
        arrived = pickle.loads(sent)
        monkeypatch.setattr(pipelines, "get_worker_info", lambda views=arrived: SimpleNamespace(dataset=views))
        pipelines._begin(0)
        assert torch.equal(arrived.pixels.read(BATCHES[0]), pixels.read(BATCHES[0]))
        arrived.pixels.pool.shutdown() if isinstance(arrived.pixels, PixelFiles) else None
    decoded.pool.shutdown()  # type: ignore[union-attr]


# ---- what goes wrong at an image -------------------------------------------------------------------------------------


def breaks(picture: Image.Image) -> Image.Image:
    if random.random() < 0.4:
        raise RuntimeError("no more film.\nsecond line")
    return picture


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_inside_a_pipeline_is_one_sentence_with_the_image(pixels: PixelStore, workers: int) -> None:
    with pytest.raises(SettingsError) as told:
        run(pixels, Pipeline("breaks", from_callable(breaks).apply), workers)
    first, rest = str(told.value)[:17], str(told.value)[17:]
    assert first == "breaks fails at a"
    assert rest.endswith(".png: no more film.")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (lambda p: np.asarray(p, dtype=np.float32) / 255, "float32 of shape .* normalises itself"),
        (lambda p: np.zeros((4, 4), np.uint8), r"uint8 of shape \(4, 4\)"),
        (lambda p: np.zeros((0, 4, 3), np.uint8), "shape"),
        (lambda p: None, "NoneType, not a picture"),
        (lambda p: v2.functional.to_dtype(v2.functional.pil_to_tensor(p), torch.float32, scale=True), "float32"),
    ],
)
def test_what_is_no_picture_is_refused(pixels: PixelStore, given: Callable[[Image.Image], Any], what: str) -> None:
    with pytest.raises(SettingsError, match=rf"fails at a/4\.png: .*{what}"):
        run(pixels, from_callable(given))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_gone_is_told_as_ever(photos: Path, tmp_path: Path, workers: int) -> None:
    class Gone:
        extents = np.full((N, 2), SIDE, np.int32)
        side = SIDE

        def read(self, rows: Array, into: Any = None) -> torch.Tensor:
            raise DataError("a/4.png is gone.")

    with pytest.raises(DataError, match=r"^a/4\.png is gone\.$"):
        run(Gone(), from_callable(nothing), workers)


# ---- callables -------------------------------------------------------------------------------------------------------


def test_torchvisions_transforms_draw_from_the_images_seed(pixels: PixelStore) -> None:
    transform = v2.Compose([v2.RandomResizedCrop(8), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)])
    first, second = (torch.cat(run(pixels, from_callable(transform))) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.cat(run(pixels, from_callable(transform), epoch=1)))


def test_a_callable_that_draws_from_elsewhere_is_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(SettingsError, match="restless gives two pictures for one seed"):
        from_callable(lambda picture: Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)), "restless")


def test_grey_pictures_of_a_callable_become_coloured(pixels: PixelStore) -> None:
    grey = torch.cat(run(pixels, from_callable(lambda picture: picture.convert("L")))) * torch.tensor(VIEW.std).view(3, 1, 1)
    colours = grey + torch.tensor(VIEW.mean).view(3, 1, 1)
    torch.testing.assert_close(colours[:, 0], colours[:, 2], atol=1e-5, rtol=0)


# ---- Albumentations --------------------------------------------------------------------------------------------------


def everything(library: Any) -> Any:
    a = library
    return a.Compose(
        [
            a.OneOf([a.HorizontalFlip(p=1), a.GaussianBlur(p=1)], p=0.9),
            a.OneOrOther(a.VerticalFlip(), a.NoOp()),
            a.SomeOf([a.Rotate(limit=40), a.Affine(shear=10, translate_percent=0.1)], n=1),
            a.Sequential([a.RandomGamma(p=0.5)], p=0.5),
            a.RandomResizedCrop((9, 11), scale=(0.5, 1.0)),
            a.GaussNoise(p=0.5),
            a.CoarseDropout(fill="random", p=0.5),
        ]
    )


@pytest.mark.parametrize("name", ["pipeline.yaml", "pipeline.json"])
def test_a_saved_pipeline_does_what_the_one_that_was_saved_does(library: Any, tmp_path: Path, name: str) -> None:
    pipeline = load_albumentations(saved(library, everything(library), tmp_path / name))
    assert pipeline.notes == ()
    original = library.Compose([everything(library)])  # one more draw, as ours
    picture = np.random.default_rng(0).integers(0, 256, (14, 17, 3), dtype=np.uint8)
    for seed in range(20):
        original.set_random_state(np.random.default_rng(seed), random.Random(seed))
        assert np.array_equal(pipeline.apply(picture, seed), original(image=picture)["image"])


def test_albumentations_views_do_not_depend_on_workers(library: Any, pixels: PixelStore, tmp_path: Path) -> None:
    pipeline = load_albumentations(saved(library, everything(library), tmp_path / "p.yaml"))
    alone, with_workers = (torch.cat(run(pixels, pipeline, workers)) for workers in (0, 2))
    assert torch.equal(alone, with_workers)
    assert not torch.equal(alone, torch.cat(run(pixels, pipeline, epoch=1)))


def test_two_transforms_draw_independently(library: Any, tmp_path: Path) -> None:
    """Albumentations' own set_random_seed gives each transform the same stream."""
    flips = library.Compose([library.HorizontalFlip(p=0.5), library.VerticalFlip(p=0.5)])
    pipeline = load_albumentations(saved(library, flips, tmp_path / "p.json"))
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    seen = [pipeline.apply(picture, seed).tobytes() for seed in range(400)]
    counts = [seen.count(one) for one in set(seen)]
    assert len(counts) == 4
    assert max(abs(count - 100) for count in counts) < 5 * np.sqrt(400 * 3 / 16)


NEEDED = {
    **{key: {"height": 8, "width": 8} for key in ("CenterCrop", "RandomCrop", "Resize")},
    **{key: {"max_size": 9} for key in ("LongestMaxSize", "SmallestMaxSize")},
    "RandomResizedCrop": {"size": (8, 8)},
    "RandomSizedCrop": {"min_max_height": (5, 8), "size": (8, 8)},
    "CropAndPad": {"px": 3},
    "Crop": {"x_max": 8, "y_max": 8},
    "GridElasticDeform": {"num_grid_xy": (4, 4), "magnitude": 3},
    "PadIfNeeded": {"min_height": 20, "min_width": 20},
}


@pytest.mark.filterwarnings("ignore")
def test_every_transform_that_is_let_in_can_be_repeated(library: Any, tmp_path: Path) -> None:
    picture, path, let_in = np.random.default_rng(0).integers(0, 256, (14, 17, 3), dtype=np.uint8), tmp_path / "p.json", 0
    for name, kind in library.core.serialization.SERIALIZABLE_REGISTRY.items():
        try:
            library.save(kind(p=1.0, **NEEDED.get(name, {})), path)
            pipeline = load_albumentations(path)
            first = pipeline.apply(picture.copy(), 5)
        except Exception:
            continue  # abstract, not for files, or refused: see below
        random.seed(let_in)
        pipeline.apply(picture.copy(), 6)
        assert np.array_equal(first, pipeline.apply(picture.copy(), 5)), name
        assert pipelines._checked(first).dtype == np.uint8, name
        let_in += 1
    assert let_in > 75


def tree_of(*transforms: dict[str, Any], **whole: Any) -> dict[str, Any]:
    return {"__version__": "2.0.8", "transform": {"__class_fullname__": "Compose", "p": 1.0, "transforms": list(transforms), **whole}}


def one(name: str, **arguments: Any) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": 1.0, **arguments}


@pytest.mark.parametrize(
    ("tree", "what"),
    [
        ([], "is not a pipeline"),
        ({"transform": 3}, "is not a pipeline"),
        (tree_of({"p": 1.0}), "no __class_fullname__"),
        (tree_of(one("HorizontalFlop")), "no transform HorizontalFlop. Did you mean HorizontalFlip"),
        (tree_of(one("os.system")), "no transform"),
        (tree_of(one("Rotate", limits=[0, 3])), "Rotate has no argument limits. Did you mean limit"),
        (tree_of(one("OneOf", transforms=[one("HorizontalFlip", often=1)])), "HorizontalFlip has no argument often"),
        (tree_of(one("MedianBlur", blur_limit=5, often=1)), "MedianBlur has no argument often"),
        (tree_of(one("SafeRotate", limit=[-9, 9], shear=[5, 5])), "SafeRotate has no argument shear"),
        (tree_of(one("Rotate", limit="far")), "Rotate cannot be made: limit.*: "),
        (tree_of(one("Resize", height=8)), "Resize cannot be made: width: Field required"),
        (tree_of({"__class_fullname__": "HorizontalFlip"}), "HorizontalFlip has no p"),
        (tree_of(one("Lambda", __name__="mine")), "Lambda cannot be used here: it is Python code"),
        (tree_of(one("Normalize")), "Normalize cannot be used here: sightline normalises"),
        (tree_of(one("OneOf", transforms=[one("ToTensorV2")])), "ToTensorV2 cannot be used here: sightline normalises"),
        ({"transform": one("ReplayCompose", transforms=[])}, "ReplayCompose cannot be used here: it records"),
        (tree_of(one("FDA", beta_limit=[0, 0.1])), "FDA cannot be used here: it needs fda_metadata"),
        (tree_of(one("MaskDropout")), "it needs mask"),
        (tree_of(one("BBoxSafeRandomCrop")), "boxes or masks"),
        (tree_of(one("CoarseDropout3D")), "would do nothing"),
        (tree_of(bbox_params={"format": "yolo"}), "Compose has bbox_params"),
        (tree_of(additional_targets={"image2": "image"}), "Compose has additional_targets"),
        (tree_of(seed=3), "the seed of Compose would have no effect"),
        (tree_of(one("SelectiveChannelTransform", transforms=[one("RandomGamma")])), "left out the channels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_refused_in_a_sentence(library: Any, tmp_path: Path, tree: Any, what: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(SettingsError, match=what) as told:
        load_albumentations(path)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("p.txt", "{}", "must end in .yaml or .json"),
        ("p.json", "{", "cannot be read as JSON"),
        ("p.yaml", "a: [", "cannot be read as YAML"),
        ("p.yaml", "a: 1\na: 2", "written twice"),
        ("p.yaml", "\x00", "cannot be read as YAML"),
        ("missing.yaml", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, text: str | None, what: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=what):
        load_albumentations(tmp_path / name)


def test_where_albumentations_is_missing_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.json").write_text(json.dumps(tree_of()))
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(SettingsError, match=r'pip install "sightline\[albumentations\]"'):
        load_albumentations(tmp_path / "p.json")


def test_the_agpl_edition_and_what_the_library_warns_of_are_noted(library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(albumentations_file, "_installed", lambda name: name == "albumentationsx")
    (tmp_path / "p.json").write_text(json.dumps(tree_of(one("TimeReverse"))))
    notes = load_albumentations(tmp_path / "p.json").notes
    assert any("AGPL" in note for note in notes)
    assert any("HorizontalFlip" in note for note in notes)


def test_pipelines_are_equal_where_their_files_say_the_same(library: Any, tmp_path: Path) -> None:
    first = load_albumentations(saved(library, everything(library), tmp_path / "one.yaml"))
    same = load_albumentations(saved(library, everything(library), tmp_path / "two.json"))
    other = load_albumentations(saved(library, library.Compose([library.Rotate(limit=3)]), tmp_path / "three.json"))
    assert first.identity == same.identity
    assert first.identity != other.identity
    assert from_callable(nothing).identity is None
