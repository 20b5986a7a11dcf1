"""From a folder of labelled images to a classifier you can trust.

    import sightline

    result = sightline.train("photos", ["train.epochs=20"])
    classifier = sightline.load(result.run.root)
    classifier.predict(["new.jpg"])

The names below are the public door; each is imported when it is first used, so `import sightline` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.classifier import Classifier, load
    from sightline.config import Config
    from sightline.errors import SightlineError
    from sightline.run.audit import audit
    from sightline.run.compare import compare
    from sightline.run.embed import embed
    from sightline.run.evaluate import evaluate
    from sightline.run.explain import explain
    from sightline.run.labels import labels
    from sightline.run.predict import predict
    from sightline.run.prepare import prepare
    from sightline.run.report import report
    from sightline.run.train import resume, train
    from sightline.run.tune import tune

__all__ = [
    "Classifier",
    "Config",
    "SightlineError",
    "audit",
    "compare",
    "embed",
    "evaluate",
    "explain",
    "labels",
    "load",
    "predict",
    "prepare",
    "report",
    "resume",
    "train",
    "tune",
]
__version__ = "0.1.0"

_HOMES = {
    "Classifier": "sightline.classifier",
    "Config": "sightline.config",
    "SightlineError": "sightline.errors",
    "audit": "sightline.run.audit",
    "compare": "sightline.run.compare",
    "embed": "sightline.run.embed",
    "evaluate": "sightline.run.evaluate",
    "explain": "sightline.run.explain",
    "labels": "sightline.run.labels",
    "load": "sightline.classifier",
    "predict": "sightline.run.predict",
    "prepare": "sightline.run.prepare",
    "report": "sightline.run.report",
    "resume": "sightline.run.train",
    "train": "sightline.run.train",
    "tune": "sightline.run.tune",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sightline' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
