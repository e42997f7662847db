"""This machine at its present pace: where nets take much longer than the profile says, predictions are scaled."""

from pathlib import Path

import pytest

import nas
from nas.hw_profiles import Measurement
from nas.search.calibration import calibrated, prediction_notes
from nas.search.candidates import Candidates
from nas.supernet.store import Supernet


@pytest.mark.parametrize(("slower", "scaled"), [(1.0, 1.0), (1.05, 1.0), (20.0, 20.0), (0.05, 0.05)])
def test_predictions_are_scaled_to_the_present(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slower: float, scaled: float
) -> None:
    space = nas.SearchSpace(nas.load_preset("vit-digits").bind(input_shape=(1, 8, 8), classes=10))
    device = nas.load_device("raspberry-pi-5").model_copy(update={"measurable": True})
    candidates = Candidates(Supernet(space), nas.load_task("digits"), device)

    def timed(self: Candidates, nets: list[nas.Architecture], _: float) -> list[Measurement]:
        return [Measurement(slower * self.latency(net).value, 1.0, 0.01, 9) for net in nets]

    monkeypatch.setattr(Candidates, "measure", timed)
    scaled_candidates = calibrated(candidates, tmp_path)
    found = scaled_candidates.device
    cost = candidates.cost(space.largest)
    assert found.latency(cost).value == pytest.approx(scaled * device.latency(cost).value)
    assert bool(prediction_notes(scaled_candidates)) is (scaled != 1)
    assert nas.hw_profiles.Device.from_json(found.to_json()).latency(cost) == found.latency(cost)
