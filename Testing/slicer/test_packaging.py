"""The extension as a package: everything that is needed is listed, installed and found."""

import ast
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from E2ENetSegmentationLib.engine.python.requirements import SEGMENT, TRAIN, requirements

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "E2ENetSegmentation"
SCRIPT = MODULE / "E2ENetSegmentation.py"
LIB = sorted((MODULE / "E2ENetSegmentationLib").rglob("*.py"))


def listed(variable):
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    block = re.search(rf"set\({variable}\n(.*?)\n  \)", text, re.DOTALL).group(1)
    return sorted(line.strip().replace("${MODULE_NAME}", MODULE.name) for line in block.split("\n"))


def files_of(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def test_every_script_and_resource_is_listed():
    scripts = ["E2ENetSegmentation.py", *(p.relative_to(MODULE).as_posix() for p in LIB)]
    assert listed("MODULE_PYTHON_SCRIPTS") == sorted(scripts)
    resources = [f"Resources/{name}" for name in files_of(MODULE / "Resources")]
    assert listed("MODULE_PYTHON_RESOURCES") == sorted(resources)


STUB_CONFIG = """
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/nothing.cmake")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.10/qt-scripted-modules")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.10/qt-scripted-modules")
"""
STUB_USE = """
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    get_filename_component(folder "${file}" DIRECTORY)
    configure_file("${file}" "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${file}"
                   COPYONLY)
    install(FILES "${file}"
            DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder}")
  endforeach()
endmacro()
macro(slicer_add_python_unittest)
endmacro()
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The extension configured, built and installed by CMake, over stand-ins of Slicer's macros."""
    beside = Path(sys.executable).parent
    cmake = shutil.which("cmake", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    assert cmake, "CMake is among Testing/slicer/requirements.txt"
    base = tmp_path_factory.mktemp("package")
    for name, text in (
        ("SlicerConfig.cmake", STUB_CONFIG),
        ("use.cmake", STUB_USE),
        ("nothing.cmake", ""),
    ):
        (base / name).write_text(text)
    # The extension's `project` asks for a compiler, as Slicer's template does; none is needed.
    (base / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(Stub NONE)\n"
        f'macro(project)\nendmacro()\nadd_subdirectory("{REPOSITORY.as_posix()}" extension)\n'
    )
    command = [cmake, "-S", base, "-B", base / "build", f"-DSlicer_DIR={base}"]
    command += [f"-DCMAKE_INSTALL_PREFIX={base / 'installed'}", "-DBUILD_TESTING=ON"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for step in (["--build", base / "build"], ["--install", base / "build"]):
        subprocess.run([cmake, *step], check=True, capture_output=True)
    return base


@pytest.fixture(params=["build", "installed"])
def tree(package, request):
    """The module's folder in the build tree, and as it is installed."""
    return package / request.param / "lib" / "Slicer-5.10" / "qt-scripted-modules"


def test_package_is_complete(tree):
    found = set(files_of(tree))
    expected = {path.relative_to(MODULE).as_posix() for path in LIB}
    expected |= {f"Resources/{name}" for name in files_of(MODULE / "Resources")}
    engine = REPOSITORY / "engine"
    expected |= {f"E2ENetSegmentationEngine/e2enet/{name}" for name in files_of(engine / "e2enet")}
    for folder in ("Models", "Samples", "Terminology"):
        expected |= {
            f"Resources/{folder}/{name}" for name in files_of(REPOSITORY / "Resources" / folder)
        }
    expected |= {"E2ENetSegmentation.py"}
    expected |= {
        f"E2ENetSegmentationEngine/{name}" for name in ("LICENSE", "README.md", "pyproject.toml")
    }
    assert found == expected


def test_module_finds_engine_models_and_sample(tree):
    """From the tree alone, with nothing of the sources in sight."""
    code = (
        f"import sys; sys.path[:0] = [{str(tree)!r}]\n"
        "from E2ENetSegmentationLib.engine import paths\n"
        "from E2ENetSegmentationLib.mrml import samples\n"
        "from E2ENetSegmentationLib.models.store import ModelStore\n"
        f"assert str(paths.engineFolder()) == {str(tree / 'E2ENetSegmentationEngine')!r}\n"
        "import e2enet.bundle as b\n"
        f"assert b.__file__.startswith({str(tree)!r}), b.__file__\n"
        "assert (paths.extensionResources() / 'Samples' / samples.HEAD_FILE).is_file()\n"
        "print([m.name for m in ModelStore().models()])"
    )
    code = code.replace("import e2enet.bundle as b", "b = paths.engineModule('bundle')")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "E2ENET_MODELS")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    shipped = [p.parent.name for p in (REPOSITORY / "Resources/Models").glob("*/model.json")]
    assert all(name in done.stdout for name in shipped)


def test_packages_are_those_the_engine_names():
    """Two steps: what it needs with DICOM SEG, and what its extra for training adds."""
    text = (REPOSITORY / "engine" / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1]
    training = re.search(r"^train = \[(.*?)\]", text, re.MULTILINE)[1]
    resources = MODULE / "Resources"
    dicom = re.search(r"^dicom = \[(.*?)\]", text, re.MULTILINE)[1]
    named = set(re.findall(r'"([^"]+)"', needed + dicom))
    assert set(requirements(resources, SEGMENT)) == named
    added = set(requirements(resources, TRAIN)) - named
    assert set(re.findall(r'"([^"]+)"', training)) <= added | {"torch>=2.4"}
    assert {line.split(">")[0] for line in added} == {"torch", "monai"}


def setting(name):
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(rf'set\({name} "([^"]*)"', text)[1]


def test_extension_needs_no_other():
    assert setting("EXTENSION_DEPENDS") == "NA"
    entry = json.loads((REPOSITORY / "E2ENetSegmentation.json").read_text(encoding="utf-8"))
    assert entry["build_dependencies"] == []


def test_repository_can_be_found():
    """What the Extensions Index asks for: a name that begins with Slicer, the same everywhere."""
    entry = json.loads((REPOSITORY / "E2ENetSegmentation.json").read_text(encoding="utf-8"))
    url = entry["scm_url"].removesuffix(".git")
    assert url.rsplit("/", 1)[1].startswith("Slicer")
    assert setting("EXTENSION_HOMEPAGE") == url
    raw = url.replace("github.com", "raw.githubusercontent.com") + "/main/"
    for name in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        assert setting(name).startswith(raw)
        assert (REPOSITORY / setting(name).removeprefix(raw)).is_file()


def test_description_is_for_everybody():
    """No word of the trade, and what the shipped models ask of a person."""
    text = setting("EXTENSION_DESCRIPTION")
    assert not re.search(r"spars|fusion|tensor|network whose", text, re.IGNORECASE)
    for path in (REPOSITORY / "Resources/Models").glob("*/model.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["licence"] in text


def test_catalogue_entry_keeps_the_schema():
    """ExtensionsIndex schema v1.0.1: these keys, no others."""
    entry = json.loads((REPOSITORY / "E2ENetSegmentation.json").read_text(encoding="utf-8"))
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert set(entry) <= {
        "$schema",
        "category",
        "scm_url",
        "scm_revision",
        "scm_type",
        "build_dependencies",
        "build_subdirectory",
        "enabled",
        "tier",
    }
    assert 1 <= entry["tier"] <= 5


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_icons():
    for folder in (REPOSITORY, MODULE):
        assert png_size(folder / "Resources/Icons/E2ENetSegmentation.png") == (128, 128)
    assert png_size(MODULE / "Resources/Icons/MNI152Head.png") == (260, 280)


def test_sample_is_the_one_that_is_registered():
    from E2ENetSegmentationLib.mrml import samples

    data = (REPOSITORY / "Resources" / "Samples" / samples.HEAD_FILE).read_bytes()
    assert hashlib.sha256(data).hexdigest() == samples.HEAD_SHA256


def test_terminology_is_loaded_by_slicer(mrml):
    import slicer

    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    path = REPOSITORY / "Resources/Terminology/SegmentationCategoryTypeModifier-E2ENet.json"
    name = logic.LoadTerminologyFromFile(str(path))
    assert name == "Segmentation category and type - E2ENet models"
    category, kind = slicer.vtkSlicerTerminologyCategory(), slicer.vtkSlicerTerminologyType()
    assert logic.GetNthCategoryInTerminology(name, 0, category)
    assert logic.GetNthTypeInTerminologyCategory(name, category, 0, kind)
    assert kind.GetCodeMeaning() == "Hippocampus"


def imports(path):
    """Names of the modules a file imports, in full."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: one style of imports, by full names"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nothing_heavy_is_imported_in_slicer():
    beside = {"fetch.py"}  # a program of its own: nothing imports it, and it runs in a child
    assert not any("E2ENetSegmentationLib.models.fetch" in imports(path) for path in LIB)
    for path in [SCRIPT, *(path for path in LIB if path.name not in beside)]:
        found = {name.split(".")[0] for name in imports(path)}
        assert not found & {"torch", "monai", "SimpleITK", "e2enet", "matplotlib"}, path.name
        if path.name != "host.py":
            assert not found & {"qt", "ctk"}, path.name


ROOMS = ("engine", "mrml", "ui", "models", "segment", "training", "explain", "advanced")  # upwards
NEIGHBOURS = {("explain", "segment"), ("explain", "training")}  # tabs that need not know each other


def test_rooms_know_only_what_lies_below_them():
    """And modules inside a room are no circle: each can be put after what it imports."""
    root = MODULE / "E2ENetSegmentationLib"
    modules = {".".join(p.relative_to(MODULE).with_suffix("").parts): p for p in LIB}
    needs = {name: set(imports(path)) & set(modules) for name, path in modules.items()}
    for name, path in modules.items():
        room = path.relative_to(root).parts[0]
        for needed in needs[name]:
            other = modules[needed].relative_to(root).parts[0]
            if room in ROOMS and other in ROOMS:
                assert ROOMS.index(other) <= ROOMS.index(room), f"{name} imports {needed}"
                assert (room, other) not in NEIGHBOURS, f"{name} imports {needed}"
            elif room in ROOMS:
                assert other in ("i18n.py", "refusal.py", "words.py", "core.py"), (
                    f"{name} imports {needed}"
                )
    while needs:
        free = {name for name, found in needs.items() if not found & set(needs)}
        assert free, f"a circle of {sorted(needs)}"
        needs = {name: found for name, found in needs.items() if name not in free}


def test_every_room_is_a_package():
    folders = {path.parent for path in LIB}
    assert {folder.name for folder in folders} == {"E2ENetSegmentationLib", *ROOMS, "python"}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    assert all(len(list(folder.glob("*.py"))) <= 12 for folder in folders)


def test_files_stay_short():
    for path in [SCRIPT, *LIB]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path.name


def test_every_bound_widget_has_its_parameter():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    node = next(
        n
        for n in tree.body
        if isinstance(n, ast.ClassDef) and n.name == "E2ENetSegmentationParameterNode"
    )
    known = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
    bound = set()
    for path in (MODULE / "Resources" / "UI").glob("*.ui"):
        for entry in ET.parse(path).iter("property"):
            if entry.get("name") == "SlicerParameterName":
                bound.add(entry[0].text)
    assert bound <= known
    assert {"inputVolume", "outputSegmentation", "roi"} <= bound


def test_ui_files_give_every_node_selector_the_scene():
    for path in (MODULE / "Resources" / "UI").glob("*.ui"):
        root = ET.parse(path).getroot()
        selectors = {w.get("name") for w in root.iter("widget") if "NodeComboBox" in w.get("class")}
        receivers = {c.findtext("receiver") for c in root.iter("connection")}
        assert selectors == receivers, path.name
