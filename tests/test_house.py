"""The house: floors, no circles, a light import, a guarded surface, files that fit on a desk."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import predictor

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "predictor"

FLOORS = {
    "errors": 0, "graph": 0, "estimate": 0, "pause": 0, "cores": 0,
    "files": 1, "front": 1, "yamlmarks": 1, "strict": 1, "tables": 1, "language": 1,
    "schema": 2, "targets": 2,
    "kinds": 3, "hardware": 3, "operators": 3,
    "device": 4, "layer_types": 4, "builder": 4, "kernels": 4,
    "layer_grammar": 5, "config_keys": 5, "hints": 5,
    "config": 6,
    "frontends": 7, "latency": 7, "report": 7,
    "pipeline": 8, "counting": 8, "doctor": 8, "inventory": 8, "profiling": 8,
    "search": 9, "batching": 9.2, "calibration": 9.5, "calibrated": 9.7,
    "training": 9.8, "service": 9.9,
    "commands": 10,
    "cli": 11, "__init__": 11, "__main__": 11,
}  # fmt: skip
"""A room imports only from floors below its own, or from itself."""

LONGEST_FILE = 410
HEAVY = {"torch", "torchvision", "timm", "transformers", "onnx", "onnxruntime", "lightgbm", "optuna",
         "pandas", "fastapi", "uvicorn", "orjson", "httpx", "prometheus_client", "jsonschema_rs", "dask",
         "distributed", "sklearn", "scipy"}  # fmt: skip
"""Imported inside functions only."""

SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imported(path):
    """Modules of this package that a file imports anywhere, and whether at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    typing = {id(inner) for node in tree.body if isinstance(node, ast.If)
              and ast.unparse(node.test) == "TYPE_CHECKING" for inner in ast.walk(node)}  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in typing:
            continue  # never run
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            if node.module == "predictor":
                names = [alias.name for alias in node.names]
            elif node.module and node.module.startswith("predictor."):
                base = node.module.removeprefix("predictor.")
                names = [f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base
                         for a in node.names]  # fmt: skip
        elif isinstance(node, ast.Import):
            names = [a.name.removeprefix("predictor.") for a in node.names
                     if a.name.startswith("predictor.")]  # fmt: skip
        for name in names:
            yield name, id(node) in top


def room(module):
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_never_run_up(module):
    assert room(module) in FLOORS, f"{room(module)}: give this room a floor"
    for name, _ in imported(MODULES[module]):
        if room(name) == room(module) or (name not in MODULES and room(name) not in MODULES):
            continue
        assert FLOORS[room(name)] < FLOORS[room(module)], f"{module} imports {name}"


def test_no_circles():
    """Not even between modules of one room, wherever the import stands."""
    edges = {m: {n for n, _ in imported(p) if n in MODULES and n != m} for m, p in MODULES.items()}
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for name in sorted(edges[module]):
            visit(name)
        path.pop()
        done.add(module)

    for module in sorted(edges):
        visit(module)


TORCH_FILES = {
    f"frontends.torch_{word}" for word in ("recorder", "functions", "tensors", "shapes", "tape")
}
"""Imported by torch_module's functions only, so torch is there already."""
SERVICE_FILES = {module for module in MODULES if module.startswith("service")} - {"service"}
"""Imported by the functions of ``serve`` only, or in the processes that it starts."""


@pytest.mark.parametrize("module", sorted(set(MODULES) - TORCH_FILES - SERVICE_FILES))
def test_heavy_packages_are_imported_inside_functions(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.partition(".")[0] for name in names} & HEAVY, module


def test_importing_is_light():
    code = ("import sys, predictor; dir(predictor); "
            "print([m for m in sys.modules if m.partition('.')[0] in "
            f"{sorted(HEAVY | {'numpy', 'yaml', 'click'})!r}])")  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=ROOT)  # fmt: skip
    assert out.stdout.strip() == "[]"


def test_reading_devices_and_layer_lists_needs_no_heavy_package():
    code = (
        "import sys, predictor; predictor.devices(); "
        "predictor.predict('examples/config.yaml', device='jetson'); "
        f"print([m for m in sys.modules if m.partition('.')[0] in {sorted(HEAVY)!r}])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=ROOT)  # fmt: skip
    assert out.stdout.strip() == "[]"


SURFACE = {
    "Budget", "Count", "Device", "Estimate", "Graph", "Kernel", "KernelEstimate", "Op",
    "Predictor", "PredictorError", "TensorSpec", "count", "devices", "load_device", "load_graph",
    "predict", "register_custom", "trace",
}  # fmt: skip
"""Others write against these names: removing one needs a major version."""


def test_the_public_surface():
    assert set(predictor.__all__) >= SURFACE
    assert set(predictor.__all__) == set(predictor._WHERE)
    assert list(predictor.__all__) == sorted(predictor.__all__)
    pytest.importorskip("torch", reason="trace needs torch")
    for name in predictor.__all__:
        assert getattr(predictor, name) is not None
        assert (getattr(predictor, name).__doc__ or "").strip(), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no_such"):
        _ = predictor.no_such


@pytest.mark.parametrize("module", MODULES)
def test_files_fit_on_a_desk(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE, f"{module}: {lines} lines; split it"


TEXTS = [
    path
    for folder in ("predictor", "docs", "examples", "scripts", "profiles", "tests", ".ci", ".github")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".yml", ".json", ".toml", ".csv",
                                          ".html", ".js", ""}
    and "__pycache__" not in path.parts
]  # fmt: skip
PRIVATE = ("/" + "work/", "/" + "tmp/v", "/" + "root/")
"""Paths of the machine that something was made on (put together, or this file would hold them)."""


def test_no_file_names_a_path_of_its_maker():
    assert len(TEXTS) > 100
    for path in [*TEXTS, *ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
        text = path.read_text(encoding="utf-8", errors="replace")
        for private in PRIVATE:
            assert private not in text, f"{path.relative_to(ROOT)} holds {private}"


def test_docstrings_of_the_errors_draw_the_tree():
    from predictor import errors

    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert name in (errors.__doc__ or "")
            assert f"exit {value.exit_code}" in (errors.__doc__ or "")
