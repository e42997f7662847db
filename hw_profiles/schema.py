"""What a device file says of the device: its runtime, its datasheet, and what it can run. (Of nets: `points`.)

Every number stands beside its source. What is not known is absent; what was not stated says so.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import quoted
from ..search_space.options import no_flag
from .cost.operators import Cost, Kind

MOST = 1e15
"""No number of a device is larger, in the unit of its field: what is has slipped by many digits."""


def _file_name(name: str) -> str:
    if not name.strip(".") or any(c in "/\\" or not c.isprintable() for c in name):
        raise ValueError("files are named after it: write it without slashes and control characters")
    return name


Text = Annotated[str, Field(min_length=2, max_length=4000)]
Name = Annotated[Text, AfterValidator(_file_name)]
Positive = Annotated[float, BeforeValidator(no_flag), Field(ge=1 / MOST, le=MOST)]
NotNegative = Annotated[float, BeforeValidator(no_flag), Field(ge=0, le=MOST)]
Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"]
"""fp8: e4m3."""
NOT_STATED = "not stated by the authors"


class Frozen(BaseModel):
    """A record of a device file: immutable; a field that does not exist is an error, and so is not a finite number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_error(error: ValidationError) -> str:
    """Pydantic's report in half a sentence: where, what, and how many more there are."""
    first = error.errors(include_url=False)[0]
    # a part with brackets names the alternative of a type, and no place in the file
    where = ".".join(quoted(p, 60).strip("'") for p in first["loc"] if not str(p).endswith("]")) or "its content"
    return f"{where}: {first['msg'].removeprefix('Value error, ')} ({error.error_count()} in all)"


class Runtime(Frozen):
    """What executes the nets. Numbers of two versions are numbers of two runtimes."""

    name: Text
    version: str = Field(min_length=1)
    """As the authors state it; else "not stated by the authors"; of a datasheet alone: the version that it assumes."""

    @property
    def stated(self) -> bool:
        return self.version != NOT_STATED

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.stated else f"{self.name} (version {self.version})"


class Value(Frozen):
    """A number of the datasheet and who says so."""

    value: Positive
    kind: Literal["vendor", "derived", "unverified"]
    """From the maker; computed from stated numbers (`note` says how); from a third party."""
    source: Text
    date: str | None = None
    note: str | None = None


class Spec(Frozen):
    """Dense peak rates (two operations for a multiply-add) and memory; what has no source is absent."""

    tflops: dict[Precision, Value] = Field(default_factory=dict)
    bandwidth_gb_s: Value | None = None
    memory_gb: Value | None = None
    on_chip_mb: Value | None = None
    """Largest memory on the chip: last-level cache or scratch pad. What fits there need not cross the memory bus."""
    power_w: Value | None = None

    def speed(self, precision: str, beside: Precision) -> float:
        """How many times as many operations a second as `beside`; 1 where it is not stated."""
        rates = {str(p): rate.value for p, rate in self.tflops.items()}
        return rates[precision] / rates[beside] if {precision, beside} <= rates.keys() else 1.0

    def rows(self) -> list[tuple[str, str, Value]]:
        """(name, unit, value) of all that is stated."""
        single = (
            ("bandwidth", "GB/s", self.bandwidth_gb_s),
            ("memory", "GB", self.memory_gb),
            ("on-chip memory", "MB", self.on_chip_mb),
            ("power", "W", self.power_w),
        )
        rates = [(f"peak {precision}", "TFLOP/s", value) for precision, value in self.tflops.items()]
        return [*rates, *((name, unit, value) for name, unit, value in single if value is not None)]


class Fallback(Frozen):
    """An operator that the unit does not run itself."""

    unit: Text
    """What runs it instead."""
    cost_factor: float = Field(ge=1, le=MOST)
    """FLOPs and bytes count as so many times as much."""
    source: Text


class Supports(Frozen):
    """What the unit and its runtime can run. An absent part is unknown, and nothing is refused for it."""

    operators: list[Kind] | None = None
    fallbacks: dict[Kind, Fallback] = Field(default_factory=dict)
    precisions: list[Precision] | None = None
    static_shapes: bool | None = None
    """Every input shape is compiled apart."""
    exact_sums: bool | None = None
    """Sums of products of unsigned inputs and signed weights of 8 bits lose nothing. They do on x86 processors without
    VNNI, where two products are added in 16 bits: files for them hold unsigned weights."""
    source: str | None = None

    def refused(self, cost: Cost) -> list[Kind]:
        """Kinds of operators of the cost that neither the unit nor a fallback runs."""
        if self.operators is None:
            return []
        return [kind for kind in cost.by_kind() if kind not in self.operators and kind not in self.fallbacks]

    def has(self, precision: str, spec: Spec) -> bool:
        """Whether the unit computes so. Where its precisions are not listed all is run but fp8, which few units have:
        there, its rate must be stated."""
        if self.precisions is not None:
            return precision in self.precisions
        return precision != "fp8" or precision in spec.tflops
