"""A bundle for another machine: ONNX files of informative nets, a manifest, and the one script that times them."""

import json
import os
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from torch import Tensor

from ...errors import UserError
from ...files import sealed
from ..cost.onnx_file import to_onnx
from ..device import Device
from ..measuring.choosing import AGAIN, BATCH
from ..measuring.pool import AnySpace, Inputs, Net, spread
from ..measuring.profile import PROTOCOL, facts, plan_of
from ..measuring.timing import Protocol
from .bundle import MANIFEST, Manifest, PackedBatch, PackedNet, cost_fields, middle_of

ROOM = Path(__file__).parent
README = """Latency of {nets} nets, to be measured on the machine that this bundle was carried to.

    python3 run.py

It needs Python 3.8 or newer with numpy, and onnxruntime (`pip install onnxruntime`) or trtexec on the PATH. Let nothing
else run beside it. It may be stopped and started again. It writes results.json; at home,
`nas profile ingest results.json --bundle bundle.zip --out my-board.yaml` makes the profile.
"""


def pack(
    like: Device,
    space: AnySpace | Sequence[AnySpace],
    out: str | os.PathLike[str],
    *,
    inputs: Inputs,
    nets: int = 60,
    threads: int = 1,
    protocol: Protocol = PROTOCOL,
    seed: int = 0,
    progress: Callable[[float, float, str], None] | None = None,
) -> Path:
    """Write the bundle. The same arguments give the same bytes.

    like: a device that the target resembles: its precision, and where the choice of nets is spread over latency.
    Errors: `out` is no .zip; fewer than 5 nets.
    """
    path = Path(out)
    if path.suffix != ".zip":
        raise UserError(f"a bundle is written to a .zip file, not to {path}")
    plan = plan_of(like, space, nets, inputs, seed)
    chosen = plan.nets
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        with ZipFile(beside, "w", ZIP_DEFLATED, compresslevel=1) as bundle:
            packed = []
            for number, net in enumerate(chosen):
                if progress is not None:
                    progress(number, len(chosen), "exporting")
                packed.append(_add(bundle, net, inputs.batch))
            manifest = Manifest(
                precision=like.precision,
                threads=threads,
                protocol=protocol,
                reference=middle_of(packed).id,
                batches=_batches(chosen, like),
                nets=packed,
            )
            _write(bundle, MANIFEST, json.dumps(sealed(manifest.model_dump(mode="json")), indent=1).encode())
            _write(bundle, "run.py", script().encode())
            _write(bundle, "README.txt", README.format(nets=len(chosen)).encode())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def script() -> str:
    """run.py: the protocol's text, and after it the target's, without the imports that tie them to the package."""
    ties = ("from __future__", "from ..measuring")
    target = (ROOM / "target.py").read_text(encoding="utf-8").splitlines()
    rest = "\n".join(line for line in target if not line.startswith(ties))
    return (ROOM.parent / "measuring" / "timing.py").read_text(encoding="utf-8") + "\n\n" + rest + "\n"


def _batches(chosen: Sequence[Net], like: Device) -> list[PackedBatch]:
    """Batches that each span the range of costs, and some nets of the first one again at the end."""
    count = -(-len(chosen) // BATCH)
    ordered = sorted(chosen, key=lambda net: like.latency(net.cost).value)
    batches = [ordered[start::count] for start in range(count)]
    again = [batches[0][i] for i in spread([like.latency(net.cost).value for net in batches[0]], AGAIN)]
    return [
        *(PackedBatch(nets=[_id(net) for net in batch]) for batch in batches),
        PackedBatch(nets=[_id(net) for net in again], again=True),
    ]


def _id(net: Net) -> str:
    """Also the name of a file, on any system."""
    return re.sub(r"[^\w.-]", "-", "-".join(net.key))


def _add(bundle: ZipFile, net: Net, batch: int) -> PackedNet:
    name, example = f"nets/{_id(net)}.onnx", net.source.example
    if not isinstance(example, Tensor):
        raise UserError("a bundle times nets of one input; profile nets of several inputs on the board itself")
    content = to_onnx(net.build(), example)
    _write(bundle, name, content)
    return PackedNet(
        id=_id(net),
        family=net.source.family,
        file=name,
        sha256=sha256(content).hexdigest(),
        shape=list(example.shape),
        dtype=str(example.dtype).removeprefix("torch."),
        top=1 + int(example.max()) if not example.is_floating_point() else 2,
        facts=facts(net, batch),
        cost=cost_fields(net.cost),
    )


def _write(bundle: ZipFile, name: str, content: bytes) -> None:
    """A fixed date, so that equal bundles are equal files."""
    info = ZipInfo(name, date_time=(2000, 1, 1, 0, 0, 0))
    info.compress_type, info.external_attr = ZIP_DEFLATED, 0o644 << 16
    bundle.writestr(info, content)
