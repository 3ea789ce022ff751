"""The functions behind the command ``jaxsched``."""

from typing import TYPE_CHECKING

from jaxsched import _words as _words
from jaxsched.command._files import read_file as read_file

if TYPE_CHECKING:
    from jaxsched.command._convert import convert as convert
    from jaxsched.command._explain import explain as explain
    from jaxsched.command._explain import python_line as python_line
    from jaxsched.command._explain import sparkline as sparkline
    from jaxsched.command._sweep import sweep_from_config as sweep_from_config

_words.tell_names(
    globals(),
    {
        "convert": "jaxsched.command._convert",
        "explain": "jaxsched.command._explain",
        "python_line": "jaxsched.command._explain",
        "sparkline": "jaxsched.command._explain",
        "sweep_from_config": "jaxsched.command._sweep",
    },
)
