"""Ready-made transformer spaces: one YAML file each, whose fields are those of `TransformerSpace`."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ...documents import parse_yaml, read_text
from ...errors import UserError, unknown

if TYPE_CHECKING:
    from ..transformer import TransformerSpace


def preset_names() -> list[str]:
    """Names of the presets, sorted.

    >>> "vit-digits" in nas.preset_names()
    True
    """
    return sorted(Path(f.name).stem for f in files(__name__).iterdir() if f.name.endswith(".yaml"))


def check_space(text: str) -> None:
    """Error: neither a preset, nor the name of a YAML file, nor FILE.py:FUNCTION."""
    if not (text in preset_names() or text.endswith((".yaml", ".yml")) or text.rpartition(":")[0].endswith(".py")):
        raise unknown("space", text, [*preset_names(), "FILE.yaml", "FILE.py:FUNCTION"])


def load_preset(name: str) -> "TransformerSpace":
    """The preset of that name. Error: unknown, with the valid names.

    >>> space = nas.SearchSpace(nas.load_preset("vit-digits").bind((1, 8, 8), 10))
    """
    if name not in preset_names():
        raise unknown("preset", name, preset_names())
    return _parse(f"preset {name}", (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))


def load_space_file(path: str | Path) -> "TransformerSpace":
    """The space that a YAML file describes. Errors: the file and the field that is wrong, in one sentence."""
    return _parse(str(path), read_text(path, "the space file"))


def _parse(source: str, text: str) -> "TransformerSpace":
    from ..transformer import TransformerSpace  # torch takes seconds; names are checked without

    fields = parse_yaml(text, source)
    if not isinstance(fields, dict):
        raise UserError(f"{source} must be a mapping of field: options, such as `width: [32, 64]`")
    try:
        return TransformerSpace(**{str(name): value for name, value in fields.items()})
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
