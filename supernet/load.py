"""Models from files: what `export` and the command wrote, checked before it is returned."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..files import check_seal, check_sha256, read_json, read_tensors
from ..hw_profiles.measuring.onnx_decoder import OnnxDecoder
from ..hw_profiles.runtimes.onnxruntime import exact_session
from ..search_space.inputs import tensors_in
from ..search_space.locate import net_from, policies_in, trust, with_policies
from ..search_space.quantization import policy_genes, policy_of
from ..search_space.space import SearchSpace, replace_parameters
from .adopt.huggingface import read_huggingface
from .elastic import load_elastic
from .export import FILES, check_formats, named_tensors
from .quantize.packed import from_tensors
from .quantize.quantized import Quantized
from .quantize.torchao import held_by_torchao

KERNELS: Mapping[str, Callable[[Quantized], nn.Module]] = {"torchao": held_by_torchao}


def with_kernels(quantized: Quantized, kernels: str) -> nn.Module:
    """The quantized net as a module that holds its codes and computes with them: "torchao" (`quantize/torchao.py`).

    Errors: kernels that do not exist or are not installed; a net that is not quantized.

    >>> fast = nas.with_kernels(nas.load("model", space=space), "torchao")  # doctest: +SKIP
    """
    if kernels not in KERNELS:
        raise unknown("kernels", kernels, KERNELS)
    if not quantized.parts:
        raise UserError(f"the net is not quantized, and kernels={kernels!r} run codes; leave it out")
    return KERNELS[kernels](quantized).eval()


def load(
    folder: str | Path,
    space: SearchSpace | None = None,
    *,
    architecture: Mapping[str, Any] | None = None,
    net: nn.Module | None = None,
    format: str = "safetensors",
    kernels: str | None = None,
    trust: bool = False,
) -> Any:
    """The model in `folder` (`best/` of a search, of `nas extract` or `nas.export`), in evaluation mode, ready to call.

    Every file must have the checksum that `model.json` records, and `model.json` its own.
    space, architecture: of the net, where `model.json` does not say them, or the space was a Python function that has
        moved or changed since.
    net: instead, a module of the same kind, which is filled in place.
    format: "safetensors", which reads "huggingface" as well; or "onnx", "onnx-fixed": a module that runs the file in
        ONNX Runtime and needs no code of its author; "onnx-genai": the same of a decoder, which generates; or "torch",
        the torch.export program.
    kernels: of a quantized net, what computes with its codes (see `with_kernels`); None: floats that
        compute what integer kernels compute.
    A file of `Answer.save_elastic` gives its nets, an `ElasticBundle`.
    trust: run the code of the author: the Python file of the space, or what a torch.export program unpickles. A file
        that you have named before (`--space FILE.py:FUNCTION`) needs no more trust.
    Errors: files that are missing, damaged or of another model; code that is not trusted.

    >>> files = nas.export(net, task.example, "model")
    >>> model = nas.load("model", net=space.build(space.smallest))
    """
    if Path(folder).is_file():
        return load_elastic(Path(folder), space, trusted=trust)
    check_formats([format])
    content = _described(Path(folder))
    if format == "gguf":
        raise UserError("nas.load reads no GGUF file; from_pretrained(folder, gguf_file='model.gguf') does")
    path = Path(folder) / FILES[format]
    if FILES[format] not in content["sha256"]:
        there = [name for name, file in FILES.items() if file in content["sha256"]]
        raise UserError(f"{folder} holds no model of the format {format!r}; it has {', '.join(there) or 'none'}")
    check_sha256(path, content["sha256"][FILES[format]])
    if path.name == FILES["safetensors"]:
        module = _empty(Path(folder), content, space, architecture, net, trust)
        return _filled(module, path, kernels, renamed=content.get("huggingface") is True)
    if kernels is not None:
        raise UserError(f"kernels={kernels!r} run the codes of the format 'safetensors', not a file of {format!r}")
    if format == "torch":
        return _program(path, trust)
    if format == "onnx-genai":
        return OnnxDecoder(path)
    return OnnxModule(path, content["inputs"], content["outputs"], unsigned=content.get("unsigned") is not False)


def _described(folder: Path) -> dict[str, Any]:
    """What `model.json` holds. Errors: it is damaged, or is none."""
    path = folder / "model.json"
    content = read_json(path, "a model")
    check_seal(content, path)
    kinds = {"sha256": dict, "inputs": list, "outputs": dict}
    if not all(isinstance(content.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} is not a description of a model: it lacks {', '.join(kinds)}; export the net again")
    return content


def _empty(
    folder: Path,
    content: Mapping[str, Any],
    space: SearchSpace | None,
    architecture: Mapping[str, Any] | None,
    net: nn.Module | None,
    trusted: bool,
) -> nn.Module:
    """The module to fill."""
    if net is not None:
        return net
    genes = architecture if architecture is not None else content.get("architecture")
    if genes is None or (space is None and "space" not in content):
        raise UserError(
            f"{folder} does not say of which space its net is; give space= and architecture=, or net=, a module to "
            "fill, or load its ONNX form: format='onnx'"
        )
    if not isinstance(genes, Mapping):
        raise UserError(f"{folder}/model.json is damaged: its architecture is not a mapping of genes")
    if space is not None:
        plain = bool(content.get("space")) and not policy_genes(space.genes)
        return with_policies(space, policies_in(content["space"]) if plain else None).build(genes)
    if trusted:
        trust(content["space"])
    return net_from(content["space"], genes)


def _filled(module: nn.Module, path: Path, kernels: str | None, renamed: bool) -> nn.Module:
    """The module with the tensors of the file. renamed: they have the names of a Hugging Face folder.

    Errors: names, shapes or kinds of numbers of another net.
    """
    expected = named_tensors(module)
    tensors = read_tensors(path, infinite=dict(module.named_buffers()))
    tensors = read_huggingface(module, path.parent) if renamed else tensors
    if policy_of(module):
        _check_alike(expected, {name: t for name, t in tensors.items() if name in expected}, path, kinds=False)
        result = from_tensors(module, tensors)
        return result.module.eval() if kernels is None else with_kernels(result, kernels)
    if kernels is not None:
        return with_kernels(Quantized(module), kernels)
    if odd := sorted(expected.keys() ^ tensors.keys()):
        raise UserError(f"{path} holds another net than model.json says: {', '.join(odd[:4])} in one of them only")
    widths = {t.dtype for name, t in tensors.items() if t.is_floating_point()}
    if len(widths) == 1:
        module = module.to(widths.pop())  # a net of half precision is stored and computes in it
    _check_alike(named_tensors(module), tensors, path)
    own = {name: t.clone() for name, t in tensors.items()}  # of the file, numbers lie at any address
    values = {id(p): own[name] for name, p in module.named_parameters()}
    replace_parameters(module, lambda p: nn.Parameter(values[id(p)], p.requires_grad))
    for name, buffer in module.named_buffers():
        buffer.copy_(tensors[name])
    return module.eval()


def _check_alike(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path, *, kinds: bool = True
) -> None:
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or (kinds and tensor.dtype != wanted.dtype):
            raise UserError(
                f"{path} holds another net than model.json says: {name} is {tuple(tensor.shape)} of {tensor.dtype}, "
                f"not {tuple(wanted.shape)} of {wanted.dtype}"
            )


def _program(path: Path, trusted: bool) -> nn.Module:
    if not trusted:
        raise UserError(
            f"loading {path} may run code of its author: torch.export.load unpickles; say trust=True, or load the ONNX "
            "form, which is data: format='onnx'"
        )
    try:
        return torch.export.load(path).module()
    except Exception as error:
        raise UserError(f"{path} is not a torch.export program of this torch {torch.__version__}: {error}") from error


class _Outputs(dict[str, Tensor]):
    """Tensors by name, as keys and as attributes, as a dataclass of outputs has them."""

    __getattr__ = dict.__getitem__


class OnnxModule(nn.Module):
    """An ONNX file in ONNX Runtime, called as the module that it was made of: arguments in order, or keywords.

    inputs: names of the tensors in the order of the arguments. outputs: their names, and whether they came as one
    tensor, a tuple or a mapping; a nested result is flat. unsigned: False where products of 8 bits have signed weights,
    whose sums are kept from saturating on processors that let them.
    """

    def __init__(self, path: Path, inputs: list[str], outputs: Mapping[str, Any], *, unsigned: bool = True) -> None:
        super().__init__()
        try:
            self._session = exact_session(path.read_bytes(), unsigned=unsigned)
        except Exception as error:
            raise UserError(f"{path} is not a file that ONNX Runtime loads: {error}") from None
        self._inputs, self._outputs = inputs, outputs

    def forward(self, *args: Any, **keywords: Any) -> Any:
        named = dict(zip(self._inputs, tensors_in(args), strict=False)) | {
            name: value for name, value in keywords.items() if isinstance(value, Tensor)
        }
        nodes = [node.name for node in self._session.get_inputs()]
        if missing := [name for name in nodes if name not in named]:
            raise UserError(f"the model takes {', '.join(self._inputs)}; {', '.join(missing)} is missing")
        result = self._session.run(None, {name: named[name].detach().cpu().numpy() for name in nodes})
        tensors = [torch.from_numpy(array) for array in result]
        if self._outputs["form"] == "mapping":
            return _Outputs(zip(self._outputs["names"], tensors, strict=True))
        return tensors[0] if self._outputs["form"] == "tensor" else tuple(tensors)
