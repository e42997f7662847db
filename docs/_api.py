"""Docstrings as the API page shows them: what is said of a parameter becomes an item of a list, an example a block."""

import re

import griffe

PARAMETERS = re.compile(r"^((?:\w+, )*\w+): (?=\S)", re.M)
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.M)


class Docstrings(griffe.Extension):
    """Called by mkdocstrings for every object that it reads."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        del kwargs
        if obj.docstring:
            first, _, rest = obj.docstring.value.partition("\n")
            rest = EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", PARAMETERS.sub(r"\n- **\1**: ", rest))
            obj.docstring.value = f"{first}\n{rest}"
