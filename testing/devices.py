"""The contract of a device: facts with sources, a sound profile, predictions that grow with the cost."""

from os import PathLike

from ..hw_profiles import Cost, Device, load_device
from ..hw_profiles.check import check
from ..hw_profiles.cost import OperatorCost
from ..hw_profiles.points import Validity
from .suite import Checks, Suite, run_all

SUITE: Suite[Device] = Suite()
NO_SOURCE = ("", "unknown", "todo", "tbd", "n/a", "none")


def check_device(device: str | PathLike[str] | Device) -> None:
    """Hold a device (its name, the path of its file, or the device itself) to its contract, until a check fails.

    Errors: AssertionError, with the name of the check and what it saw; `nas.UserError` where it cannot be read.

    >>> nas.testing.check_device("jetson-orin")
    """
    run_all(device_checks(device))


def device_checks(device: str | PathLike[str] | Device) -> Checks:
    """The checks of a device by name; each is a function without arguments that raises AssertionError.

    They predict latencies in milliseconds of nets of 1 to 31 kernels, up to 10 GFLOPs each.

    >>> @pytest.mark.parametrize("check", nas.testing.device_checks("jetson-orin").values())
    ... def test_jetson(check):
    ...     check()
    """
    return SUITE.of(device if isinstance(device, Device) else load_device(device))


def cost(size: float = 1.0, kernels: int = 30) -> Cost:
    return Cost.from_operators([OperatorCost("mm", "matmul", 1e8 * size, 1e6 * size, 1e6 * size)] * kernels)


def predicted(device: Device, of: Cost) -> tuple[float, str, str]:
    """(time or time between outputs in ms, source, tier)."""
    if device.batch_mode == "throughput":
        rate = device.throughput(of)
        return 1e3 / rate.value, rate.source, rate.tier
    latency = device.latency(of)
    return latency.value, latency.source, latency.tier


def is_timed(device: Device) -> bool:
    return device.calibration is not None and device.batch_mode != "throughput"


@SUITE.add()
def every_fact_has_a_source(device: Device) -> None:
    for section, name, value in device.spec.rows():
        assert value.source.lower() not in NO_SOURCE, f"{section} {name} has no source"
        assert value.kind != "derived" or value.note, f"{section} {name} is derived, but its note does not say how"
    assert all(net.source.lower() not in NO_SOURCE for net in device.nets), "a point has no source"


@SUITE.add()
def the_profile_is_sound(device: Device) -> None:
    assert not (findings := check(device)), "; ".join(findings)


@SUITE.add(lambda device: not device.nets and not device.measurable)
def without_points_it_says_datasheet_only(device: Device) -> None:
    assert any("Datasheet only" in note for note in device.notes), "no note says `Datasheet only`"
    assert "assumed" in device.runtime.version, "the version of its runtime does not say that it is assumed"
    assert device.latency(cost()).tier == "D", "its tier is not D"


@SUITE.add()
def a_prediction_is_positive_and_says_where_it_comes_from(device: Device) -> None:
    mean, source, tier = predicted(device, cost())
    assert mean > 0, f"a latency of {mean:g} ms"
    expected = "calibrated" if device.calibration else "analytic"
    assert source == expected, f"its source is {source}, not {expected}"
    assert tier == "D" or source == "calibrated", f"tier {tier} of a source {source}"


@SUITE.add(is_timed)
def the_interval_holds_the_mean(device: Device) -> None:
    latency = device.latency(cost())
    interval = f"{latency.low:g} to {latency.high:g} around {latency.value:g} ms"
    assert 0 < latency.low <= latency.value <= latency.high, interval


@SUITE.add()
def a_prediction_grows_with_the_cost(device: Device) -> None:
    means = [predicted(device, cost(size))[0] for size in (0.01, 1, 3, 100)]
    assert means == sorted(means), f"for 1, 100, 300 and 10,000 MFLOPs a kernel: {means} ms"
    more, fewer = (predicted(device, cost(kernels=n))[0] for n in (31, 30))
    assert more > fewer, f"31 kernels take {more:g} ms, 30 take {fewer:g} ms"


@SUITE.add(lambda device: device.calibration is not None)
def validity_is_that_of_the_points(device: Device) -> None:
    assert device.calibration is not None
    assert device.validity is not None
    assert device.validity == Validity.of(device.calibration), "its validity is not that of its points"
    inside = (device.validity.holds(net.cost("fp32")) for net in device.calibration.fitted)
    assert all(inside), "a point lies outside its validity"


@SUITE.add(is_timed)
def far_from_the_points_the_interval_does_not_narrow(device: Device) -> None:
    inside, outside = device.nets[0].cost(device.precision), cost(1e-6, kernels=1)
    near, far = device.latency(inside), device.latency(outside)
    assert far.tier == "D", f"far from its points its tier is {far.tier}"
    assert far.high / far.value >= near.high / near.value, "far from its points the interval is narrower"
