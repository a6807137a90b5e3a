"""What ncnn's benchmark table calls a device, and the profile and cores that its rows stand for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Board:
    """A device of the table, found by the ``start`` of its name.

    ``cpu`` and ``gpu`` are profiles. ``mixed`` says that there are small cores besides those that
    the profile describes, ``clock_mhz`` the clock of a board that is not at its profile's.
    """

    start: str
    cpu: str = ""
    gpu: str = ""
    mixed: bool = False
    clock_mhz: float | None = None


BOARDS: tuple[Board, ...] = (
    Board("AMD EPYC 7742", "epyc-7742"),
    Board("AMD Radeon RX 6900 XT", gpu="rx-6900-xt"),
    Board("AMD Ryzen 5700g", "ryzen-5700g"),
    Board("AMD Ryzen 9 5950X", "ryzen-5950x"),
    Board("AMD Ryzen Embedded V1605B", "ryzen-v1605b", "radeon-vega-8"),
    Board("AMD Ryzen Threadripper 3970X", "threadripper-3970x"),
    Board("AWS c5.4xlarge", "aws-c5-4xlarge"),
    Board("AXERA AX620A", "ax620a"),
    Board("AXERA AX630C", "ax630c"),
    Board("Amlogic S805", "amlogic-s805"),
    Board("Arduino UNO Q", "arduino-uno-q"),
    Board("Avaota Aim", "avaota-aim", mixed=True),
    Board("Banana Pi M2 Zero", "banana-pi-m2-zero"),
    Board("CVITEK SG2000", "sg2000"),
    Board("EAIDK 310", "eaidk-310"),
    Board("Freescale i.MX7 Dual", "imx7-dual"),
    Board("HUAWEI KunPeng 920 2251K", "kunpeng-920-8"),
    Board("HUAWEI KunPeng 920 3211K", "kunpeng-920-24"),
    Board("HUAWEI Kunpeng 920 7260", "kunpeng-920-64"),
    Board("Hyper-V Linux Guest with GPU-PV enabled (Intel Core i7-11800H", "i7-11800h"),
    Board("Hyper-V Linux Guest with GPU-PV enabled (Intel Core i7-7700K", "i7-7700k",
          "gtx-1050-ti"),
    Board("Intel Atom x5-Z8350", "atom-x5-z8350", "atom-x5-z8350-gpu"),
    Board("Intel Celeron M 420", "celeron-m-420"),
    Board("Intel(R) UHD Graphics 770", gpu="uhd-770"),
    Board("Khadas VIM3", "khadas-vim3", "khadas-vim3-gpu", mixed=True),
    Board("Loongson 2K1000 ", "loongson-2k1000"),
    Board("Loongson 2K1000LA", "loongson-2k1000la"),
    Board("Loongson 2K2000", "loongson-2k2000"),
    Board("Loongson 3A3000", "loongson-3a3000"),
    Board("Loongson 3A4000", "loongson-3a4000"),
    Board("Loongson 3A5000", "loongson-3a5000"),
    Board("Loongson 3A6000", "loongson-3a6000"),
    Board("MYIR RemiPi", "remi-pi"),
    Board("MacBook Pro (13-inch, M1", "apple-m1", "apple-m1-gpu", mixed=True),
    Board("MacBook Pro (15-inch, 2019)", "i7-9750h"),
    Board("MediaTek Dimensity 9300", "dimensity-9300", "dimensity-9300-gpu", mixed=True),
    Board("Microsoft Azure Standard D64ps v6", "azure-d64ps-v6"),
    Board("Microsoft Azure Standard D64s v6", "azure-d64s-v6"),
    Board("NVIDIA Jetson AGX Xavier", "jetson-agx-xavier-cpu", "jetson-agx-xavier"),
    Board("NVIDIA Jetson Nano", "jetson-nano-cpu", "jetson-nano"),
    Board("NVIDIA Jetson Orin Nano", "jetson-orin-nano-cpu", "jetson-orin-nano"),
    Board("NVIDIA Quadro RTX 8000", gpu="quadro-rtx-8000"),
    Board("NVIDIA RTX3090", gpu="rtx-3090"),
    Board("NanoPi R2S", "nanopi-r2s"),
    Board("OrangePi Zero 2", "orange-pi-zero-2"),
    Board("OrangePi4 LTS", "orange-pi-4-lts", mixed=True),
    Board("OrangePi5", "orange-pi-5", mixed=True),
    Board("OrangePicm4", "orange-pi-cm4"),
    Board("Phytium FT-2000+/64", "phytium-ft-2000-plus"),
    Board("Phytium FT-2000/4", "phytium-ft-2000-4"),
    Board("PhytiumPi", "phytium-pi", mixed=True),
    Board("Qualcomm MSM6150", "snapdragon-675", mixed=True),
    Board("Qualcomm MSM8916", "snapdragon-410"),
    Board("Qualcomm MSM8994", "snapdragon-810", "snapdragon-810-gpu", mixed=True),
    Board("Qualcomm MSM8996", "snapdragon-821"),
    Board("Qualcomm MSM8998", "snapdragon-835", "snapdragon-835-gpu", mixed=True),
    Board("Qualcomm SDM660", "snapdragon-660", "snapdragon-660-gpu", mixed=True),
    Board("Qualcomm SM8150-AC", "snapdragon-855-plus", "snapdragon-855-plus-gpu", mixed=True),
    Board("Qualcomm SM8550-AB", "snapdragon-8-gen-2-cpu", "snapdragon-8-gen-2-gpu", mixed=True),
    Board("Qualcomm Snapdragon X Elite", "snapdragon-x-elite-cpu", "snapdragon-x-elite-gpu"),
    Board("RDK X3 Module", "rdk-x3"),
    Board("Radxa Zero 3W", "radxa-zero-3w"),
    Board("Raspberry Pi 3 Model B+", "raspberry-pi-3b-plus"),
    Board("Raspberry Pi 5 Broadcom BCM2712 Overclock", "raspberry-pi-5", clock_mhz=2900),
    Board("Raspberry Pi 5 Broadcom BCM2712, Cortex-A76", "raspberry-pi-5"),
    Board("Rock3A", "rock-3a"),
    Board("Rockchip RK3288", "rk3288", "rk3288-gpu"),
    Board("Rockchip RK3588", "rk3588", "rk3588-gpu", mixed=True),
    Board("Spacemit MUSE Pi Pro", "muse-pi-pro", "muse-pi-pro-gpu"),
    Board("Station P2", "station-p2"),
    Board("Station-M2", "station-m2", "station-m2-gpu"),
    Board("Station-M3", "station-m3", mixed=True),
    Board("T-Head TH1520", "th1520", "th1520-gpu"),
    Board("VisionFive2", "visionfive-2", "visionfive-2-gpu"),
    Board("Z7-Lite 7020", "zynq-7020"),
    Board("iPhone 5S", "iphone-5s", "iphone-5s-gpu"),
    Board("nVIDIA RTX A3000", gpu="rtx-a3000-laptop"),
    Board("nVIDIA RTX2060", gpu="rtx-2060-laptop"),
    Board("nVIDIA RTX2080", gpu="rtx-2080"),
)  # fmt: skip

LEFT_OUT = {
    "HiSilicon Hi3519V101": "10 networks only",
    "Ingenic T40XP": "13 networks only",
    "Raspberry Pi 5 Broadcom BCM2712, VideoCore": "its Vulkan device is llvmpipe, on the CPU",
    "Sunway": "no published figures of its vector units",
    "Xeon Phi 3120A": "ncnn has no code for its vector units, and its rows use 56 to 224 threads",
}
"""Devices of the table without a profile, and why. The Vulkan rows of two laptops (Core i7-11800H,
MacBook Pro of 2019) are left out too: both have two GPUs, and their runs, which differ by a factor
of up to three, carry one name."""

KINDS = {
    **dict.fromkeys(("cortex-a5", "cortex-a7", "cortex-a9", "cortex-a17"), "armv7"),
    "cortex-a53": "armv8-in-order",
    "cortex-a55": "armv8.2-in-order",
    **dict.fromkeys(("cortex-a57", "cortex-a72", "cortex-a73", "kryo", "cyclone", "phytium-ftc662",
                     "phytium-ftc663", "phytium-ftc664"), "armv8"),
    **dict.fromkeys(("cortex-a76", "cortex-a78", "cortex-a715", "cortex-x4", "carmel", "oryon",
                     "firestorm", "taishan-v110", "neoverse-n2"), "armv8.2"),
    **dict.fromkeys(("zen1", "zen2", "zen3", "tiger-lake", "skylake-client", "skylake-sp",
                     "emerald-rapids"), "x86-avx"),
    **dict.fromkeys(("airmont", "yonah"), "x86-sse"),
    **dict.fromkeys(("loongson-la464", "loongson-la664", "loongson-la364"), "loongarch"),
    **dict.fromkeys(("loongson-gs464e", "loongson-gs464v", "loongson-gs264"), "mips"),
    **dict.fromkeys(("sifive-u74", "c906", "c910", "x60"), "riscv"),
    **dict.fromkeys(("mali-bifrost", "mali-valhall", "mali-midgard", "mali-5th"), "mali"),
    **dict.fromkeys(("adreno-4xx", "adreno-5xx", "adreno-6xx", "adreno-7xx"), "adreno"),
    **dict.fromkeys(("powervr-b", "powervr-6"), "powervr"),
    **dict.fromkeys(("gen8", "gen9", "xe-lp"), "intel-gpu"),
    **dict.fromkeys(("rdna2", "vega"), "amd-gpu"),
    **dict.fromkeys(("maxwell", "pascal", "volta", "turing", "ampere"), "nvidia-gpu"),
    "apple-g13": "apple-gpu",
}  # fmt: skip
"""Generation of a profile to the kind of core whose curves boards share."""


SHIPPED_CPUS = """
    amlogic-s805:4:c apple-m1:1:b arduino-uno-q:4:c atom-x5-z8350:4:b avaota-aim:4:c
    aws-c5-4xlarge:8:c ax620a:4:b ax630c:2:c azure-d64ps-v6:8:c azure-d64s-v6:8:c
    banana-pi-m2-zero:4:b celeron-m-420:1:c dimensity-9300:4:c eaidk-310:4:b
    epyc-7742:1:c i7-11800h:1:c i7-7700k:1:c i7-9750h:1:b imx7-dual:2:b iphone-5s:2:a
    jetson-agx-xavier-cpu:8:b jetson-nano-cpu:4:b jetson-orin-nano-cpu:6:c
    khadas-vim3:4:b kunpeng-920-24:8:c kunpeng-920-64:8:c kunpeng-920-8:8:c
    loongson-2k1000:2:b loongson-2k1000la:2:c loongson-2k2000:2:c loongson-3a3000:4:c
    loongson-3a4000:4:c loongson-3a5000:4:c loongson-3a6000:4:c muse-pi-pro:8:c
    nanopi-r2s:4:b orange-pi-4-lts:2:c orange-pi-5:4:c orange-pi-cm4:4:c
    orange-pi-zero-2:4:c phytium-ft-2000-4:4:c phytium-ft-2000-plus:4:c phytium-pi:2:c
    radxa-zero-3w:4:c raspberry-pi-3b-plus:4:c raspberry-pi-5:4:c rdk-x3:4:c remi-pi:2:c
    rk3288:4:b rk3588:4:c rock-3a:4:b ryzen-5700g:8:c ryzen-5950x:16:c ryzen-v1605b:4:b
    sg2000:1:c snapdragon-410:4:b snapdragon-660:1:a snapdragon-675:2:a
    snapdragon-8-gen-2-cpu:4:c snapdragon-810:4:b snapdragon-821:4:b snapdragon-835:4:a
    snapdragon-855-plus:4:c snapdragon-x-elite-cpu:12:c station-m2:1:c station-m3:1:c
    station-p2:4:b th1520:4:b threadripper-3970x:1:a visionfive-2:4:c zynq-7020:2:b
