"""Choosing a schedule by training: range test, sweeps, cross-validation."""

from jaxsched.search._averaged import Averaged as Averaged
from jaxsched.search._convolution import cpu_conv as cpu_conv
from jaxsched.search._export import load as load
from jaxsched.search._final import FinalScore as FinalScore
from jaxsched.search._final import final_score as final_score
from jaxsched.search._range_result import RangeTest as RangeTest
from jaxsched.search._range_test import range_test as range_test
from jaxsched.search._ranks import join as join
from jaxsched.search._result import Best as Best
from jaxsched.search._result import SweepResult as SweepResult
from jaxsched.search._shards import merge as merge
from jaxsched.search._stopping import MedianRule as MedianRule
from jaxsched.search._stopping import StoppingRule as StoppingRule
from jaxsched.search._stopping import SuccessiveHalving as SuccessiveHalving
from jaxsched.search._supervised import Supervised as Supervised
from jaxsched.search._supervised import accuracy as accuracy
from jaxsched.search._sweep import sweep as sweep
from jaxsched.search._task import Task as Task
from jaxsched.search._task import shuffled as shuffled
from jaxsched.search._trials import Trial as Trial
from jaxsched.search._trials import grid as grid
from jaxsched.search._trials import loguniform as loguniform
from jaxsched.search._trials import sampled as sampled
from jaxsched.search._trials import uniform as uniform
from jaxsched.search._trials import zipped as zipped
