"""What training makes smaller, and how the sizes of the classes enter it.

    loss = build_loss(config.train, counts)         counts: images a class of the train part
    loss(logits, labels)                            (B, K) float32, (B,) int64 -> scalar
    loss(logits, labels, partner, share)            MixUp, CutMix: picture b is share[b] of labels[b], else of partner[b]
    shift = posthoc_shift(tau, counts)              (K,) to be added to the logits of the trained network

Four parts, in this order: the logits are adjusted by the class frequencies; every image has a loss; an image weighs as
much as its class; the weighted mean is the scalar. It gives up losses that know more than logits, labels and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sightline.settings import TrainSettings

Each = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (B, K), (B,) -> (B,)


class Loss(Protocol):
    """(B, K) float32 logits and (B,) int64 labels to a scalar; `partner` and `share` are both given or both None."""

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, partner: torch.Tensor | None = None, share: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`partner`: (B,) int64, the second labels; `share`: (B,) in [0, 1], how much the first ones count."""

    def weight(self, labels: torch.Tensor, partner: torch.Tensor | None = None, share: torch.Tensor | None = None) -> torch.Tensor:
        """What the loss divides by: how much these images weigh beside those of another process."""


def build_loss(settings: TrainSettings, counts: Sequence[int]) -> Loss:
    """The loss that the settings describe: sum(w l) / sum(w) over the images of a batch, w the weight of an image's class.

    Without class weights that is the mean. A mixed picture is two images, each counting as much as its share (Zhang et
    al. 2018, "mixup"; Yun et al. 2019, "CutMix"). It agrees with torch's weighted losses but for label smoothing: torch
    weighs the smoothed part of the target by the classes it falls on, so that at strong imbalance a common image's target
    would be a rare class; here a weight multiplies all of an image's loss.

    Args:
        settings: none of those read here is "auto" any more.
        counts: images a class of the train part, (K,); a class may have none.
    """
    assert settings.logit_adjustment != "auto", "settled before"
    each = _loss_of_each(settings, counts)
    weights = _float32(class_weights(settings, counts))
    shift = _float32(settings.logit_adjustment * _log_prior(counts) if settings.logit_adjustment else None)

    return _Weighted(each, weights, shift)


