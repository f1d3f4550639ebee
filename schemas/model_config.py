"""Settings of a model that was trained elsewhere, and of a task that names a model alone."""

from typing import Annotated, Literal

from pydantic import Field

from relatif.schemas.section import Count, Section

LikelihoodName = Literal["categorical", "bernoulli", "gaussian", "token_categorical", "dense_categorical"]

Weights = Annotated[tuple[float, ...], Field(strict=False)]


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
        description="classes, labels, outputs or words of such a model; by default the classes or the columns of "
        "targets of the data, or the number that a model folder tells",
    )
    variance: float | None = Field(None, gt=0, description="`gaussian`: variance of each output; by default 1")
    class_weights: Weights | None = Field(None, description="`categorical`: a weight of the loss for each class")
    label_smoothing: float | None = Field(None, ge=0, lt=1, description="`categorical`: as torch's cross-entropy has")
    ignore_index: int | None = Field(
        None, description="`token_categorical`, `dense_categorical`: target that is left out; by default -100"
    )
    shift: int | None = Field(
        None,
        ge=0,
        description="`token_categorical`: the output at a token predicts the target so many tokens later; by default "
        "0, and 1 for a language model of Hugging Face",
    )
