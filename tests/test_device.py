"""Devices: shipped facts are consistent, files are checked, names and power modes are found."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.device import (
    Device,
    devices,
    load_device,
    profiles_folders,
    shipped_profiles,
    user_profiles,
)
from predictor.errors import ArtifactError, ConfigError, UnknownDevice

REPO = Path(__file__).parents[1]
TEMPLATE = REPO / "examples" / "my-device.yaml"
NAMES = sorted(folder.parent.name for folder in shipped_profiles().glob("*/device.yaml"))

PROMISED = [
    "jetson-nano",
    "jetson-tx2",
    "jetson-xavier-nx",
    "jetson-agx-xavier",
    "jetson-orin-nano",
    "jetson-orin-nx",
    "jetson-agx-orin",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "rtx-3090",
    "rtx-4090",
    "t4",
    "v100",
    "a100",
    "h100",
    "l4",
    "i9-10940x",
]

# Boards, phones and PCs that ncnn's benchmark table names.
BOARD_RATES = {
    (
        "(rk3588|orange-pi-5|station-m3|snapdragon-675|snapdragon-855-plus|snapdragon-8-gen-2-cpu"
        "|kunpeng-920-8|kunpeng-920-24|kunpeng-920-64|azure-d64ps-v6|jetson-orin-nano-cpu)$"
    ): {"fp32": 16, "fp16": 32, "int8": 64},
    (
        "(rock-3a|station-p2|orange-pi-cm4|radxa-zero-3w|station-m2|avaota-aim|remi-pi)$"
    ): {"fp32": 8, "fp16": 16, "int8": 32},
    (
        "(orange-pi-4-lts|khadas-vim3|orange-pi-zero-2|nanopi-r2s|eaidk-310|rdk-x3|arduino-uno-q"
        "|ax630c|rk3288|snapdragon-410|snapdragon-810|snapdragon-821|snapdragon-835|snapdragon-660"
        "|iphone-5s|sg2000|loongson-3a3000|loongson-2k2000|phytium-ft-2000-4|phytium-ft-2000-plus"
        "|phytium-pi|jetson-nano-cpu)$"
    ): {"fp32": 8},
    (
        "(ax620a|banana-pi-m2-zero|imx7-dual|amlogic-s805|visionfive-2)$"
    ): {"fp32": 2},
    (
        "(zynq-7020|atom-x5-z8350|celeron-m-420|loongson-2k1000la|loongson-2k1000)$"
    ): {"fp32": 4},
    "(snapdragon-x-elite-cpu|dimensity-9300|apple-m1)$": {"fp32": 32, "fp16": 64, "int8": 128},
    "(azure-d64s-v6|aws-c5-4xlarge)$": {"fp32": 64, "int8": 256},
    (
        "(epyc-7742|ryzen-5700g|ryzen-5950x|threadripper-3970x|i7-11800h|i7-7700k|i7-9750h"
        "|loongson-3a6000|loongson-3a5000)$"
    ): {"fp32": 32},
    "(ryzen-v1605b|th1520|loongson-3a4000)$": {"fp32": 16},
    (
        "(muse-pi-pro|jetson-agx-xavier-cpu|uhd-770|atom-x5-z8350-gpu)$"
    ): {"fp32": 16, "fp16": 32},
    "(rx-6900-xt|radeon-vega-8|rk3588-gpu)$": {"fp32": 128, "fp16": 256},
    "gtx-1050-ti$": {"fp32": 256},
    "apple-m1-gpu$": {"fp32": 256, "fp16": 256},
    "dimensity-9300-gpu$": {"fp32": 256, "fp16": 512},
    "khadas-vim3-gpu$": {"fp32": 48, "fp16": 96},
    "station-m2-gpu$": {"fp32": 32, "fp16": 64},
    "rk3288-gpu$": {"fp32": 34},
    "quadro-rtx-8000$": {"fp32": 128, "fp16": 1024, "int8": 2048},
    "(rtx-2060-laptop|rtx-2080)$": {"fp32": 128, "fp16": 512, "int8": 2048},
    "rtx-a3000-laptop$": {"fp32": 256, "fp16": 1024, "int8": 2048},
    "snapdragon-810-gpu$": {"fp32": 162},
    "snapdragon-835-gpu$": {"fp32": 200, "fp16": 400},
    "snapdragon-660-gpu$": {"fp32": 197, "fp16": 394},
    "snapdragon-855-plus-gpu$": {"fp32": 768, "fp16": 1536},
    "(snapdragon-8-gen-2-gpu|snapdragon-x-elite-gpu)$": {"fp32": 512, "fp16": 1024},
    "visionfive-2-gpu$": {"fp32": 64, "fp16": 64},
    "muse-pi-pro-gpu$": {"fp32": 24, "fp16": 48},
    "th1520-gpu$": {"fp32": 64, "fp16": 128},
    "iphone-5s-gpu$": {"fp32": 64},
}  # fmt: skip

# FLOP per clock per unit, from the vendors' architecture papers; the first match of a name counts.
RATES = {
    **BOARD_RATES,
    "jetson-(nano|tx2)$": {"fp32": 256, "fp16": 512},
    "p100": {"fp32": 128, "fp16": 256},
    "p4": {"fp32": 256, "int8": 1024},
    "jetson-.*xavier|t4|titan-rtx|v100": {"fp32": 128, "fp16": 1024, "int8": 2048},
    "jetson-.*orin": {"fp32": 256, "fp16": 2048, "bf16": 2048, "int8": 4096},
    "a100": {"fp32": 128, "tf32": 1024, "fp16": 2048, "bf16": 2048, "int8": 4096},
    "rtx-(3090|4090|5080)": {
        "fp32": 256, "tf32": 256, "fp16": 512, "bf16": 512, "fp8": 1024, "int8": 2048,
    },
    "gtx-|titan-xp": {"fp32": 256},
    "rtx-2080": {"fp32": 128, "fp16": 512, "int8": 2048},
    "l4|rtx-pro": {"fp32": 256, "tf32": 512, "fp16": 1024, "bf16": 1024, "fp8": 2048, "int8": 2048},
    "h100": {"fp32": 256, "tf32": 2048, "fp16": 4096, "bf16": 4096, "fp8": 8192, "int8": 8192},
    "raspberry-pi-5": {"fp32": 16, "fp16": 32, "int8": 64},
    "raspberry-pi": {"fp32": 8},
    "xeon-silver": {"fp32": 32, "int8": 128},
    "i9|xeon": {"fp32": 64, "int8": 256},
    "pixel-3": {"fp32": 16},
    "galaxy|essential": {"fp32": 8},
    "eyeriss|zc706": {"fp32": 2, "fp16": 2},
    # Hexagon NPUs: no clock is published, so it is the one at which units x rate give the TOPS.
    "snapdragon-8-": {"fp32": 256, "fp16": 12288, "int8": 49152},
    "snapdragon-x|qcs8550|iq-|sa8": {"fp32": 256, "fp16": 8192, "int8": 32768},
    "q-6690": {"fp32": 256, "int8": 4096},
    "rb3": {"fp32": 256, "int8": 8192},
}  # fmt: skip
# The H100 papers give fp32 at a higher boost clock than the tensor peaks.
OTHER_CLOCK = {("h100", "fp32"): 1980, ("h100-pcie", "fp32"): 1755}


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LATENCY_PREDICTOR_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def shipped():
    return {name: load_device(shipped_profiles() / name) for name in NAMES}


def test_every_promised_device_is_shipped(shipped):
    assert set(PROMISED) <= set(shipped)
    assert [device.name for device in devices()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_peaks_are_units_times_clock_times_rate(shipped, name):
    device = shipped[name]
    if device.sources.get("peak_tflops", "").startswith("measured"):
        return  # a roofline that the machine showed, no datasheet's
    rates = next(rates for pattern, rates in RATES.items() if re.match(pattern, name))
    for precision, peak in device.peak_tflops.items():
        clock = OTHER_CLOCK.get((name, precision), device.clock_mhz)
        expected = device.units * clock * rates[precision] / 1e6
        assert peak == pytest.approx(expected, rel=0.05), precision


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source_and_notes_say_no_less(shipped, name):
    device = shipped[name]
    numbers = {"memory_gb", "bandwidth_gbs", "units", "clock_mhz", "peak_tflops"}
    numbers |= {
        fact for fact in ("l2_mb", "l1_kb_per_unit", "power_limit_w") if getattr(device, fact)
    }
    numbers |= {"host"} if device.host.clock_mhz else set()
    numbers |= {"power_modes"} if device.power_modes else set()
    assert numbers == set(device.sources)
    assert all(len(source) > 10 for source in device.sources.values())


def test_peaks_agree_with_figures_known_from_elsewhere(shipped):
    """Dense fp16 TFLOP/s and GB/s that a fit of the boards used."""
    known = {
        "jetson-nano": (0.47, 25.6), "jetson-tx2": (1.33, 59.7), "jetson-xavier-nx": (6.8, 59.7),
        "jetson-agx-xavier": (11.3, 136.5), "jetson-orin-nano": (10.2, 68),
        "jetson-orin-nx": (15.0, 102.4), "jetson-agx-orin": (42.6, 204.8),
    }  # fmt: skip
    for name, (peak, bandwidth) in known.items():
        assert shipped[name].peak_flops("fp16") == pytest.approx(peak * 1e12, rel=0.01)
        assert shipped[name].bandwidth == pytest.approx(bandwidth * 1e9)


def test_default_targets(shipped):
    for name, device in shipped.items():
        default = device.target().name
        if any(re.match(pattern, name) for pattern in BOARD_RATES):
            half = "fp16" in device.peak_tflops
            assert default == ("ncnn-fp16" if half else "ncnn-fp32")
        elif name.startswith("jetson"):
            assert default == "tensorrt-fp16"
        elif name.startswith("raspberry"):
            # Raspberry Pi 4 has no fp16 figures; the others' fp16 rows are of many kinds of network.
            assert default == ("tflite-fp32" if name.endswith("4") else "tflite-fp16")
            assert device.target().layout == "nhwc"
        elif device.kind == "gpu":
            assert default == ("eager-amp" if device.tensor_cores else "eager-fp32")
        elif device.kind == "npu":
            precision = "fp16" if "fp16" in device.peak_tflops else "int8"
            assert default in (f"simulated-{precision}", f"qnn-{precision}")
        else:  # what there are figures of; nothing was published for the Gold 6130 as a whole
            tiers = ("calibrated", "measured")
            calibrated = [target.name for target in device.targets if target.tier in tiers]
            assert default in (calibrated or ["torch_compile-fp32", "eager-fp32", "tflite-fp32"])


def test_names_and_aliases_are_unique_and_all_load(shipped):
    owner = {name: name for name in shipped}
    for device in shipped.values():
        for alias in device.aliases:
            assert owner.setdefault(alias, device.name) == device.name, alias
            assert load_device(alias).name == device.name
    assert load_device("jetson").name == "jetson-orin-nano"
    assert load_device("Raspberry_Pi").name == "raspberry-pi-5"


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_through_json(shipped, name):
    device = shipped[name]
    assert Device.from_dict(json.loads(json.dumps(device.to_dict()))) == device
    for mode in device.power_modes:
        moved = device.at_power(mode.name)
        assert Device.from_dict(json.loads(json.dumps(moved.to_dict()))) == moved


# --- precisions, targets -------------------------------------------------------------------------


def test_peak_of_a_precision_without_a_unit(shipped):
    assert shipped["p4"].peak_flops("fp16") == shipped["p4"].peak_flops("fp32") == 5.5e12
    assert shipped["rtx-3090"].peak_flops("amp") == 71e12
    assert shipped["a100"].peak_flops("tf32") == 156e12
    assert shipped["t4"].peak_flops("tf32") == 8.1e12
    assert shipped["t4"].peak_flops("amp_bf16") == 8.1e12  # Turing has no bf16
    assert shipped["l4"].peak_flops("int4") == 242e12
    with pytest.raises(ConfigError, match=r"unknown precision 'fp61'\. Did you mean 'fp16'\?"):
        shipped["t4"].peak_flops("fp61")


def test_targets_are_never_another_runtimes(shipped):
    nano = shipped["jetson-nano"]
    assert nano.target("eager").precision == "fp16"
    unlisted = nano.target("torch_compile", "bf16")
    assert (unlisted.name, unlisted.tier, unlisted.bundle) == (
        "torch_compile-bf16",
        "datasheet",
        None,
    )
    assert nano.target(precision="fp32").name == "tensorrt-fp32"
    assert nano.target("eager", layout="nhwc").name == "eager-fp16-nhwc"
    with pytest.raises(ConfigError, match="tflite does not run on jetson-nano, a gpu"):
        nano.target("tflite")
    with pytest.raises(ConfigError, match="Did you mean 'tensorrt'"):
        nano.target("tensort")
    with pytest.raises(ConfigError, match="tensorrt does not run on raspberry-pi-4, a cpu"):
        shipped["raspberry-pi-4"].target("tensorrt")


# --- power modes ---------------------------------------------------------------------------------


def test_power_mode_scales_clock_units_peaks_bandwidth_and_host(shipped):
    orin = shipped["jetson-agx-orin"]
    low = orin.at_power("15w")
    assert (low.power_mode, low.clock_mhz, low.units) == ("15W", 420.75, 6)
    assert low.peak_flops("fp16") == pytest.approx(6 * 420.75e6 * 2048, rel=0.001)
    assert low.bandwidth == 136.5e9
    assert low.host.clock_mhz == 1113.6
    assert (low.power_limit_w, low.l2_mb) == (15, orin.l2_mb)
    assert orin.at_power(None) is orin
    nano = shipped["jetson-orin-nano"]
    assert nano.at_power("maxn-super").peak_flops("fp16") == pytest.approx(16.71e12, rel=0.001)
    assert shipped["jetson-xavier-nx"].at_power("15W").power_mode == "15W_6CORE"
    assert shipped["jetson-xavier-nx"].at_power("MODE_10W_2CORE").power_mode == "10W_2CORE"


def test_way_between_power_modes_does_not_matter(shipped):
    for device in shipped.values():
        for mode in device.power_modes:
            there = device.at_power(mode.name)
            back = there.at_power(device.power_mode)
            assert back.peak_tflops == pytest.approx(device.peak_tflops)
            assert (back.clock_mhz, back.units, back.bandwidth_gbs, back.host.clock_mhz) == (
                device.clock_mhz, device.units, device.bandwidth_gbs, device.host.clock_mhz)  # fmt: skip


def test_eager_cost_follows_the_host_clock(home):
    device = load_device(TEMPLATE)
    assert device.at_power("7W").host.eager_us_per_op == pytest.approx(120 * 1510.4 / 960)
    assert device.at_power("7W").at_power("15W").host.eager_us_per_op == pytest.approx(120)


def test_unknown_power_mode(shipped):
    with pytest.raises(
        ConfigError, match=r"'MAXM' of jetson-nano\. Did you mean 'MAXN'\? Known: MAXN, 5W"
    ):
        shipped["jetson-nano"].at_power("MAXM")
    with pytest.raises(ConfigError, match=r"unknown power mode '50W' of t4\. It has none"):
        shipped["t4"].at_power("50W")


# --- names and files -----------------------------------------------------------------------------


def test_unknown_device_says_exactly_this():
    with pytest.raises(UnknownDevice) as error:
        load_device("jetsen")
    assert str(error.value) == (
        "unknown device 'jetsen'. Did you mean 'jetson'? See: predict-latency devices"
    )


@pytest.mark.parametrize(
    "name", ["", "\0", "a" * 5000, "../profiles/t4", "no-such.yaml", "x\0.yaml", "💥"]
)
def test_odd_names_are_unknown_devices(name):
    with pytest.raises(UnknownDevice, match="unknown device"):
        load_device(name)


def test_paths_can_be_refused():
    with pytest.raises(UnknownDevice, match="a path is not accepted here"):
        load_device(str(TEMPLATE), paths=False)


def test_a_new_user_adds_a_device_with_one_file(home, tmp_path):
    """docs/add-a-device.md, step by step."""
    text = (REPO / "docs" / "add-a-device.md").read_text(encoding="utf-8")
    minimal = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    path = tmp_path / "edge-box.yaml"
    path.write_text("\n".join(line[3:] for line in minimal.splitlines()), encoding="utf-8")
    by_path = load_device(str(path))
    assert (by_path.name, by_path.title, by_path.target().name) == (
        "edge-box",
        "edge-box",
        "tensorrt-fp16",
    )
    with pytest.raises(UnknownDevice):
        load_device("edge-box")
    place = home / "profiles" / "edge-box"
    place.mkdir(parents=True)
    shutil.copy(path, place / "device.yaml")
    by_name = load_device("edge-box")
    assert by_name.folder == str(place.resolve())
    assert by_name.peak_flops("amp") == 12.5e12
    assert "edge-box" in [device.name for device in devices()]


def test_template_uses_every_key():
    """So that the template never lags behind what a file may say."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for noun in ("Device", "Target", "PowerMode", "Host"):
        import predictor.hardware

        for name, fact in getattr(predictor.hardware, noun).__dataclass_fields__.items():
            assert fact.metadata.get("closed") or re.search(rf"\b{name}:", text), (noun, name)
    device = load_device(TEMPLATE)
    assert device.power_mode == "15W"
    assert load_device(TEMPLATE.parent / "my-device.yaml") == device