@dataclass(frozen=True, slots=True, eq=False)
class _Weighted:
    """A `Loss`: the weighted mean of each image's."""

    each: Each
    weights: torch.Tensor | None  # (K,) of the classes
    shift: torch.Tensor | None  # (K,) of the logits

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, partner: torch.Tensor | None = None, share: torch.Tensor | None = None
    ) -> torch.Tensor:
        if self.shift is not None:
            logits = logits + self.shift.to(logits.device)
        w, v = self._weigh(labels, partner, share)
        if partner is None or v is None:
            return (w * self.each(logits, labels)).sum() / w.sum()
        return (w * self.each(logits, labels) + v * self.each(logits, partner)).sum() / (w + v).sum()

    def weight(self, labels: torch.Tensor, partner: torch.Tensor | None = None, share: torch.Tensor | None = None) -> torch.Tensor:
        w, v = self._weigh(labels, partner, share)
        return w.sum() if v is None else (w + v).sum()

    def _weigh(
        self, labels: torch.Tensor, partner: torch.Tensor | None, share: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B,) weights of the labels, and of the partners where there are any."""
        if partner is None:
            return self._of(labels, torch.ones(len(labels), device=labels.device)), None
        assert share is not None, "a partner needs a share"
        return self._of(labels, share), self._of(partner, 1 - share)

    def _of(self, labels: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return share if self.weights is None else share * self.weights.to(labels.device)[labels]


# ---- the loss of each image --------------------------------------------------------------------------------------------


def _loss_of_each(settings: TrainSettings, counts: Sequence[int]) -> Each:
    assert settings.loss != "auto", "settled before"
    if settings.loss == "focal":
        return _focal(settings.focal_gamma, settings.focal_alpha)
    if settings.loss == "ldam":
        return _ldam(ldam_margins(counts, settings.ldam_margin), settings.ldam_scale)
    assert settings.label_smoothing != "auto", "settled before"
    return _cross_entropy(settings.label_smoothing)


def _cross_entropy(smoothing: float) -> Each:
    """Cross entropy, its targets smoothed (Szegedy et al. 2016, section 7)."""

    def each(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    return each


def _focal(gamma: float, alpha: float) -> Each:
    """-alpha (1 - p)^gamma log p of the label's probability p (Lin et al. 2017, eq. 5, with a softmax for their sigmoid)."""

    def each(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_p = -F.cross_entropy(logits, labels, reduction="none")
        # p may round to 1, where the slope of (1 - p)^gamma is infinite for gamma < 1.
        miss = (-torch.expm1(log_p)).clamp_min(1e-12)
        return -alpha * miss**gamma * log_p

    return each


def ldam_margins(counts: Sequence[int], largest: float) -> npt.NDArray[np.float64]:
    """(K,) margins C / n^(1/4), C so that the smallest class has the `largest` (Cao et al. 2019, eq. 13).

    A class without images is treated as the smallest that has some: no label ever asks for its margin.
    """
    n = np.asarray(counts, dtype=np.float64)
    smallest = n[n > 0].min()
    margins: npt.NDArray[np.float64] = largest * (smallest / np.maximum(n, smallest)) ** 0.25
    return margins


def _ldam(margins: npt.NDArray[np.float64], scale: float) -> Each:
    """Cross entropy of scale * (logits, the label's less its margin), over `scale` (Cao et al. 2019, eq. 13).

    Two things differ from the paper's code. There the logits are cosines, because the class layer and its input are
    normalised; ours is a plain linear layer, so its logits have no bound and the margin is in their own units. And the
    division by `scale`, which moves no minimum, keeps gradients as large as cross entropy's: without it SGD diverges at
    its usual rate. The trained network answers with unscaled logits; the temperature fitted on val makes up for that.
    """
    margin = torch.from_numpy(margins).float()

    def each(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        taken = margin.to(labels.device)[labels]  # (B,)
        lowered = logits.scatter_add(1, labels[:, None], -taken[:, None])
        return F.cross_entropy(scale * lowered, labels, reduction="none") / scale

    return each


# ---- the sizes of the classes ------------------------------------------------------------------------------------------


def class_weights(settings: TrainSettings, counts: Sequence[int]) -> npt.NDArray[np.float64] | None:
    """(K,) weights of the classes, None where all weigh alike; a class without images weighs 0.

    inverse: n / (K n_j), K the classes that have images: scikit-learn's "balanced" (King and Zeng 2001).
    effective: (1 - beta) / (1 - beta^n_j), their sum K (Cui et al. 2019, eq. 2, and its normalisation).
    """
    assert settings.class_weights != "auto", "settled before"
    if settings.class_weights == "none":
        return None
    n = np.asarray(counts, dtype=np.float64)
    weights = np.zeros(len(n))
    present = n > 0
    if settings.class_weights == "inverse":
        weights[present] = n.sum() / (present.sum() * n[present])
        return weights
    beta = settings.effective_beta
    weights[present] = (1 - beta) / (1 - beta ** n[present])
    weights *= present.sum() / weights.sum()
    return weights


def posthoc_shift(tau: float, counts: Sequence[int]) -> npt.NDArray[np.float32] | None:
    """(K,) what is added to the logits of the trained network: -tau log prior (Menon et al. 2021, eq. 9); None for tau 0."""
    return (-tau * _log_prior(counts)).astype(np.float32) if tau else None


def _log_prior(counts: Sequence[int]) -> npt.NDArray[np.float64]:
    """(K,) log shares of the train part.

    Times tau and added to the logits in the loss it is Menon et al. 2021, eq. 10; with tau 1, Ren et al. 2020's balanced
    softmax. A class without images counts as one with a single image, so that its share has a logarithm.
    """
    n = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    prior: npt.NDArray[np.float64] = n / n.sum()
    return np.log(prior)


def _float32(values: npt.NDArray[np.float64] | None) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values).float()
