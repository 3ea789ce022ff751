"""Choosing a schedule by training: range test, sweeps, cross-validation."""

from jaxsched import _words as _words
from jaxsched.search._final import FinalScore as FinalScore
from jaxsched.search._final import FinalScores as FinalScores
from jaxsched.search._final import final_score as final_score
from jaxsched.search._final import final_scores as final_scores
from jaxsched.search._sweep import sweep as sweep
from jaxsched.search.engine._stopping import MedianRule as MedianRule
from jaxsched.search.engine._stopping import StoppingRule as StoppingRule
from jaxsched.search.engine._stopping import SuccessiveHalving as SuccessiveHalving
from jaxsched.search.multihost._processes import join as join
from jaxsched.search.range_tests._result import RangeTest as RangeTest
from jaxsched.search.range_tests._run import range_test as range_test
from jaxsched.search.results._compare import Comparison as Comparison
from jaxsched.search.results._info import RunInfo as RunInfo
from jaxsched.search.results._merge import merge as merge
from jaxsched.search.results._result import SweepResult as SweepResult
from jaxsched.search.results._result import load as load
from jaxsched.search.results._scored import Best as Best
from jaxsched.search.tasks._averaged import Averaged as Averaged
from jaxsched.search.tasks._batches import shuffled as shuffled
from jaxsched.search.tasks._convolution import cpu_conv as cpu_conv
from jaxsched.search.tasks._functions import accuracy as accuracy
from jaxsched.search.tasks._protocol import Task as Task
from jaxsched.search.tasks._supervised import Supervised as Supervised
from jaxsched.search.trials._draws import loguniform as loguniform
from jaxsched.search.trials._draws import uniform as uniform
from jaxsched.search.trials._grids import grid as grid
from jaxsched.search.trials._grids import sampled as sampled
from jaxsched.search.trials._grids import zipped as zipped
from jaxsched.search.trials._trials import Trial as Trial

_words.tell_names(globals())
