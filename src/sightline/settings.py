"""Every setting there is: its default, its checks and what it means, in one list a room.

A field's description, range and `needs` make the help, the error sentences and `docs/settings.md`. `needs` names what
decides whether a field is read at all: other settings, or a few words. "auto" values are resolved once, from the data
and the machine, and saved resolved. It gives up nesting: every setting is `room.name`, but for `imbalance` and `phases`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Scale = Annotated[float, Field(gt=0, le=1)]
# A list is a tuple in Python, so the tuples are not strict; what they hold is.
Pair = Annotated[tuple[Positive, Positive], Field(strict=False)]
Fractions = Annotated[tuple[Fraction, Fraction, Fraction], Field(strict=False)]
Scales = Annotated[tuple[Scale, Scale, Scale], Field(strict=False)]


def setting(default: Any, description: str, *, needs: Sequence[str] = (), **checks: Any) -> Any:
    """A field with its description and what it depends on: other settings, or a few words."""
    return Field(default, description=description, json_schema_extra={"needs": list(needs)}, **checks)


_NO_OWN_SPLIT = "images that are divided already"  # these follow "has no effect with"
_OWN_SPLIT = "images that are not divided already"


class Settings(BaseModel):
    """Frozen, strict (a bool is no int, a text is no number), and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSettings(Settings):
    """Which pixels the network sees."""

    size: Annotated[int, Field(ge=8, le=4096)] | Auto = setting(
        "auto",
        "side of the network's square input in pixels; auto: the pretrained network's own, or what the images have, at most 128",
    )
    fit: Literal["squash", "crop", "letterbox"] = setting(
        "squash",
        "how a picture that is not square meets the square input: squash it, cut out its centre, or pad it with grey",
    )
    store_size: Annotated[int, Field(ge=8, le=4096)] | Auto = setting(
        "auto",
        "long side of the stored pixels; auto: data.size, a third more for fit=crop; larger pictures are shrunk, smaller ones kept",
    )
    mean: Fractions | Auto = setting("auto", "mean of red, green and blue; auto: the pretrained network's, or the train part's")
    std: Scales | Auto = setting("auto", "standard deviation of red, green and blue; auto: as data.mean")
    max_pixels: int = setting(
        64_000_000,
        "a picture with more pixels is quarantined before it is decoded; Pillow itself refuses more than the largest value",
        ge=1,
        le=178_956_970,
    )
    store_gb: Annotated[float, Field(ge=0)] | Auto = setting(
        "auto", "largest pixel store in gigabytes; auto: half of the free disk; above it files are decoded each epoch"
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Auto = setting(
        "auto", "threads that decode files, or processes where these are thousands; auto: one a processor core"
    )
    corrections: str | None = setting(
        None, "a corrections.csv as `sightline labels` saves it, laid over the labels of train and val; files stay as they are"
    )
    correct_test: bool = setting(False, "apply the corrections to the test part too, which changes the judge", needs=["data.corrections"])


class SplitSettings(Settings):
    """How images are divided where the folder does not already say so."""

    fractions: Fractions = setting((0.7, 0.15, 0.15), "shares of train, val and test; they add up to 1", needs=[_NO_OWN_SPLIT])
    seed: int = setting(
        0, "which images fall where (another data.size may find other twins, and move those)", needs=[_NO_OWN_SPLIT], ge=0, lt=2**63
    )
    twins: Literal["near", "exact"] = setting(
        "near", "what stays together: near twins too (re-encoded, resized, cropped, mirrored, neighbouring frames), or equal pixels only"
    )
    repair: Literal["keep", "drop", "regroup"] = setting(
        "keep",
        "twins across your own split: keep them and give figures with and without, drop those in train whose twin judges, "
        "or regroup each group to where most of it is, of equal numbers to test",
        needs=[_OWN_SPLIT],
    )
    folds: Annotated[int, Field(ge=2, le=100)] | None = setting(
        None, "train so many more networks, each judged on its own fold, so that every image outside of your own test is judged once"
    )
    fold: Annotated[int, Field(ge=1, le=100)] | None = setting(None, "train the network of this fold only, from 1", needs=["split.folds"])

    @model_validator(mode="after")
    def _check(self) -> SplitSettings:
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise ValueError(f"split.fold={self.fold} must be one of the split.folds={self.folds or 'null'}")
        if abs(sum(self.fractions) - 1) > 1e-6 or 0 in self.fractions[:2]:
            raise ValueError("split.fractions must be three shares that add up to 1, train and val above 0, such as [0.7,0.15,0.15]")
        return self


class ModelSettings(Settings):
    """The network."""

    name: str = setting("sightline_small", "a network from `sightline models`: one of sightline's own or any of timm's")
    weights: str = setting(
        "auto",
        "auto (pretrained where they can be had), pretrained, none, or a local .safetensors file",
        needs=["model.name"],
    )
    partial_weights: bool = setting(
        False, "load what fits of a file that does not fit as a whole, and leave the rest random", needs=["model.weights"]
    )
    freeze: str | Annotated[tuple[str, ...], Field(strict=False)] = setting(
        "none",
        "what is not trained: none, trunk (all but the head), until:LAYER (all before it), or a list of layers",
    )
    head: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(strict=False)] = setting(
        (),
        "widths of hidden layers in front of the class layer, such as [1600,1024]; timm networks only",
        needs=["model.name"],
    )
    head_activation: Literal["relu", "gelu", "silu", "tanh"] = setting("relu", "between the head's layers", needs=["model.head"])
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = setting(0.0, "dropout before the class layer of a head", needs=["model.head"])
    head_batch_norm: bool = setting(False, "batch norm after each hidden layer of the head", needs=["model.head"])
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = setting(
        None, "dropout before the classifier; null: the network's own", needs=["model.name"]
    )
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = setting(
        None, "stochastic depth of timm networks; null: the network's own", needs=["model.name"]
    )
    depth: int = setting(4, "blocks of model.name=searchable_cnn", needs=["model.name"], ge=1, le=8)
    width: int = setting(32, "channels of the first block of model.name=searchable_cnn", needs=["model.name"], ge=4, le=512)


