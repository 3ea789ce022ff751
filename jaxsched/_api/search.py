"""The public names that train: JAX, Optax and all of ``search/``."""

from jaxsched.names import trials_from_config as trials_from_config
from jaxsched.search import Supervised as Supervised
from jaxsched.search import final_score as final_score
from jaxsched.search import grid as grid
from jaxsched.search import loguniform as loguniform
from jaxsched.search import range_test as range_test
from jaxsched.search import sampled as sampled
from jaxsched.search import sweep as sweep
from jaxsched.search import uniform as uniform
from jaxsched.search import zipped as zipped
