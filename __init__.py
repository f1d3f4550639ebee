"""Which training examples explain a model's predictions: influence functions and RelatIF at scale.

What a task's own module needs stands here; everything else is below ``relatif.pipeline``. Names are looked up on first
use, so that ``import relatif`` loads neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
    from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
    from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
    from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
    from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
    from relatif.pipeline.curvature.per_example import differentiated
    from relatif.pipeline.datasets.tables.reading import Examples
    from relatif.pipeline.datasets.writing import write_dataset
    from relatif.pipeline.explaining.finished_run import open_finished_run as open  # noqa: A004 - the verb of the public name
    from relatif.pipeline.explaining.fitting import fit
    from relatif.pipeline.tasks.minibatch import train_by_minibatches
    from relatif.pipeline.tasks.task import Task, cross_entropy

__all__ = [
    "Bernoulli",
    "Categorical",
    "DenseCategorical",
    "Examples",
    "Gaussian",
    "Likelihood",
    "Task",
    "TokenCategorical",
    "cross_entropy",
    "differentiated",
    "fit",
    "open",
    "train_by_minibatches",
    "write_dataset",
]

PLACES = {
    "Bernoulli": "pipeline.curvature.likelihood_bernoulli:Bernoulli",
    "Categorical": "pipeline.curvature.likelihood:Categorical",
    "DenseCategorical": "pipeline.curvature.likelihood_dense:DenseCategorical",
    "Gaussian": "pipeline.curvature.likelihood_gaussian:Gaussian",
    "Examples": "pipeline.datasets.tables.reading:Examples",
    "Likelihood": "pipeline.curvature.likelihood:Likelihood",
    "Task": "pipeline.tasks.task:Task",
    "TokenCategorical": "pipeline.curvature.likelihood_tokens:TokenCategorical",
    "cross_entropy": "pipeline.tasks.task:cross_entropy",
    "differentiated": "pipeline.curvature.per_example:differentiated",
    "fit": "pipeline.explaining.fitting:fit",
    "open": "pipeline.explaining.finished_run:open_finished_run",
    "train_by_minibatches": "pipeline.tasks.minibatch:train_by_minibatches",
    "write_dataset": "pipeline.datasets.writing:write_dataset",
}
"""Where each public name is defined, below ``relatif``."""


def __getattr__(name: str) -> Any:
    """Import a public name where it is defined."""
    if name not in PLACES:
        raise AttributeError(f"module 'relatif' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = PLACES[name].partition(":")
    return getattr(import_module(f"relatif.{module}"), attribute)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