class AugmentSettings(Settings):
    """What training views may differ in. None takes the policy's value; `augment.policy=none` reads nothing else."""

    policy: Literal["none", "flip", "light", "standard", "strong", "trivial"] = setting(
        "standard", "what null stands for in the settings below; trivial: one operation an image, of random strength"
    )
    flip: Fraction | None = setting(None, "probability of a left-right flip", needs=["augment.policy"])
    vertical_flip: Fraction | None = setting(None, "probability of an up-down flip", needs=["augment.policy"])
    crop_scale: Annotated[tuple[Scale, Scale], Field(strict=False)] | None = setting(
        None, "smallest and largest share of the area that a random crop keeps", needs=["augment.policy"]
    )
    crop_ratio: Pair | None = setting(None, "smallest and largest width / height of a random crop", needs=["augment.policy"])
    rotate: Annotated[float, Field(ge=0, le=180)] | None = setting(None, "largest rotation in degrees", needs=["augment.policy"])
    shear: Annotated[float, Field(ge=0, le=60)] | None = setting(None, "largest horizontal shear in degrees", needs=["augment.policy"])
    scale: Pair | None = setting(None, "smallest and largest magnification", needs=["augment.policy"])
    translate: Annotated[float, Field(ge=0, le=1)] | None = setting(None, "largest shift as a share of the side", needs=["augment.policy"])
    brightness: Fraction | None = setting(None, "factor drawn from [1 - b, 1 + b]", needs=["augment.policy"])
    contrast: Fraction | None = setting(None, "factor drawn from [1 - c, 1 + c]", needs=["augment.policy"])
    saturation: Fraction | None = setting(None, "factor drawn from [1 - s, 1 + s]", needs=["augment.policy"])
    hue: Annotated[float, Field(ge=0, le=0.5)] | None = setting(
        None, "largest turn of the colour circle, in turns", needs=["augment.policy"]
    )
    grey: Fraction | None = setting(None, "probability of a grey picture", needs=["augment.policy"])
    fill: Literal["reflect", "constant"] = setting(
        "reflect", "what lies outside the picture: its mirror image, or grey", needs=["augment.policy", "data.fit"]
    )

    erase: Fraction | None = setting(None, "probability that a rectangle is blotted out with noise", needs=["augment.policy"])
    mixup: Annotated[float, Field(gt=0, le=10)] | None = setting(None, "MixUp: two pictures blended, shares from Beta(a, a); null: off")
    cutmix: Annotated[float, Field(gt=0, le=10)] | None = setting(
        None, "CutMix: a rectangle of another picture, its area from Beta(a, a); null: off; with mixup each takes half of the batches"
    )
    views: Annotated[int, Field(ge=1, le=10_000)] | Auto | None = setting(
        "auto", "different views of an image over the run, used in turn; null: a new one each epoch; auto: null, or what train.prefix keeps"
    )
    albumentations: str | None = setting(
        None, "a pipeline saved by Albumentations (.yaml or .json) in place of augment.policy; needs sightline[albumentations]"
    )

    @model_validator(mode="after")
    def _check(self) -> AugmentSettings:
        for name in ("crop_scale", "crop_ratio", "scale"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"augment.{name} must give the smaller number first")
        return self


