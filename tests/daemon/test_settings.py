"""Settings: later sources win, sizes and lists are understood, mistakes are named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_protocol.limits import DEFAULT_LIMITS
from circuitd.settings import SettingsError, load_settings, parse_nbytes


@pytest.fixture(autouse=True)
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIRCUITD_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("CIRCUITD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("CIRCUITD_DATA", raising=False)
    return tmp_path


def test_without_any_source_the_defaults_hold(config_dir: Path):
    settings = load_settings()
    assert settings.keep_alive_s == 300
    assert settings.default_model == "csd-py-sparse"
    assert settings.devices == "auto"
    assert settings.limits == DEFAULT_LIMITS
    assert settings.keys_dir == str(config_dir / "keys")
    assert settings.log_path == config_dir / "state" / "logs" / "circuitd.log"


def test_flags_win_over_the_environment_over_the_file(config_dir: Path, monkeypatch):
    (config_dir / "config.toml").write_text(
        'keep_alive_s = 1\nlog_level = "debug"\noffline = true\n[limits]\nrows = 7\nmasks = 8\n'
    )
    monkeypatch.setenv("CIRCUITD_KEEP_ALIVE_S", "2")
    monkeypatch.setenv("CIRCUITD_LIMITS_ROWS", "70")
    monkeypatch.setenv("CIRCUITD_LOG_LEVEL", "")  # empty: as if unset
    settings = load_settings(flags={"keep_alive_s": "-1", "limits.masks": "80", "devices": None})
    assert settings.keep_alive_s == -1
    assert (settings.limits.rows, settings.limits.masks) == (70, 80)
    assert settings.limits.frames == DEFAULT_LIMITS.frames
    assert settings.log_level == "debug"
    assert settings.offline


def test_lists_and_sizes_are_read_from_text(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("CIRCUITD_DATA", f"{tmp_path}/a:relative")
    monkeypatch.setenv("CIRCUITD_DEVICES", "cuda:0, cuda:1")
    monkeypatch.setenv("CIRCUITD_LISTEN", "tcp://127.0.0.1:7341,tcp://[::1]:*")
    monkeypatch.setenv("CIRCUITD_MEMORY_BUDGET_NBYTES", "1.5GiB")
    settings = load_settings()
    assert settings.data_roots == (f"{tmp_path}/a", str(Path("relative").absolute()))
    assert settings.devices == ("cuda:0", "cuda:1")
    assert settings.endpoints[1:] == ("tcp://127.0.0.1:7341", "tcp://[::1]:*")
    assert settings.device_budget_nbytes(1) == 1536 << 20


def test_without_a_budget_a_device_gives_its_share():
    assert load_settings(flags={"memory_share": "0.5"}).device_budget_nbytes(1000) == 500


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("keep_alive_s", "soon", "keep_alive_s cannot be 'soon'"),
        ("keep_alive", "5", "nearest: keep_alive_s"),
        ("log_level", "loud", "'loud'"),
        ("memory_share", "1.5", "<= 1"),
        ("memory_budget_nbytes", "12 gigs", "MiB, GiB"),
        ("devices", "gpu", "devices cannot be 'gpu'"),
        ("listen", "ipc:///tmp/x", "tcp://HOST:PORT"),
        ("listen", "7341", "listen cannot be '7341'"),
        ("limits.rows", "0", "at least 1"),
        ("limits.row", "5", "nearest: limits.rows"),
        ("runtime_dir", "/tmp/x", "CIRCUITD_RUNTIME_DIR"),
        ("offline", "perhaps", "offline cannot be 'perhaps'"),
    ],
)
def test_a_wrong_setting_names_key_value_source_and_what_is_allowed(key, value, says):
    with pytest.raises(SettingsError) as caught:
        load_settings(flags={key: value})
    assert says in str(caught.value)
    assert str(caught.value).startswith("command line")


def test_a_wrong_file_is_named(config_dir: Path):
    path = config_dir / "config.toml"
    for text, says in [
        ("keep_alive_s = ", "not TOML"),
        ("keep_alive_s = true", "cannot be True"),
        ("keep_alive_s = '5'\nkeep_alivs = 5", "nearest: keep_alive_s"),
        ("limits = 5", "no setting 'limits'"),
    ]:
        path.write_text(text)
        with pytest.raises(SettingsError, match=says) as caught:
            load_settings()
        assert str(path) in str(caught.value)
    with pytest.raises(SettingsError, match="no configuration file"):
        load_settings(config_path=config_dir / "missing.toml")


def test_printed_settings_are_a_configuration_file_that_means_the_same(config_dir: Path):
    settings = load_settings(
        flags={"devices": "cpu", "data_roots": '/a "quoted" \\ path:/b', "limits.rows": "9"}
    )
    (config_dir / "config.toml").write_text(settings.to_toml())
    assert load_settings() == settings


@given(st.integers(0, 1 << 40), st.sampled_from(["", "B", "KiB", "MiB", "GiB", "kB", "x"]))
def test_sizes_are_exact_or_refused(n: int, unit: str):
    factors = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    if unit in factors:
        assert parse_nbytes(f"{n} {unit}") == n * factors[unit]
    else:
        with pytest.raises(ValueError, match="no size"):
            parse_nbytes(f"{n} {unit}")
