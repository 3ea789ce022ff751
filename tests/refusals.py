"""What an error must say."""

from __future__ import annotations

import collections
import re

import pytest


def refused(call, where, value, errors=(ValueError, TypeError)):
    """The error of ``call``: it says where, what was expected and what was given."""
    with pytest.raises(errors) as caught:
        call()
    message = str(caught.value)
    assert re.search(where, message), message
    assert "must" in message, message
    assert ".." not in message.replace("...", ""), message
    assert repr(value)[:40] in message or "got" in message, message
    return message


def settings_of(value, field):
    """What the class has declared for one of its numbers; None where it says nothing."""
    return collections.defaultdict(lambda: None, value._checks[field].keywords)