class TrainSettings(Settings):
    """The optimisation."""

    epochs: int = setting(30, "passes over the train part", ge=1, le=100_000)
    batch_size: int = setting(64, "images a step", ge=1, le=65536)
    first_size: Annotated[int, Field(ge=8, le=4096)] | Auto | None = setting(
        "auto",
        "side of the pictures in the first 70 % of the epochs; it grows to data.size for the last 15 %, which is several times faster; "
        "null: data.size throughout; auto: 72 for 128 pixels, 36 for 64, 20 for 24 to 32, for sightline's own networks from scratch",
    )
    images_per_epoch: Annotated[int, Field(ge=1)] | None = setting(
        None, "an epoch shows so many images, and the next goes on from there; of train.views_per_class at most so many; null: all of them"
    )
    accumulate: int = setting(1, "batches whose gradients are added up for one step", ge=1, le=4096)
    optimizer: Literal["auto", "sgd", "adam", "adamw", "muon"] = setting(
        "auto", "the update rule; auto: muon for sightline's own networks from scratch, adamw for all others"
    )
    lr: Annotated[float, Field(gt=0, le=100)] | Auto = setting("auto", "the highest learning rate; auto: measured defaults a family")
    weight_decay: float = setting(0.05, "decoupled for adamw and muon, L2 for the others; not applied to biases and norms", ge=0, le=10)
    momentum: Annotated[float, Field(ge=0, lt=1)] = setting(0.9, "of sgd", needs=["train.optimizer"])
    nesterov: bool = setting(True, "of sgd", needs=["train.optimizer"])
    betas: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], Field(strict=False)] = setting(
        (0.9, 0.999), "of adam, adamw and muon", needs=["train.optimizer"]
    )
    amsgrad: bool = setting(False, "of adam and adamw", needs=["train.optimizer"])
    schedule: Literal["constant", "step", "cosine", "onecycle", "plateau"] = setting("onecycle", "how the learning rate goes")
    warmup: float = setting(0.0, "epochs of linear warm-up; onecycle has its own", needs=["train.schedule"], ge=0)
    onecycle_rise: Annotated[float, Field(gt=0, lt=1)] = setting(0.25, "share of the run in which onecycle rises", needs=["train.schedule"])
    step_epochs: int = setting(10, "epochs between the drops of step", needs=["train.schedule"], ge=1)
    factor: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "what step and plateau multiply with", needs=["train.schedule"])
    plateau_patience: int = setting(2, "epochs without progress before plateau drops the rate", needs=["train.schedule"], ge=0)
    loss: Literal["auto", "cross_entropy", "focal", "ldam"] = setting("auto", "what is made smaller; auto: as imbalance says")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | Auto = setting(
        "auto", "share of the target spread over all classes; auto: 0.1, and 0 with logit adjustment", needs=["train.loss"]
    )
    focal_gamma: Annotated[float, Field(ge=0, le=20)] = setting(
        2.0, "how little easy images count with train.loss=focal", needs=["train.loss"]
    )
    focal_alpha: Annotated[float, Field(gt=0, le=100)] = setting(1.0, "factor of train.loss=focal", needs=["train.loss"])
    ldam_margin: Annotated[float, Field(gt=0, le=10)] = setting(0.5, "largest margin of train.loss=ldam", needs=["train.loss"])
    ldam_scale: Annotated[float, Field(gt=0, le=1000)] = setting(
        30.0, "factor of the logits inside train.loss=ldam; the network's own stay as they are", needs=["train.loss"]
    )
    class_weights: Literal["auto", "none", "inverse", "effective"] = setting(
        "auto", "weights of the classes in the loss: inverse frequency, or effective number; auto: as imbalance says"
    )
    effective_beta: Annotated[float, Field(ge=0, lt=1)] = setting(
        0.999, "of train.class_weights=effective; 0: no weights, towards 1: inverse frequency", needs=["train.class_weights"]
    )
    sampler: Literal["auto", "shuffle", "balanced", "sqrt"] = setting(
        "auto",
        "which images an epoch shows: each once, or as many drawn so that classes (or the square roots of their sizes) weigh alike; "
        "auto: as imbalance says",
    )
    views_per_class: Annotated[int, Field(ge=1, le=1_000_000)] | Auto | None = setting(
        "auto", "an epoch shows so many augmented views of every class; null: as many as it has images; auto: as imbalance says"
    )
    logit_adjustment: Annotated[float, Field(ge=0, le=10)] | Auto = setting(
        "auto", "tau: log class frequencies added to the logits in the loss, 1 is balanced softmax, 0 off; auto: as imbalance says"
    )
    posthoc_adjustment: Annotated[float, Field(ge=0, le=10)] | Auto = setting(
        "auto", "tau: log class frequencies subtracted from the trained network's logits, 0 off; auto: as imbalance says"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "factor of the rate from each layer to the one before it")
    trunk_lr: Annotated[float, Field(gt=0, le=10)] = setting(1.0, "factor of the rate for all but the head")
    ema: Annotated[float, Field(gt=0, lt=1)] | Auto | None = setting(
        "auto",
        "judge and keep a moving average of the weights with this decay; null: the weights themselves; auto: 0.98 for sightline's own "
        "networks from scratch where an epoch has 15 steps or more, else null",
    )
    reset_head: bool = setting(False, "a phase begins with a new head", needs=["a run's first phase"])
    prefix: Literal["auto", "on", "off"] = setting(
        "auto", "keep what the frozen part computes instead of computing it each epoch; auto: where it pays", needs=["model.freeze"]
    )
    find_lr: bool = setting(False, "measure the rate in a range test before training; train.lr=auto takes what it finds")
    clip_norm: Annotated[float, Field(gt=0)] | None = setting(None, "largest norm of the gradient; null: any")
    sync_batch_norm: bool = setting(
        True, "batch norm over the whole batch of all of torchrun's processes, as one has it; false: each over its own part, sooner"
    )
    compile: bool = setting(
        False, "steps through torch.compile, with CUDA graphs on a GPU: a minute to begin with; slower on the processors that were measured"
    )
    monitor: Literal["macro_f1", "balanced_accuracy", "accuracy", "loss"] = setting(
        "macro_f1", "the figure on val that says which epoch is best"
    )
    patience: Annotated[int, Field(ge=1)] | None = setting(None, "epochs without a better one before training stops; null: never")
    restore_best: bool = setting(True, "end with the weights of the best epoch; false: of the last")
    seed: int = setting(0, "first weights, order, augmentation, dropout", ge=0, lt=2**63)
    seeds: int = setting(
        1,
        "train so many times, with train.seed, train.seed + 1, ..., on the same split; figures are given as mean and spread",
        ge=1,
        le=100,
    )
    checkpoint_minutes: float = setting(5.0, "minutes between checkpoints inside an epoch", gt=0)
    judge: bool = setting(True, "evaluate the test part once, at the end")
    report: bool = setting(True, "audit the images, and end with report.html, an embedding and heat maps")
    tensorboard: bool = setting(True, "write TensorBoard's scalars and pictures")
    log_weights: Annotated[int, Field(ge=1)] | None = setting(
        None, "epochs between histograms of each layer's weights and gradients in TensorBoard; null: none", needs=["train.tensorboard"]
    )


