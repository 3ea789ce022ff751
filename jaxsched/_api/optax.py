"""The public names that need Optax as well."""

from jaxsched.optim import current as current
from jaxsched.optim import inject as inject
from jaxsched.optim import observe as observe
from jaxsched.optim import override as override
from jaxsched.optim import remembered as remembered
