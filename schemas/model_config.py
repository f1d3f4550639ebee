"""Settings of a model that was trained elsewhere, and of a task that names a model alone."""

from typing import Literal

from pydantic import Field

from relatif.schemas.section import Count, Section

LikelihoodName = Literal["categorical", "bernoulli", "gaussian", "token_categorical", "dense_categorical"]


class ModelConfig(Section):
    """A trained model, and what its outputs mean where the task names no more than the model."""

    checkpoint: str | None = Field(
        None,
        description="path or URL of a trained model, nothing is trained then: safetensors, what `torch.save` wrote of "
        "a state dict, or a model folder of Hugging Face",
    )
    likelihood: LikelihoodName | None = Field(
        None,
        description="what the outputs mean, for a task that names a model alone: `categorical` (the default for data "
        "of classes), `bernoulli`, `gaussian`, `token_categorical` or `dense_categorical`",
    )
    outputs: Count | None = Field(
        None,
        description="classes, labels or outputs of such a model; by default the classes of the data, or the number "
        "that a model folder tells",
    )