_TUNE = ["`sightline train`"]  # this follows "has no effect with": only `sightline tune` reads them


class TuneSettings(Settings):
    """What `sightline tune` searches, and how. Of a recipe, `train` leaves this section aside."""

    space: dict[str, Any] = setting(
        {},
        "what is searched, such as {train.lr: {from: 1e-4, to: 1e-1, log: true}, augment.policy: [light, standard]}; "
        "empty: a space that fits the network",
        needs=_TUNE,
    )
    objective: str | Annotated[tuple[str, ...], Field(strict=False)] = setting(
        "auto", "the figure to search by, or a list of them, such as [val_macro_f1, seconds]; auto: what train.monitor names", needs=_TUNE
    )
    direction: Literal["auto", "minimize", "maximize"] | Annotated[tuple[Literal["minimize", "maximize"], ...], Field(strict=False)] = (
        setting("auto", "which way is better, one for each objective; auto: as each figure is known to go", needs=_TUNE)
    )
    sampler: Literal["tpe", "gp", "cmaes", "random", "grid"] = setting("tpe", "what proposes the trials", needs=_TUNE)
    multivariate: bool = setting(True, "of sampler tpe: settings are proposed together, not each by itself", needs=["tune.sampler"])
    startup: int = setting(10, "trials drawn at random before tpe, gp and cmaes propose any", needs=["tune.sampler"], ge=1, le=100_000)
    pruner: Literal["auto", "none", "median", "percentile", "halving", "hyperband", "wilcoxon"] = setting(
        "auto", "what ends trials early; auto: median, none for several objectives, wilcoxon with tune.folds", needs=_TUNE
    )
    percentile: Annotated[float, Field(gt=0, lt=100)] = setting(
        25.0, "of pruner percentile: the share in percent of the trials so far that goes on", needs=["tune.pruner"]
    )
    warmup: int = setting(1, "epochs of a trial before median and percentile may end it", needs=["tune.pruner"], ge=0, le=100_000)
    folds: Annotated[int, Field(ge=2, le=100)] | None = setting(
        None, "judge a trial by its mean over so many folds of train and val; null: by val alone", needs=_TUNE
    )
    seed: int = setting(0, "of what the sampler draws; train.seed is that of each training", needs=_TUNE, ge=0, lt=2**63)
    refit: bool = setting(True, "train the best trial once more, and judge it on test", needs=_TUNE)
    seeds: int = setting(3, "how often the best is trained, with train.seed, train.seed + 1, ...", needs=["tune.refit"], ge=1, le=100)


class DeviceSettings(Settings):
    """Where and how it is computed."""

    name: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "auto: bfloat16 where the device computes it natively")
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = setting(
        "auto",
        "processor threads; auto: OMP_NUM_THREADS, or else the cores this process may use, fewer where that is measured to be faster",
    )
    channels_last: bool = setting(True, "memory order of images; faster convolutions on most devices")