def test_users_device_wins_and_its_alias_is_found(home):
    place = home / "profiles" / "t4"
    place.mkdir(parents=True)
    text = TEMPLATE.read_text(encoding="utf-8").replace("name: my-device ", "name: t4 ")
    text = text.replace("aliases: [my-board] ", "aliases:\n  - my-Board # a comment\n  - other\n#")
    (place / "device.yaml").write_text(text, encoding="utf-8")
    assert load_device("t4").title == load_device("my-board").title == "My own board"
    assert sum(device.name == "t4" for device in devices()) == 1


def test_folders(monkeypatch, tmp_path):
    assert profiles_folders(tmp_path) == (tmp_path, shipped_profiles())
    monkeypatch.delenv("LATENCY_PREDICTOR_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert user_profiles() == Path("/data/latency-predictor/profiles")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_profiles() == Path("/home/someone/.local/share/latency-predictor/profiles")


WRONG = [
    ("memory_gb: 8 ", "memory_bg: 8 ", r"my\.yaml:\d+:1: memory_bg: unknown key\. Did you mean 'memory_gb'\?"),
    ("memory_gb: 8 ", "", r"'memory_gb' is missing"),
    ("memory_gb: 8 ", "memory_gb: -8", r"my\.yaml:\d+:1: memory_gb: a number above 0"),
    ("memory_gb: 8 ", "memory_gb: 0", "a number above 0"),
    ("memory_gb: 8 ", "memory_gb: .nan", "a number above 0"),
    ("memory_gb: 8 ", "memory_gb: .inf", "a number above 0"),
    ("memory_gb: 8 ", "memory_gb: " + "9" * 5000, "a number above 0"),
    ("memory_gb: 8 ", "memory_gb: true", "a number above 0"),
    ("memory_gb: 8 ", "memory_gb: 1e1", "'1e1' is text in YAML; write 10"),
    ("memory_gb: 8 ", "memory_gb: [8]", "not a list or mapping"),
    ("memory_gb: 8 ", "memory_gb: 8\nmemory_gb: 8", "memory_gb: this key stands twice"),
    ("units: 8 ", "units: 7.5 ", "a whole number is needed"),
    ("kind: gpu ", "kind: gup ", r"unknown kind 'gup'\. Did you mean 'gpu'\?"),
    ("kind: gpu ", "kind: cpu ", r"targets\[0\]\.runtime: tensorrt does not run on a cpu"),
    ("name: my-device", "name: My Device", "use lower-case letters"),
    ("name: my-device", "name: ../up", "use lower-case letters"),
    ("{fp32: 1.28, ", "{", "peak_tflops: fp32 is missing"),
    ("fp16: 10.24", "fp61: 10.24", r"unknown precision 'fp61'\. Did you mean 'fp16'\?"),
    ("fp16, default: true}", "fp16}", "exactly one target with 'default: true'"),
    ("precision: fp32", "precision: fp32\n    default: true", "exactly one target"),
    ("bundle: null", "bundle: ../up.npz", "a file name in the device's folder"),
    ("bundle: null", "bundel: null", r"targets\[1\]\.bundel: unknown key\. Did you mean 'bundle'"),
    ("runtime: onnxruntime\n    precision: fp32", "runtime: tensorrt\n    precision: fp16", "tensorrt-fp16 is listed twice"),
    ("limit_w: 15, default: true", "limit_w: 15", "exactly one power mode"),
    ("name: 7W", "name: 15w", "two power modes have the same name"),
    ("{name: 15W, clock_mhz: 625", "{name: 15W, clock_mhz: 600", r"power_modes\[0\]\.clock_mhz: 600 here and 625 above"),
    ("  memory_gb: the", "  memory: the", r"sources\.memory: unknown fact 'memory'\. Did you mean 'memory_gb'"),
    ("targets:\n", "targets:\n  - 7\n", r"targets\[0\]: 'key: value' lines"),
    ("tensor_cores: true ", "tensor_cores: yes ", "true or false is needed"),
    ("host: {", "host: [", "is missing before this"),
    ("kind: gpu ", "kind: *alias ", "alias"),
    ("kind: gpu ", "folder: /etc\nkind: gpu ", "folder: unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "message"), WRONG)
def test_wrong_files_are_answered_with_their_place(tmp_path, right, wrong, message):
    text = TEMPLATE.read_text(encoding="utf-8")
    assert right in text
    path = tmp_path / "my.yaml"
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as error:
        load_device(path)
    assert re.match(rf"{re.escape(str(path))}:\d+:\d+: ", str(error.value))
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"- 1", b"[" * 100_000, b"a: " * 400_000, b"name: t\n", b"\0"]
)
def test_what_is_no_device_file(tmp_path, content):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load_device(path)


def test_name_and_folder_must_agree(home):
    place = home / "profiles" / "one"
    place.mkdir(parents=True)
    shutil.copy(TEMPLATE, place / "device.yaml")
    with pytest.raises(ConfigError, match="'my-device' lies in the folder 'one'"):
        load_device("one")


def test_damaged_shipped_profile_says_reinstall(tmp_path, monkeypatch):
    profiles = tmp_path / "profiles"
    shutil.copytree(shipped_profiles() / "t4", profiles / "t4")
    file = profiles / "t4" / "device.yaml"
    file.write_text(file.read_text(encoding="utf-8")[:300], encoding="utf-8")
    monkeypatch.setattr("predictor.device.shipped_profiles", lambda: profiles.resolve())
    with pytest.raises(
        ArtifactError, match=r"device\.yaml:.*damaged; reinstall, or run: predict-latency doctor"
    ):
        load_device("t4")


@settings(max_examples=150)
@given(data=st.data())
def test_mutants_of_a_file_load_or_are_refused(tmp_path_factory, data):
    """Bytes cut, doubled or replaced: a device or a ConfigError, never anything else."""
    content = bytearray((shipped_profiles() / "jetson-nano" / "device.yaml").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        size = data.draw(st.integers(0, 30))
        content[at : at + size] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"{", b"- ", b"\n", b": "])
        )
    path = tmp_path_factory.getbasetemp() / "mutant.yaml"
    path.write_bytes(bytes(content))
    try:
        device = load_device(path)
    except ConfigError as refused:
        message = str(refused)
    else:
        message = str(path)
        assert device.peak_flops("fp16") > 0
        assert Device.from_dict(device.to_dict()) == device
    assert str(path) in message


def test_from_dict_checks():
    for wrong in ({}, [], 7, None, {"name": "x", "targets": 7}, {"name": "x", "host": 7}):
        with pytest.raises(ConfigError):
            Device.from_dict(wrong)
    plain = load_device("t4").to_dict()
    with pytest.raises(ConfigError, match="at least one target"):
        Device.from_dict({**plain, "targets": []})
    with pytest.raises(ConfigError, match=r"targets\[0\]: unknown key|targets\[0\]\.runtme"):
        Device.from_dict({**plain, "targets": [{"runtme": "eager", "precision": "fp32"}]})


def test_the_docs_example_says_what_happens():
    text = (REPO / "docs" / "devices.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    scope: dict = {}
    exec("\n".join(line for line in code.splitlines() if "import" in line or " = " in line), scope)
    shown = re.findall(r"^(device\.\S.*?)\s+# ('[^']*'|[\d.e]+)", code, re.MULTILINE)
    assert len(shown) == 5
    for expression, value in shown:
        assert eval(expression, scope) == eval(value), expression


def test_import_stays_light():
    code = "import sys, predictor.device; print(any(m in sys.modules for m in ('yaml', 'numpy', 'torch')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO
    )
    assert done.stdout.strip() == "False"
