"""What belongs together: a JSON file that names files beside it with their SHA-256, and has a checksum of its own."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from ..files import check_seal, check_sha256, read_json, sha256_of, write_json


def write_manifest(path: Path, files: Mapping[str, str]) -> None:
    """Write `files` (path relative to the manifest's folder -> SHA-256)."""
    write_json(path, {"files": dict(sorted(files.items()))})


def check_manifest(path: Path) -> None:
    """Error: the manifest, or a file that it names, is missing or not what was written."""
    content = read_json(path, "a list of files")
    check_seal(content, path)
    files = content.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{path} is not a list of files; restore the file")
    for name, sha256 in files.items():
        check_sha256(path.parent / name, sha256)


def files_in(folder: Path) -> dict[str, str]:
    """All files in `folder` and below it, with their SHA-256."""
    return {str(p.relative_to(folder)): sha256_of(p) for p in folder.rglob("*") if p.is_file()}


def keep(path: Path) -> None:
    """Remember a file that a later call reads again, for `check_kept`."""
    write_manifest(_beside(path), {path.name: sha256_of(path)})


def check_kept(path: Path) -> None:
    """Error: the file has changed since `keep`."""
    if _beside(path).exists():
        check_manifest(_beside(path))


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.manifest.json")
