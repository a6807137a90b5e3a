"""Files: wrong ones are told beside the field, good ones are predicted."""

import pytest

import predictor
from predictor.report.units import milliseconds

JETSON = "jetson-orin-nano"
GOOD = """\
model:
  name: tiny
  layers:
    - {type: conv2d, out: 8, kernel: 3, stride: 2, padding: 1}
    - {type: relu}
inputs: [1, 3, 64, 64]
device: jetson
"""
WRONG = GOOD.replace("out: 8", "outt: 8")


def give(page, path):
    page.click("label:has(input[name=from][value=file])")
    page.one("#file").send_keys(str(path))


def test_junk_that_is_called_onnx(page, tmp_path):
    pytest.importorskip("onnx", reason="a wrong file is told by onnx")
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"this is no graph" * 50)
    page.open()
    page.choose(JETSON)
    give(page, path)
    page.click("#predict")
    words = page.shown("#model-error")
    assert "junk.onnx" in words
    assert str(tmp_path) not in words
    assert page.one("#model-error").get_attribute("role") == "alert"
    assert page.one("#file").get_attribute("aria-invalid") == "true"
    assert page.focused() == "file"
    assert "No result" in page.text("#answer")


def test_a_kind_of_file_that_is_not_taken(page, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    page.open()
    page.choose(JETSON)
    give(page, path)
    page.click("#predict")
    assert ".onnx, .pt2, .yaml, .yml" in page.shown("#model-error")


def test_a_mistake_in_yaml_names_the_line_and_is_mended_in_place(page, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(WRONG)
    page.open()
    give(page, path)
    page.click("#predict")
    words = page.shown("#model-error")
    assert "net.yaml:4:" in words
    assert "outt" in words
    page.click("#file-edit")
    page.until("return document.getElementById('yaml').value.includes('outt')")
    page.click("#predict")
    assert "config.yaml:4:" in page.shown("#model-error")
    page.click("#model-error button")
    chosen = page.js("const y = document.getElementById('yaml');"
                     "return y.value.slice(y.selectionStart, y.selectionEnd)")  # fmt: skip
    assert chosen == WRONG.splitlines()[3]
    page.write("#yaml", GOOD)
    assert not page.one("#model-error").is_displayed()
    page.click("#predict")
    page.answer("tiny on NVIDIA Jetson Orin Nano 8GB")


def test_a_yaml_file_with_its_own_device(page, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(GOOD)
    page.open()
    give(page, path)
    page.click("#predict")
    page.answer("tiny on NVIDIA Jetson Orin Nano 8GB")
    expected = predictor.predict(path, device="jetson")
    assert page.text(".hero .value") == milliseconds(expected.latency_ms)


def test_a_yaml_file_on_several_devices(page, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(GOOD)
    page.open()
    page.choose(JETSON)
    page.choose("rtx-4090")
    give(page, path)
    page.click("#predict")
    page.answer("tiny on 2 devices")


def onnx_text(first="first", second="second"):
    pytest.importorskip("onnx", reason="an ONNX file is written by onnx")
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", TensorProto.FLOAT, (8, 3, 3, 3), [0.0] * 216)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name=first, pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["c"], ["y"], name=second)]  # fmt: skip
    graph = helper.make_graph(nodes, "two_layers",
                              [value("x", TensorProto.FLOAT, (1, 3, 32, 32))],
                              [value("y", TensorProto.FLOAT, (1, 8, 32, 32))], [weight])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()


def test_an_onnx_file(page, tmp_path):
    onnx_file = tmp_path / "two_layers.onnx"
    onnx_file.write_bytes(onnx_text())
    page.open()
    page.choose(JETSON)
    give(page, onnx_file)
    page.click("#predict")
    page.answer("on NVIDIA Jetson Orin Nano 8GB")
    expected = predictor.predict(onnx_file, device=JETSON)
    assert page.text(".hero .value") == milliseconds(expected.latency_ms)
    # A link cannot hold the file, and says so where it is opened.
    page.click("#copy-link")
    page.until("return document.querySelector('#link-box .left')")
    assert "not part of a link" in page.text("#link-box .left")
    link = page.one("#link-text").get_attribute("value")
    page.driver.get("about:blank")
    page.open(link.removeprefix(page.url))
    assert "an uploaded file cannot be part" in page.shown("#notices")
    assert page.texts("#devices .chips button") == ["NVIDIA Jetson Orin Nano 8GB"]


def test_a_file_is_dropped(page):
    page.open()
    page.click("label:has(input[name=from][value=file])")
    page.js(
        "const files = new DataTransfer();"
        "files.items.add(new File([arguments[0]], 'dropped.yaml'));"
        "for (const kind of ['dragover', 'drop']) document.getElementById('drop').dispatchEvent("
        "new DragEvent(kind, {dataTransfer: files, bubbles: true, cancelable: true}))", GOOD,
    )  # fmt: skip
    assert "dropped.yaml" in page.text("#file-help")
    page.click("#predict")
    page.answer("tiny on NVIDIA Jetson Orin Nano 8GB")


EVIL = "<img src=x onerror=document.title=1>"


def test_a_model_name_that_looks_like_markup_is_text(page):
    page.open()
    page.click("label:has(input[name=from][value=yaml])")
    page.js("document.getElementById('yaml').value = arguments[0]",
            GOOD.replace("name: tiny", f"name: '{EVIL}'"))  # fmt: skip
    page.choose(JETSON)
    page.choose("rtx-4090")
    page.click("#predict")
    page.answer(EVIL)
    assert EVIL in page.text("#result-title")
    assert not page.all("main img")
    assert page.driver.title == "predict-latency"


def test_layer_names_that_look_like_markup_are_text(page, tmp_path):
    """With characters that turn the direction of a line, which are shown as what they are."""
    path = tmp_path / "evil.onnx"
    path.write_bytes(onnx_text(f"{EVIL}\u202e", f"</td><script>{EVIL}</script>"))
    page.open()
    page.choose("rtx-4090")
    give(page, path)
    page.click("#predict")
    page.answer("on NVIDIA GeForce RTX 4090")
    names = page.texts("section:has(#profile) tbody th, section:has(.scroll.tall) tbody th")
    assert any(EVIL in name for name in names)
    assert not any("\u202e" in name for name in names)
    assert not page.all("main img, main script")
    assert page.driver.title == "predict-latency"
