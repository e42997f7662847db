"""A profile: which nets are chosen, that a kill loses one batch at most, and that the file is a device."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from nas_command import nas_command, tiny_space

import nas
from nas.errors import UserError
from nas.hw_profiles import benchmark, load_device
from nas.hw_profiles.measuring import choosing
from nas.hw_profiles.measuring import profile as profile_module
from nas.hw_profiles.measuring.choosing import AGAIN, chosen_of
from nas.hw_profiles.measuring.pool import Inputs, draw, sources, spread, telling
from nas.hw_profiles.measuring.profile import Setting, profile
from nas.hw_profiles.measuring.session import Batch, Session, Timed
from nas.hw_profiles.measuring.timing import Protocol
from nas.hw_profiles.models.residual import covariance
from nas.hw_profiles.models.roofline import tabulate
from nas.search_space.transformer import TransformerSpace

TINY = TransformerSpace(
    patch=4, width=(16, 32), layers=3, least_layers=1, mixer=("softmax", "pool"), ffn_ratio=(0.5, 1.0)
)
OTHER = TINY.model_copy(update={"mixer": ("conv", "none"), "genes": {"kernel": (3,)}})
QUICK = Setting(
    protocol=Protocol(seconds=0.01, least_repeats=3, most_repeats=30, least_turns=1, turn_seconds=1e-4, slow=99)
)
INPUTS = Inputs((1, 8, 8))


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "POOL", 24)


# Which nets


def test_a_spread_is_even_over_the_logarithm() -> None:
    sizes = np.logspace(0, 3, 301)
    chosen = spread(list(sizes), 4)
    assert [sizes[i] for i in chosen] == pytest.approx([1, 10, 100, 1000], rel=0.02)
    assert sorted(spread([3.0, 1.0, 2.0], 9)) == [0, 1, 2]


def test_a_pool_holds_the_ends_of_its_space_and_no_net_twice() -> None:
    (source,) = sources(TINY, INPUTS)
    pool = draw(source, 40, "fp32", seed=0)
    assert {source.space.smallest, source.space.largest} <= {net.architecture for net in pool}
    assert len({net.key for net in pool}) == len(pool) == 40
    assert [net.key for net in pool] == [net.key for net in draw(source, 40, "fp32", seed=0)]


def test_nets_that_tell_most_of_the_others_are_chosen() -> None:
    (source,) = sources(TINY, INPUTS)
    device, pool = load_device("local-cpu"), draw(source, 40, "fp32", seed=0)
    kinds = [frozenset(net.cost.by_kind()) for net in pool]
    without = [i for i, kind in enumerate(kinds) if "attention" not in kind]
    known = covariance(tabulate([net.cost for net in pool], "fp32"), device.prior().rates)
    assert np.linalg.eigvalsh(known).min() > -1e-9
    chosen = telling(known, without, len(without) + 3)
    assert chosen[: len(without)] == without
    assert "attention" in kinds[chosen[len(without)]]
    assert len(set(chosen)) == len(without) + 3
    whole = chosen_of(pool, device, 12)
    assert len(set(whole)) == 12
    assert whole == chosen_of(pool, device, 12)


def test_nets_are_built_alike_every_time_and_leave_the_generator_alone() -> None:
    (source,) = sources(TINY, INPUTS)
    net = draw(source, 3, "fp32", seed=0)[2]
    state = torch.random.get_rng_state()
    first, second = net.build(), net.build()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_spaces_are_named_in_any_way(tmp_path: Path) -> None:
    found = sources(["vit-digits", str(tiny_space(tmp_path)), TINY], INPUTS)
    assert [source.family for source in found] == ["vit-digits", "tiny.yaml", "space-3"]
    with pytest.raises(UserError, match="a space is given twice"):
        sources(["vit-digits", "vit-digits"], INPUTS)
    with pytest.raises(UserError, match="unknown space"):
        sources("vit-digts", INPUTS)


# The session


def timed(net: str, ms: float) -> Timed:
    return Timed(family="f", net=net, median_ms=ms, p95_ms=ms, noise=0.01, repeats=9)


def test_drift_is_divided_out_and_noise_is_what_is_left() -> None:
    slow = Batch(nets=[timed("a", 2.2), timed("b", 4.4)], reference_ms=1.1)
    fast = Batch(nets=[timed("c", 1.8)], reference_ms=0.9)
    again = Batch(nets=[timed("a", 2.04), timed("b", 4.0)], reference_ms=1.0, again=True)
    session = Session(key={}, slow=0.3, batches=[slow, fast, again])
    assert [t.median_ms for t in session.timed().values()] == pytest.approx([2.0, 4.0, 2.0])
    assert session.drift == pytest.approx(1.1 / 0.9)
    assert session.repeat_noise == pytest.approx(np.log(1.02) / np.sqrt(2))
    assert Session(key={}, batches=[slow]).repeat_noise is None


def test_a_batch_that_was_slow_as_a_whole_does_not_count_unless_most_were() -> None:
    quiet = Batch(nets=[timed("a", 2.0)], reference_ms=1.0)
    slow = Batch(nets=[timed("b", 3.0)], reference_ms=1.5)
    session = Session(key={}, batches=[quiet, slow])
    assert [t.net for t in session.timed().values()] == ["a"]
    assert session.fastest_ms == 1.0
    assert session.drift == 1.0
    often = Session(key={}, batches=[quiet, *[slow] * 15])
    assert [t.net for t in often.timed().values()] == ["a", "b"]


# The whole


def test_a_profile_is_a_device_that_predicts(tmp_path: Path) -> None:
    path, seen = tmp_path / "here.yaml", list[tuple[float, float]]()
    device = profile(
        "local-cpu",
        [TINY, OTHER],
        8,
        setting=QUICK,
        input_shape=(1, 8, 8),
        out=path,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert (device.runtime.name, device.unit, device.fuses) == ("onnxruntime", "CPU, 1 thread", True)
    assert len(device.nets) == 8
    assert {net.family for net in device.nets} == {"space-1", "space-2"}
    assert all(net.trust == "measured" and net.architecture for net in device.nets)
    assert device.error is not None
    assert device.error.tier == "B"
    assert device.error.noise is not None
    assert seen == sorted(seen)
    assert seen[-1] == (8 + AGAIN, 8 + AGAIN)

    loaded = load_device(path)
    (source,) = sources(TINY, INPUTS)
    largest, smallest = (
        loaded.latency(source.space.skeleton(a), source.example) for a in (source.space.largest, source.space.smallest)
    )
    assert smallest.value < largest.value
    assert largest.low < largest.value < largest.high
    assert loaded.measurable
    spaces = {found.family: found for found in sources([TINY, OTHER], INPUTS)}
    for net in loaded.nets:  # a point says of a net all that the model sees
        cost = spaces[net.family].cost(nas.Architecture(net.architecture or {}), loaded.precision)
        assert loaded.of_net(net).value == pytest.approx(loaded.latency(cost).value, rel=1e-6)
    assert not path.with_name("here.yaml.progress.json").exists()


@pytest.mark.slow
def test_a_kill_loses_the_batch_in_flight_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "BATCH", 6)
    path, counted = tmp_path / "here.json", list[int]()
    whole = profile_module.measure_beside

    def killed_in_the_second_batch(pairs, *rest, **settings):
        counted.append(len(pairs))
        if len(counted) == 2:
            raise KeyboardInterrupt
        return whole(pairs, *rest, **settings)

    monkeypatch.setattr(profile_module, "measure_beside", killed_in_the_second_batch)
    arguments = ("local-cpu", TINY, 12)
    with pytest.raises(KeyboardInterrupt):
        profile(*arguments, setting=QUICK, out=path)
    kept = json.loads(path.with_name("here.json.progress.json").read_text())
    assert len(kept["batches"]) == 1
    assert not path.exists()
    rates = benchmark.local_rates()  # another process measures others, and would choose other nets
    other = replace(rates, bytes_per_s=rates.bytes_per_s / 9, launch_us=rates.launch_us / 9)
    monkeypatch.setattr(benchmark, "local_rates", lambda: other)
    device = profile(*arguments, setting=QUICK, out=path)
    assert sum(counted) - counted[1] == 12 + 6  # and those of the first batch again
    first = {t["net"] for t in kept["batches"][0]["nets"]}
    assert first <= {net.model for net in device.nets}
    loaded = load_device(path)
    assert [(n.model, n.period_ms) for n in loaded.nets] == [(n.model, n.period_ms) for n in device.nets]


def test_another_question_does_not_go_on_with_the_answers_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "here.yaml"
    progress = path.with_name("here.yaml.progress.json")
    progress.write_text(Session(key={"setting": "another"}).model_dump_json())
    with pytest.raises(
        UserError, match=r"a profile begun with another .*setting, space; delete it or name another --out"
    ):
        profile("local-cpu", TINY, 6, setting=QUICK, out=path)
    progress.write_text("{")
    with pytest.raises(UserError, match="is not a progress file"):
        profile("local-cpu", TINY, 6, setting=QUICK, out=path)


def test_what_cannot_be_profiled_is_said() -> None:
    with pytest.raises(UserError, match=r"is not this machine.*nas profile pack"):
        profile("jetson-orin", TINY, 6)
    with pytest.raises(UserError, match="5 nets or more, not 4"):
        profile("local-cpu", TINY, 4, setting=QUICK)
    with pytest.raises(UserError, match=r"ends in \.yaml, \.yml, \.json, not to board\.txt"):
        profile("local-cpu", TINY, 6, out="board.txt")
    with pytest.raises(UserError, match="threads must be from 1"):
        profile("local-cpu", TINY, 6, setting=replace(QUICK, threads=999))
    with pytest.raises(UserError, match="unknown runtime 'onnx'; valid: onnxruntime"):
        profile("local-cpu", TINY, 6, setting=replace(QUICK, runtime="onnx"))
    with pytest.raises(UserError, match="batch must be 1 or more"):
        profile("local-cpu", TINY, 6, setting=replace(QUICK, batch=0))


# The command


def test_the_command_writes_a_device_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_module, "Setting", lambda *given, **_: replace(QUICK, runtime=given[0]))
    out = tmp_path / "here.yaml"
    arguments = ("--target", "local-cpu", "--runtime", "torch", "--nets", 6, "--space", tiny_space(tmp_path))
    result = nas_command("profile", *arguments, "--out", out)
    assert result.code == 0, result.err
    for word in ("tier", "B, measured", "noise", "Measured in"):
        assert word in result.out
    content = yaml.safe_load(out.read_text())
    assert content["runtime"]["name"] == "torch"
    again = nas_command("profile", "--target", out, *arguments[2:], "--out", tmp_path / "again.yaml")
    assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_peak_memory_is_measured_once_for_each_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def peak(model, _, threads):
        asked.append(threads)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return 5.0 + sum(p.numel() for p in model.parameters()) / 2**18

    monkeypatch.setattr(profile_module, "peak_memory_mib", peak)
    setting, out = replace(QUICK, memory=True), tmp_path / "here.yaml"
    with pytest.raises(KeyboardInterrupt):
        profile("local-cpu", TINY, 6, setting=setting, input_shape=(1, 8, 8), out=out)
    device = profile("local-cpu", TINY, 6, setting=setting, input_shape=(1, 8, 8), out=out)
    assert len(asked) == 7  # the three that were known were not asked for again
    assert all(point.memory_mib > 5 for point in device.nets)
    assert load_device(out).memory_model == device.memory_model is not None
    with pytest.raises(UserError, match="peak memory is measured with onnxruntime, not with torch"):
        profile("local-cpu", TINY, 6, setting=replace(setting, runtime="torch"), input_shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "t4"), "t4 is not this machine"),
        (("--runtime", "tensorflow"), "unknown runtime 'tensorflow'; valid: tensorrt"),
        (("--input", "3x"), "is not a shape; give sizes without the batch, as in 3x224x224"),
        (("--host", "-oProxyCommand=x"), "is not a host; give user@box"),
    ],
)
def test_wrong_arguments_are_one_sentence(tmp_path: Path, monkeypatch, arguments, said) -> None:
    monkeypatch.chdir(tmp_path)
    result = nas_command("profile", *arguments, "--space", tiny_space(tmp_path), "--nets", 6)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert said in result.err
