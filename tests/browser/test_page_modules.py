"""The page's modules by themselves: numbers as the reports write them, links there and back."""

import random

from predictor.report import units


def called(page, module, script, *values):
    """What ``script`` makes of the module's exports ``m`` and the arguments ``a``."""
    found = page.driver.execute_async_script(
        "const done = arguments[arguments.length - 1], a = [...arguments].slice(2, -1);"
        "import(new URL('page/' + arguments[0], location.href)).then("
        "m => done([new Function('m', 'a', 'return ' + arguments[1])(m, a)]),"
        "error => done(String(error)))", module, script, *values)  # fmt: skip
    assert isinstance(found, list), found
    return found[0]


def unpoliced(page):
    """The page without its policy, under which no test could hand over a function."""
    page.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    return page.open()


def test_numbers_are_those_of_the_reports(page):
    unpoliced(page)
    rng = random.Random(0)
    values = [rng.uniform(1, 10) * 10 ** rng.randint(-7, 8) for _ in range(400)]
    values += [
        0.0,
        9.994,
        9.996,
        99.94,
        99.96,
        0.9951,
        0.9949,
        999.6,
        60_000.0,
        3_600_000.0,
        12.25,
        12.75,
        2.5,
        1002.5,
        12250,
        -3.195,
    ]
    try:
        for name, of in (("milliseconds", units.milliseconds), ("digits", units.digits),
                         ("megabytes", units.megabytes), ("timeUnit", units.time_unit)):  # fmt: skip
            got = called(page, "units.js", f"a[0].map(v => m.{name}(v))", values)
            assert got == [of(value) for value in values], name
        whole = [*(round(value) for value in values), 12_250, 12_350, 3_195, 1_234_500]
        assert called(page, "units.js", "a[0].map(v => m.bytes(v))", [w for w in whole if w >= 1000]
                      ) == [units.nbytes(w) for w in whole if w >= 1000]  # fmt: skip
        assert called(page, "units.js", "a[0].map(v => m.count(v))", [w for w in whole if w >= 1000]
                      ) == [units.count(w) for w in whole if w >= 1000]  # fmt: skip
        shares = [rng.random() for _ in range(50)]
        assert called(page, "units.js", "a[0].map(v => m.percent(v))", shares) == [
            units.percent(share) for share in shares
        ]
        odd = "[NaN, Infinity, -Infinity, null, undefined].map(m.milliseconds)"
        assert called(page, "units.js", odd) == ["–"] * 5
        assert (
            called(page, "units.js", "m.printable(a[0])", "a\x07b\u202ec d") == "a\\x07b\\u202ec d"
        )
    finally:
        page.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})


def test_links_go_there_and_back(page):
    unpoliced(page)
    state = {
        "view": "search", "model": "nasbench201:|nor_conv_3x3~0|+|a&b=c#d%|", "device": ["a100", "x.y-z_1"],
        "runtime": "tensorrt", "precision": "fp16", "batch": 2, "resolution": "360x640",
        "power_mode": "MAXN_SUPER", "budget": 0.25, "scope": "call", "phase": "decode", "sequence": 1,
        "context": 0, "inputs": "1x3x8x8, 1x10", "space": "ofa", "signal": "zero-cost",
        "sampler": "nsga2", "trials": 7, "seed": 0, "aim": "front",
    }  # fmt: skip
    try:
        there = called(page, "link.js", "m.encode(a[0])", state)
        assert there.startswith("#view=search&model=nasbench201:")
        assert called(page, "link.js", "m.decode(a[0])", there) == {"state": state, "problems": []}
        text = "model: ünï\n" + "\U0001f980" * 50
        back = called(page, "link.js", "m.decode(m.encode({yaml: a[0]}))", text)
        assert back == {"state": {"yaml": text}, "problems": []}
    finally:
        page.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
