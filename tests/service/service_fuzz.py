"""Requests that nobody should send: one for each number, the same every time."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

import config_seeds
import yaml
from service_driver import KEY

DEVICES = ("jetson", "rtx-4090", "t4", "raspberry-pi-5", "jetson-agx-xavier", "v100")
LIBRARIES = ("name", "named", "quoted")
"""Seeds that import model libraries, which takes seconds: only in the long form."""
PATHS = ("predict", "predict", "predict", "count", "count", "compare", "batch", "batch", "table",
         "searches")  # fmt: skip
WORDS = (
    "", " ", "x", "jetson", "../../etc/passwd", "/etc/passwd", "/etc/hostname.onnx", "~/x.yaml",
    "file:///etc/passwd", "python:/etc/x.py:f", "python:os:system", "python:uploads/x.py:f",
    "uploads/model.onnx", "/srv/uploads/0/model.onnx", "a\x00b", "a\nb", "\x1b[31m", "ü€😀", "％００",
    "C:\\x\\y.onnx", "\\\\host\\share", "device.yaml", ".", "..", "-", "--help", "%s%n", "{0}",
    "ofa:", "ofa:ks=7", "ofa:ks=9,e=6,d=4", "ofa:" + "ks=7," * 300, "nasbench201:|none~0|",
    "nasbench201:||||", "decoder:", "decoder:gpt2", "decoder:no", "torchvision:../x",
    "timm:a/b", "transformers:./c.json", "http://127.0.0.1:1/x.onnx", "x" * 3000, "é" * 200, "null",
    "NaN", "1e400", "fp16", "tensorrt", "table:x.csv", "train.py:f", "env:HOME", "$HOME", "`id`",
)  # fmt: skip
RAW = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E-400", "-0", "-0.0", "1" * 400, "0x10",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616",
    "1e18", "1e308", "4294967296", "2147483648", "99999999999", "1.5", "0.1e-7", '"\\ud800"',
    '"\\udfff\\ud800"', '"\\u0000"', '"a\\u202eb"', "[" * 200 + "]" * 200, "[" * 1100 + "]" * 1100,
    '{"a":' * 150 + "1" + "}" * 150, "[[[[[[]]]]]]", '{"a":1,"a":2}', "tru", "'x'", "[1,]", "\x01",
)  # fmt: skip
"""What stands in a text where a value should."""
VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 4096, 65_537, 10**6, 10**9, 2**31, 2**53, 2**63 - 1,
    -(2**63), 0.0, -0.5, 1e-300, 1e300, [], {}, [[]], [None], {"": None}, [0, 0], [-1, 3, 224, 224],
    [1, 3, 10**6, 10**6], [1] * 300, {"type": "conv2d"}, {"layers": []}, {"decoder": {"like": "gpt2"}},
)  # fmt: skip
TYPES = (
    "application/json", "application/json; charset=utf-16", "APPLICATION/JSON", "text/json", "",
    "application/yaml", "text/yaml", "text/csv", "text/csvx", "TEXT/CSV; header=absent",
    "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=b",
    "application/x-www-form-urlencoded", "application/octet-stream", "text/plain", "a/b/c;;;=",
    "application/json\xff", "x" * 3000,
)  # fmt: skip
QUERIES = (
    "device=t4", "device=t4&device=v100", "devise=t4", "device=", "device=/etc/passwd", "batch=0",
    "batch=99999999999", "batch=999999999", "batch=-1", "batch=%00", "resolution=0", "resolution=1x",
    "resolution=99999", "resolution=99999x99999", "resolution=360x640", "%ff=%fe", "a=%ff", "&&&&",
    "=", "by=layer", "by=module&depth=2", "depth=0", "depth=99999999", "by=x", "x" * 3000,
    "&".join("a=1" for _ in range(200)), "device=%F0%9F%98%80", "precision=fp16&batch=8", "%",
    "context=5&phase=decode", "sequence=9999999", "attention=eager", "scope=call", "runtime=nope",
)  # fmt: skip
HEADERS = (
    ("Accept", "text/html"), ("Accept-Encoding", "gzip, br"), ("X-Request-ID", "a b\tc"),
    ("X-Request-ID", "../../x"), ("X-Request-ID", "x" * 500), ("Authorization", "Bearer \xff"),
    ("Authorization", "Basic eDp5"), ("Origin", "http://evil.example"), ("Origin", "null"),
    ("Cookie", "a=b"), ("Content-Encoding", "gzip"), ("Range", "bytes=0-1"), ("Expect", "x"),
    ("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Host", "evil"), ("Host", "evil.example"),
    ("Connection", "upgrade"), ("If-None-Match", "*"), ("Long", "y" * 5000), ("Via", "\x80\xff"),
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 5, 8, 16, 100, 224, 1000, 65_536, 10**6, 10**9, 2**31, -1, -2, 2**62)
SAID = tuple(dict.fromkeys(
    word for text in config_seeds.SEEDS.values() for word in re.findall(r"[a-z]\w+", text)
    if word not in ("torchvision", "timm", "transformers")
))  # fmt: skip
"""Words that configs are made of: keys, types of layers, names."""
CELLS = (
    "", '"', '""', '"a\nb"', "a,b", ",,,,", "\x00", "ü", "-1", "1e9", "999999999", "0", "jetson", "t4",
    "nope", "=cmd()", KEY, f'"{KEY}"', "decoder:gpt2", "model", "fp16", "/etc/passwd", "x" * 2000,
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """One request, with its bytes as they go out."""

    number: int
    kind: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def raw(self, host: str) -> bytes:
        """The whole request; the connection ends with its answer."""
        own = {name for name, _ in self.headers}
        given = [*self.headers, ("Connection", "close")]
        if "Host" not in own:
            given.append(("Host", host))
        if "Content-Length" not in own:
            given.append(("Content-Length", str(len(self.body))))
        head = f"{self.method} {self.path} HTTP/1.1\r\n" + "".join(
            f"{k}: {v}\r\n" for k, v in given
        )
        return head.encode("latin-1", "replace") + b"\r\n" + self.body


class _Raw(str):
    """Text that stands in JSON as it is."""


def request(number: int) -> Sent:
    """The request of that number."""
    rng = random.Random(f"{number} of the service")
    kind = rng.choice(PATHS)
    if kind == "table":
        content_type, body = "text/csv", _table(rng)
    else:
        content_type, body = _body(kind, rng, long=number >= 1000)
    if rng.random() < 0.05:
        content_type = rng.choice(TYPES)
    headers = [("Content-Type", content_type)] if content_type else []
    if rng.random() < 0.1:
        headers.append(rng.choice(HEADERS))
    path = f"/v1/{'batch' if kind == 'table' else kind}"
    if rng.random() < 0.15:
        path += "?" + rng.choice(QUERIES)
    method = "POST"
    if rng.random() < 0.02:
        method = rng.choice(["GET", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW"])
    if rng.random() < 0.02:
        path = rng.choice(["/v1/devices/", "/v1/searches/", "/page/", "/v1/", "/"]) + rng.choice(
            [
                "..%2f..%2fetc%2fpasswd",
                "%00",
                "x" * 3000,
                "%ff%fe",
                "../../app.py",
                "jetson/..",
                "%25",
            ]
        )
        method = rng.choice(["GET", "POST", "DELETE"])
    return Sent(number, kind, method, path, tuple(headers), body)


def _body(kind: str, rng: random.Random, *, long: bool) -> tuple[str, bytes]:
    share = rng.random()
    if share < 0.08:
        return "application/json", rng.randbytes(rng.choice([0, 1, 20, 3000]))
    if kind in ("predict", "count") and share < 0.3:
        return "application/yaml", _yaml(rng, long)
    if kind in ("predict", "count", "compare") and share < 0.45:
        return _form(kind, rng)
    data = seed(kind, rng, long)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        data = mutated(data, rng)
    return "application/json", _damaged(_text(data), rng, 0.1)


# -- values ---------------------------------------------------------------------------------------


def seed(kind: str, rng: random.Random, long: bool = False) -> dict:
    """What the service takes at that path."""
    one = {"model": _model(rng, long), "device": rng.choice(DEVICES)}
    if kind == "compare":
        return {"models": [KEY, "decoder:gpt2"][: rng.randint(1, 2)],
                "devices": rng.sample(DEVICES, rng.randint(1, 2)), "batches": [1, 2]}  # fmt: skip
    if kind == "batch":
        rows = [{"model": _model(rng, False)} for _ in range(rng.randint(1, 3))]
        rows[0] |= {"batch": 2, "precision": "fp16"}
        return {
            "rows": rows,
            "devices": ["jetson", "t4"][: rng.randint(1, 2)],
            "runtime": "tensorrt",
        }
    if kind == "searches":
        return {"space": rng.choice(["nasbench201", "ofa"]), "device": "jetson", "trials": 2,
                "accuracy": "params", "sampler": "random", "seed": 1, "budget": {"latency_ms": 9},
                "aim": "front", "upper": True, "margin": 0.1}  # fmt: skip
    config = _config(rng, long) if rng.random() < 0.6 else one
    if rng.random() < 0.3:
        config |= {"batch": 2, "resolution": 64, "budget": {"latency_ms": 1, "params": "5M"},
                   "scope": "call"}  # fmt: skip
    return {"device": "jetson", **config}


def _names(long: bool) -> list[str]:
    return [name for name in sorted(config_seeds.SEEDS) if long or name not in LIBRARIES]


def _config(rng: random.Random, long: bool) -> dict:
    return dict(yaml.safe_load(config_seeds.SEEDS[rng.choice(_names(long))]))


def _model(rng: random.Random, long: bool) -> object:
    if rng.random() < 0.5:
        return rng.choice([KEY, KEY, "decoder:gpt2", "nasbench201:|none~0|+|none~0|none~1|+|none~0|"
                           "none~1|skip_connect~2|"])  # fmt: skip
    return _config(rng, long)["model"]


def mutated(data: object, rng: random.Random) -> object:
    """The same values but for one place."""
    if isinstance(data, dict) and data and rng.random() < 0.85:
        key = rng.choice(sorted(data, key=str))
        match rng.randrange(12):
            case 0:
                return {k: v for k, v in data.items() if k != key}
            case 1:
                return {**data, rng.choice(WORDS) if rng.random() < 0.5 else f"{key}s": data[key]}
            case 2:
                other = rng.choice(sorted(data, key=str))
                return {**data, key: data[other]}
            case _:
                return {**data, key: mutated(data[key], rng)}
    if isinstance(data, list) and data and rng.random() < 0.85:
        at = rng.randrange(len(data))
        match rng.randrange(9):
            case 0:
                return data[:at] + data[at + 1 :]
            case 1:
                return data * rng.choice([2, 3, 60]) if len(data) < 100 else data[::2]
            case 2:
                return data[::-1]
            case _:
                return [*data[:at], mutated(data[at], rng), *data[at + 1 :]]
    if type(data) is int and rng.random() < 0.6:
        return rng.choice(NUMBERS)
    if isinstance(data, str) and rng.random() < 0.4:
        return rng.choice(SAID)
    match rng.randrange(8):
        case 0 | 1:
            return rng.choice(WORDS)
        case 2 | 3:
            return rng.choice(VALUES)
        case 4:
            return _Raw(rng.choice(RAW))
        case 5:
            return [data]
        case 6:
            return {"a": data}
        case _ if isinstance(data, str) and data:
            at = rng.randrange(len(data))
            return (
                data[:at] + rng.choice(["", "\x00", "/", ":", ",", "9", "ü", data]) + data[at + 1 :]
            )
        case _ if isinstance(data, int):
            return rng.choice([-data, data * 1000, data + 1, data / 3, str(data), data << 70])
        case _:
            return rng.choice(WORDS)


def _text(data: object) -> bytes:
    """JSON with what is no JSON where it says so."""
    if isinstance(data, _Raw):
        return data.encode("utf-8", "surrogatepass")
    if isinstance(data, dict):
        return b"{" + b",".join(_text(str(k)) + b":" + _text(v) for k, v in data.items()) + b"}"
    if isinstance(data, list | tuple):
        return b"[" + b",".join(map(_text, data)) + b"]"
    return json.dumps(data, default=str).encode()


def _damaged(text: bytes, rng: random.Random, share: float) -> bytes:
    """Bytes changed, with that probability."""
    if not text or rng.random() >= share:
        return text
    at = rng.randrange(len(text))
    match rng.randrange(6):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + rng.randbytes(rng.choice([1, 4])) + text[at + 1 :]
        case 2:
            return text[:at] + text[at : at + 30] * rng.choice([2, 500]) + text[at:]
        case 3:
            return b"\xef\xbb\xbf" + text
        case 4:
            return text.decode("utf-8", "replace").encode("utf-16")
        case _:
            return text + text[at:]


# -- texts ----------------------------------------------------------------------------------------

YAMLS = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    ) + "model: *j\ndevice: t4\n",
    "model: " + "[" * 3000, "model: " + "{a: " * 900 + "1" + "}" * 900, "&a [*a]", "model: &m {layers: [*m]}",
    "model: !!python/object/apply:os.system ['id']", "model: !!python/name:os.system", "? [a]\n: b",
    "model: {layers: [{type: linear, out: 3, name: \"\\ud800\"}]}\ninputs: [1, 4]\ndevice: t4\n",
    "model: {name: \"a\\udc80\", layers: [relu]}\ninputs: [1, 4]\ndevice: t4\n",
    "model: \"\\ud800\"\ndevice: t4\n", "model: decoder:gpt2\ndevice: \"\\udfff\"\n",
    "model: ofa:ks=7,e=6,d=4\ndevice: t4\nbatch: 0x7fffffffffffffffff\n", "%YAML 9.9\n---\nx", "\x00",
    "model: ofa:ks=7,e=6,d=4\ndevice: t4\n---\nmodel: x\n", "- 1\n- 2\n", "\t", "model: |\n  x", "...",
    "<<: {model: decoder:gpt2}\ndevice: t4\n", "model: .nan\n", "model: 2020-01-01\n", "model: ~\n",
    "model: {layers: [" + "relu, " * 20_000 + "relu]}\ninputs: [1, 4]\ndevice: t4\n",
    "model: {layers: [{type: repeat, times: 1000, layers: [{type: repeat, times: 1000, layers: [relu]}]}]}\n"
    "inputs: [1, 4]\ndevice: t4\n", "1" * 5000, "model: !<tag:yaml.org,2002:binary> aGk=\n",
    "model: 1:2:3\ndevice: 190:20:30\nbatch: 1_0\n", "!!set {a, b}", "!!omap [a: 1]", "&a a: *a",
    "model: {source: 'python:/srv/uploads/x.py:f', args: {a: 1}}\ndevice: t4\n",
    "model: 'python:/srv/uploads/x.py:f'\ndevice: t4\n", "model: /srv/uploads/x.onnx\ndevice: t4\n",
)  # fmt: skip


def _yaml(rng: random.Random, long: bool) -> bytes:
    if rng.random() < 0.3:
        return rng.choice(YAMLS).encode("utf-8", "surrogatepass")
    text = config_seeds.SEEDS[rng.choice(_names(long))]
    if rng.random() < 0.7:
        text += "device: jetson\n"
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        lines = text.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines[at] = ""
            case 1:
                lines.insert(at, lines[at])
            case 2:
                head, colon, _ = lines[at].partition(":")
                lines[at] = f"{head}{colon} {rng.choice([*WORDS, *RAW[:20]])}\n"
            case 3:
                lines[at] = " " * rng.choice([1, 3, 400]) + lines[at]
            case _:
                cut = rng.randrange(max(1, len(lines[at])))
                lines[at] = lines[at][:cut] + rng.choice("[]{}:,&*!|>'\"%@`#-?") + lines[at][cut:]
        text = "".join(lines) or "x"
    return _damaged(text.encode("utf-8", "surrogatepass"), rng, 0.15)


def _table(rng: random.Random) -> bytes:
    columns = rng.choice(["model", "model,batch", "model,device,batch,precision", "model,model", "a",
                          "", "batch", "model,nope", "id,model,device", "latency_ms,model"])  # fmt: skip
    if rng.random() < 0.03:
        return rng.randbytes(rng.choice([0, 10, 100_000]))
    rows = [columns]
    for _ in range(rng.choice([0, 1, 3, 10])):
        cells = [rng.choice([KEY, *CELLS])] + [rng.choice(CELLS) for _ in range(columns.count(","))]
        rows.append(",".join(cells[: rng.choice([9, 9, 9, 1])]))
    end = rng.choice(["\n", "\r\n", "\r"])
    return _damaged(end.join(rows).encode() + end.encode(), rng, 0.2)


# -- forms ----------------------------------------------------------------------------------------

FILES = (
    ("model.onnx", b"junk"), ("config.yaml", b"model: ofa:ks=7,e=6,d=4\ndevice: t4\n"), ("", b""),
    ("../../../etc/cron.d/x.onnx", b"\x08\x07"), ("/etc/passwd", b"x"), ("x.pt2", b"PK\x03\x04" + b"\0" * 60),
    ("x" * 5000 + ".onnx", b"x"), ("a\x00b.onnx", b"x"), ("..", b"x"), (".onnx", b""), ("CON.onnx", b"x"),
    ("ü😀.yaml", "model: ü\n".encode()), ("x.yaml", b"\xff\xfe"), ("x.exe", b"MZ"), ("x.PT2", b"PK\x05\x06" + b"\0" * 18),
    ("x.yml", b"model: uploads/0/model.onnx\ndevice: t4\n"), ("x.yml", b"model: python:uploads/0/x.py:f\n"),
    ("C:\\x\\model.onnx", b"\x00" * 999), ("%2e%2e%2fx.onnx", b"\xff" * 20), ("a;b=\"c.onnx", b"x"),
)  # fmt: skip


def _form(kind: str, rng: random.Random) -> tuple[str, bytes]:
    said = {"devices": ["jetson"]} if kind == "compare" else {"device": "jetson", "batch": 2}
    parts = [("file", *rng.choice(FILES)) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        text = _text(mutated(said, rng)) if rng.random() < 0.5 else _text(said)
        parts.append(("settings", None, _damaged(text, rng, 0.1)))
    if rng.random() < 0.15:
        parts.append((rng.choice(["model", "fil", "x" * 4000, "", "a\x00", "ü"]), None, b"y"))
    return form(parts, rng)


def form(parts: list[tuple], rng: random.Random) -> tuple[str, bytes]:
    """The content type and the body of a form, now and then damaged."""
    boundary = rng.choice(["b", "----x", "x" * 70, "a'b()+_,-./:=?"])
    body = b""
    for name, file, data in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if file is not None:
            head += f'; filename="{file}"\r\nContent-Type: application/octet-stream'
        if rng.random() < 0.05:
            head = rng.choice(["", "Content-Disposition:", "X: y", head.replace('"', ""), head * 40,
                               "Content-Disposition: form-data; filename*=UTF-8''%ff%00"])  # fmt: skip
        body += b"--" + boundary.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"
    body += b"--" + boundary.encode() + b"--\r\n"
    said = rng.choice([boundary] * 8 + ["other", "", "x" * 4000])
    return f'multipart/form-data; boundary="{said}"', _damaged(body, rng, 0.15)
