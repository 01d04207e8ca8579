"""The two names that ``sglang/utils.py`` imports at its top, and calls in notebooks only."""

from typing import NoReturn


def display(*_objects: object) -> NoReturn:
    """Refuse: no server process shows anything in a notebook."""
    message = "IPython.display is a stand-in here: install IPython to use SGLang in a notebook"
    raise NotImplementedError(message)


HTML = display
