"""The stages of a whole run, in order. Leave-one-out is none of them: it costs as much as hundreds of trainings."""

from relatif.pipeline.stages.factors import FACTORS
from relatif.pipeline.stages.score import SCORE
from relatif.pipeline.stages.statistics import STATISTICS
from relatif.pipeline.stages.train import TRAIN

WHOLE_RUN = (TRAIN, FACTORS, SCORE, STATISTICS)
