"""One table of names: all names for configs and texts, with their names in other libraries.

The table is closed: recipes, pieces, controllers, the drop-ins of ``jaxsched.compat`` and the
classes given to ``js.register``. It is read without JAX; ``from_config`` loads only the modules of
the called names.
"""

from typing import TYPE_CHECKING

from jaxsched import _words as _words
from jaxsched.names._lookup import entries as entries
from jaxsched.names._sources import Entry as Entry

if TYPE_CHECKING:
    from jaxsched.names._config import from_config as from_config
    from jaxsched.names._trials import trials_from_config as trials_from_config

_words.tell_names(
    globals(),
    {"from_config": "jaxsched.names._config", "trials_from_config": "jaxsched.names._trials"},
)
