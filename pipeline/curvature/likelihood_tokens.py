"""A word for each token of a sequence: the likelihood of language models and of taggers.

Axes: N examples, T tokens, V words.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from relatif.pipeline.curvature.likelihood import Term
from relatif.pipeline.curvature.likelihood_places import Places
from relatif.pipeline.curvature.target_rows import no_classes_expected
from relatif.schemas.errors import ConfigurationError, ModelError


@dataclass(frozen=True)
class TokenCategorical:
    """One of ``vocabulary`` words at each token; an example's loss is the sum over its tokens, in nats.

    Outputs are [N, T, V], targets int64 [N, T]; tokens whose target is ``ignore_index`` are left out. With ``shift``
    the output at token t predicts the target at token t + ``shift``: a causal language model that is given the same
    tokens as input and as target, as Hugging Face's are, has ``shift=1``, and the first target is predicted by none.
    Raises ConfigurationError for fewer than 2 words, an ignore_index that is a word, and a shift below 0.
    """

    vocabulary: int
    ignore_index: int = -100
    shift: int = 0

    def __post_init__(self) -> None:
        if self.vocabulary < 2 or 0 <= self.ignore_index < self.vocabulary or self.shift < 0:
            raise ConfigurationError(
                f"expected a TokenCategorical likelihood of at least 2 words, with an ignore_index that is no word and "
                f"a shift of 0 or more, found {self}; correct it"
            )

    @property
    def classes(self) -> int | None:
        """None: targets are no class labels."""
        return None

    @property
    def text(self) -> str:
        """Return in words what targets are."""
        shifted = f", each predicted {self.shift} token(s) before" if self.shift else ""
        return f"tokens of {self.vocabulary:,} words{shifted}"

    @property
    def default_fisher(self) -> Literal["sampled"]:
        """Return ``sampled``: the exact Fisher has a term for every token and word."""
        return "sampled"

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses, [N] in nats; ModelError or DataError for other shapes and targets."""
        return self._places.losses(outputs, self._aligned(targets))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``p - onehot(target)`` at each token, [N, T, V]."""
        return self._places.gradient(outputs, self._aligned(targets))

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        """Yield the target that has one word at one token, and its probability, for every token and word."""
        places = self._places
        every = torch.zeros(outputs.shape[:2], dtype=torch.int64, device=outputs.device)
        aligned = self._aligned(every)
        for number, (_, weights) in enumerate(places.terms(outputs, aligned)):
            alone = torch.full_like(aligned, self.ignore_index)
            alone[:, number // self.vocabulary] = number % self.vocabulary
            if bool(weights.any()):
                yield self._moved_back(alone), weights

    def curvature_terms(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a gradient and its weight for every token that is not left out and every word.

        Raises ModelError, saying what to set, where these are too many.
        """
        return self._places.terms(outputs, self._aligned(targets))

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets int64 [N, T], token by token, by numbers made of ``uniform`` [N]."""
        return self._moved_back(self._places.sample(outputs, uniform))

    def drawn(self, outputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets int64 [N, T] without the tokens that the example's own target leaves out."""
        return self._places.masked(self.sample(outputs, uniform), targets)

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the explained targets int64 [N, T]: the data's, or the model's most probable words."""
        if choice == "true":
            return targets
        aligned = self._aligned(targets)
        return self._moved_back(self._places.predicted(outputs, aligned))

    def missing(self, targets: Tensor) -> Tensor:
        """Return which examples have no target, [N] bool."""
        return self._places.missing(targets[:, self.shift :])

    def logit(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over tokens of the target's output, [N]."""
        return self._places.logit(outputs, self._aligned(targets))

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over tokens of the target's ``log p / (1 - p)``, [N]."""
        return self._places.margin(outputs, self._aligned(targets))

    def figures(self, outputs: Tensor, targets: Tensor) -> tuple[str, ...]:
        """Return in words how outputs do token by token, without those that are left out."""
        return self._places.figures(outputs, self._aligned(targets), ("token", "word"))

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return targets and predictions [N, T], NaN where a token is left out."""
        predicted = self.explained(outputs, targets, "predicted")
        return {
            name: values.to(outputs).masked_fill((values < 0) | ~self._places.kept(values), torch.nan)
            for name, values in (("target", targets), ("prediction", predicted))
        }

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        """Return that data without classes is needed, unless it is there."""
        how = "a column of lists, or the column of texts or tokens itself, as data.label_column"
        return no_classes_expected(class_counts, how)

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Raise ConfigurationError for a class."""
        if isinstance(choice, int):
            raise ConfigurationError(
                f"expected score.explained_label 'predicted' or 'true' where targets are tokens, found {choice}; a "
                f"sequence is no one class"
            )

    def check_inputs(self, inputs: Tensor, targets: Tensor) -> None:
        """Raise ModelError where targets are the inputs themselves, token by token, and no shift is asked for.

        The model would then be explained as if it had to name the token that it sees.
        """
        if self.shift or inputs.shape != targets.shape:
            return
        kept = self._places.kept(targets)
        if bool(kept.any()) and bool((inputs.to(targets.device) == targets)[kept].all()):
            raise ModelError(
                "expected targets that the model does not see at the same token, found them equal to the inputs: the "
                "output at a token is compared with the target there; give TokenCategorical(..., shift=1) where the "
                "model predicts the next token, as Hugging Face's causal models do, or move the targets on by one"
            )

    def total_probability(self, outputs: Tensor) -> Tensor:
        """Return the sum of ``exp(-loss)`` over all words at a token, [N]."""
        return self._places.total_probability(self._losses_at_one, outputs)

    @property
    def _places(self) -> Places:
        return Places(self.vocabulary, self.ignore_index)

    def _losses_at_one(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of sequences in which one token is predicted: outputs [N, 1, V], targets [N, 1]."""
        none = targets.new_full((len(targets), self.shift), self.ignore_index)
        further = outputs.new_zeros(len(outputs), self.shift, self.vocabulary)
        return self.losses(torch.cat([outputs, further], dim=1), torch.cat([none, targets], dim=1))

    def _aligned(self, targets: Tensor) -> Tensor:
        """Return targets at the tokens whose output predicts them: the last ``shift`` outputs predict none."""
        return self._moved(targets, self.shift)

    def _moved_back(self, aligned: Tensor) -> Tensor:
        """Return targets at their own tokens from those at the tokens that predict them."""
        return self._moved(aligned, -self.shift)

    def _moved(self, targets: Tensor, by: int) -> Tensor:
        if by == 0 or targets.ndim != 2:
            return targets
        found = torch.full_like(targets, self.ignore_index)
        if by > 0:
            found[:, :-by] = targets[:, by:]
        else:
            found[:, -by:] = targets[:, :by]
        return found
