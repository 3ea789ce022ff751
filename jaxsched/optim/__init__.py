"""The seam to Optax and Flax: schedules inside the optimizer state, seen and changed there."""

from jaxsched import _words as _words
from jaxsched.optim._current import current as current
from jaxsched.optim._current import remembered as remembered
from jaxsched.optim._decay import decay_weights as decay_weights
from jaxsched.optim._groups import group_lr as group_lr
from jaxsched.optim._groups import layerwise_decay as layerwise_decay
from jaxsched.optim._inject import inject as inject
from jaxsched.optim._observe import observe as observe
from jaxsched.optim._override import override as override
from jaxsched.optim._register import register_export as register_export
from jaxsched.optim._resume import adopt as adopt
from jaxsched.optim._resume import resume as resume
from jaxsched.optim._state import InjectState as InjectState
from jaxsched.optim._state import Override as Override

_words.tell_names(globals())
