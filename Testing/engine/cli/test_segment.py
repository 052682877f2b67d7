"""`e2enet segment` as a child process and in this one: events, exit statuses, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
from typer.testing import CliRunner


def write(path: Path, array: np.ndarray | None = None) -> Path:
    if array is None:
        array = np.random.default_rng(0).normal(100, 20, (12, 18, 16))
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.float32)), os.fspath(path))
    return path


def run(*arguments) -> tuple[int, list[dict]]:
    """Exit status and events."""
    outcome = CliRunner().invoke(app, ["segment", *map(str, arguments), "--progress", "json"])
    return outcome.exit_code, [json.loads(line) for line in outcome.stdout.splitlines()]


def child(*arguments, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "e2enet", "segment", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def test_the_result_event_says_everything(tmp_path, tiny_bundle):
    image = write(tmp_path / "case.nii.gz")
    output = tmp_path / "out.nii.gz"
    status, events = run(
        image, "--model", tiny_bundle, "--output", output, "--save-probabilities", "--tta"
    )
    assert status == 0
    result = events[-1]
    assert result["event"] == "result"
    assert Path(result["output"]) == output
    for key in ("volumes", "manifest"):
        assert Path(result[key]).is_file()
    assert [Path(path).is_file() for path in result["probabilities"].values()] == [True, True]
    for label in result["labels"]:
        assert {"value", "name", "color", "terminology", "volume_ml"} <= set(label)
    stages = [event["stage"] for event in events if event["event"] == "progress"]
    assert list(dict.fromkeys(stages)) == ["read", "inference", "write"]
    devices = [event["device"] for event in events if event.get("name") == "device"]
    assert devices == [json.loads(Path(result["manifest"]).read_text("utf-8"))["device"]["name"]]


def test_a_person_reads_a_table(tmp_path, tiny_bundle):
    image = write(tmp_path / "case.nii.gz")
    outcome = CliRunner().invoke(
        app,
        ["segment", str(image), "--model", str(tiny_bundle), "--output", str(tmp_path / "o.nrrd")],
    )
    assert outcome.exit_code == 0
    assert "sphere" in outcome.stdout
    assert "Volume (mL)" in outcome.stdout


def test_a_folder_of_cases_with_a_bad_one(tmp_path, tiny_bundle):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a_0000.nii.gz")
    (folder / "b_0000.nii.gz").write_bytes(b"nothing")
    write(folder / "c.nrrd")
    output = tmp_path / "out"
    status, events = run(folder, "--model", tiny_bundle, "--output", output)
    assert status == 2
    names = sorted(path.name for path in output.iterdir() if path.suffix == ".gz")
    assert names == ["a.nii.gz", "c.nii.gz"]
    result = next(event for event in events if event["event"] == "result")
    assert [case["case"] for case in result["cases"]] == ["a", "c"]
    assert [case["case"] for case in result["failed"]] == ["b"]
    warnings = [event for event in events if event["event"] == "warning"]
    assert warnings[0]["code"] == "case-failed"
    assert "b_0000.nii.gz" in warnings[0]["message"]
    assert events[-1]["event"] == "error"
    assert events[-1]["code"] == "cases-failed"
    assert "1 of 3 cases" in events[-1]["message"]


def test_a_person_reads_every_failure_at_the_end(tmp_path, tiny_bundle):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "good.nii.gz")
    for number in range(7):
        (folder / f"bad{number}.nii.gz").write_bytes(b"nothing")
    words = ["segment", str(folder), "--model", str(tiny_bundle), "--resume"]
    words += ["--output", str(tmp_path / "out")]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 2
    for number in range(7):
        assert f"Left out: bad{number}: " in outcome.stdout
    assert "7 of 8 cases could not be segmented." in " ".join(outcome.output.split())
    assert "done before" not in outcome.stdout
    assert "1 of these 1 were done before." in CliRunner().invoke(app, words).stdout


def test_a_folder_of_cases_for_two_channels(tmp_path, tiny_bundle):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a_0000.nii.gz")
    write(folder / "a_0001.nii.gz")
    status, events = run(folder, "--model", tiny_bundle, "--output", tmp_path / "out")
    assert status == 2
    failed = next(event for event in events if event["event"] == "result")["failed"]
    assert failed[0]["code"] == "channel-count"
    assert not (tmp_path / "out").exists()


def test_a_batch_may_not_write_among_its_inputs(tmp_path, tiny_bundle):
    write(tmp_path / "a.nii.gz")
    before = (tmp_path / "a.nii.gz").read_bytes()
    status, events = run(tmp_path, "--model", tiny_bundle, "--output", tmp_path)
    assert status == 2
    assert events[-1]["code"] == "output-is-input"
    assert (tmp_path / "a.nii.gz").read_bytes() == before


def test_a_negative_region_is_no_option(tmp_path, tiny_bundle):
    image = write(tmp_path / "case.nii.gz")
    output = tmp_path / "out.nii.gz"
    status, events = run(
        image, "--model", tiny_bundle, "--output", output, "--roi", "-5,-5,-5,8,8,8"
    )
    assert status == 0
    assert events[-1]["regions"][0]["size_mm"] == [9, 9, 9]


def test_one_image_is_nothing_to_resume(tmp_path, tiny_bundle):
    image = write(tmp_path / "case.nii.gz")
    options = ("--model", tiny_bundle, "--output", tmp_path / "o.nii.gz", "--resume")
    status, events = run(image, *options)
    assert (status, events[-1]["code"]) == (2, "resume-one-case")
    (tmp_path / "empty").mkdir()
    status, events = run(tmp_path / "empty", *options)
    assert (status, events[-1]["code"]) == (2, "no-images")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"--model": "no-such-model"}, "no-model"),
        ({"--device": "cuda:77"}, "no-device"),
        ({"--roi": "500,500,500,510,510,510"}, "roi-outside"),
        ({"--roi": "what"}, "bad-roi"),
        ({"--output": f"{'n' * 248}.nii.gz"}, "name-too-long"),
        ({"--output": "out.jpg"}, "output-format"),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path, tiny_bundle, change, code):
    image = write(tmp_path / "case.nii.gz")
    options = {"--model": tiny_bundle, "--output": tmp_path / "out.nii.gz", **change}
    status, events = run(image, *(item for pair in options.items() for item in pair))
    assert status == 2
    assert events[-1]["event"] == "error"
    assert events[-1]["code"] == code
    assert "Traceback" not in events[-1]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["case.nii.gz"]


def test_a_model_among_the_images(tmp_path, tiny_bundle):
    """As --model A B would be understood."""
    image = write(tmp_path / "case.nii.gz")
    options = ["--model", tiny_bundle, "--output", tmp_path / "out.nii.gz"]
    status, events = run(image, tiny_bundle, *options)
    assert (status, events[-1]["code"]) == (2, "no-image")
    assert f"--model {tiny_bundle} --model {tiny_bundle}" in events[-1]["help"]


def test_segment_imports_only_what_it_needs(tmp_path, tiny_bundle):
    """PyTorch and MONAI take seconds; nothing of training belongs here either."""
    image = write(tmp_path / "case.nii.gz")
    program = (
        "import sys\n"
        "sys.argv = ['e2enet', *sys.argv[1:]]\n"
        "from e2enet.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\n'.join(sorted(sys.modules)))\n"
    )
    arguments = [image, "--model", tiny_bundle, "--output", tmp_path / "out.nii.gz"]
    done = subprocess.run(
        [sys.executable, "-c", program, "segment", *map(str, arguments), "--progress", "json"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    modules = set(done.stdout.splitlines())
    assert "e2enet.inference.segmenter" in modules
    # Not SciPy, which Numba imports itself where it is installed.
    unwanted = ("torch", "monai", "matplotlib", "skimage", "ray", "highdicom", "PIL")
    assert not modules & set(unwanted)
    names = {"e2enet.training", "e2enet.training.run", "e2enet.training.run.presets"}  # of options
    rest = modules - names
    assert not [name for name in rest if name.startswith(("e2enet.training", "e2enet.interop"))]


def test_a_wrong_path_is_refused_before_torch_is_loaded(tmp_path, tiny_bundle):
    program = (
        "import sys\n"
        "from e2enet.inference import segment\n"
        "try:\n    segment(*sys.argv[1:])\n"
        "except Exception as error:\n    print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "none.nii.gz"), str(tiny_bundle)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert "none.nii.gz does not exist" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
def test_a_full_disk_is_one_sentence(tmp_path, tiny_bundle):
    """A limit on the size of files fails where a full disk would."""
    import resource

    image = write(tmp_path / "case.nii.gz")
    output = tmp_path / "out.nii"
    output.write_bytes(b"an older result")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    process = child(
        image, "--model", tiny_bundle, "--output", output, "--progress=json", preexec_fn=small_files
    )
    lines, errors = process.communicate()
    assert process.returncode == 2, errors
    assert json.loads(lines.splitlines()[-1])["code"] == "output-not-writable"
    assert output.read_bytes() == b"an older result"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case.nii.gz", "out.nii"]


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["models"]])
def test_help_needs_no_torch(arguments):
    program = (
        "import sys\n"
        "from e2enet.cli.app import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'SimpleITK'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_cancel_leaves_nothing(tmp_path, tiny_bundle, number):
    image = write(tmp_path / "case.nii.gz", np.random.default_rng(0).normal(size=(160, 160, 160)))
    output = tmp_path / "new" / "out.nii.gz"
    process = child(image, "--model", tiny_bundle, "--output", output, "--tta", "--progress=json")
    with process:
        for line in process.stdout:
            event = json.loads(line)
            if event.get("stage") == "inference" and event["done"] > 0:
                process.send_signal(number)
                break
        *_, last = process.stdout
        assert process.wait(60) == 130
    assert json.loads(last)["code"] == "cancelled"
    assert [path.name for path in tmp_path.iterdir()] == ["case.nii.gz"]
