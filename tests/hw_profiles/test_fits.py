"""Fitted profiles are kept, and computed again where the file or the code is another."""

import pytest

from nas.hw_profiles import catalog, fits


@pytest.fixture
def fitted(monkeypatch, tmp_path):
    """Names of the devices that were fitted, in an empty cache."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    names = []
    fit = catalog.Device.fitted
    monkeypatch.setattr(catalog.Device, "fitted", lambda device: (names.append(device.name), fit(device))[1])
    return names


@pytest.fixture
def board(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text((catalog.DEVICES / "t4.yaml").read_text())
    return path


def test_a_kept_profile_is_the_fitted_one(board, fitted):
    first, second = catalog.load_device(board), catalog.load_device(board)
    assert fitted == ["t4"]
    assert first.model is not None
    assert second == first


def test_another_file_or_other_code_is_fitted_anew(board, fitted, monkeypatch):
    catalog.load_device(board)
    board.write_text(board.read_text() + "# changed\n")
    catalog.load_device(board)
    assert len(fitted) == 2
    monkeypatch.setattr(fits, "_code", lambda: b"other")
    catalog.load_device(board)
    assert len(fitted) == 3


def test_a_damaged_record_is_fitted_anew(board, fitted, tmp_path):
    first = catalog.load_device(board)
    (kept,) = (tmp_path / "cache" / "devices").iterdir()
    kept.write_text('{"name": "t4"}')
    assert catalog.load_device(board) == first
    assert len(fitted) == 2


def test_this_machine_is_measured_in_every_process(fitted, tmp_path):
    device = catalog.listed_device("local-cpu")
    assert device.model is None
    assert fitted == []
    assert not (tmp_path / "cache").exists()