"""
SHIPPED_GPUS = """
    apple-m1-gpu:b atom-x5-z8350-gpu:b dimensity-9300-gpu:c gtx-1050-ti:c
    iphone-5s-gpu:a jetson-agx-xavier:b jetson-nano:b jetson-orin-nano:c
    khadas-vim3-gpu:c muse-pi-pro-gpu:c radeon-vega-8:b rk3288-gpu:b rk3588-gpu:b
    rtx-2060-laptop:a rtx-2080:a rtx-3090:c rtx-a3000-laptop:c rx-6900-xt:c
    snapdragon-660-gpu:a snapdragon-8-gen-2-gpu:c snapdragon-810-gpu:a
    snapdragon-835-gpu:a snapdragon-855-plus-gpu:b snapdragon-x-elite-gpu:c
    station-m2-gpu:c th1520-gpu:c uhd-770:c visionfive-2-gpu:c
"""
"""Targets that ship, ``profile:cores:era`` and ``profile:era``: at least 14 stable networks in the
newest version of the benchmark that the board has, on all large cores but at most 8."""


def board_of(device: str) -> Board | None:
    """The board that the table means by ``device``; None for those that are left out."""
    for board in BOARDS:
        if device.startswith(board.start):
            return board
    if any(device.startswith(start) for start in LEFT_OUT):
        return None
    raise KeyError(device)
