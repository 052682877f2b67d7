"""An engine that keeps the contract and computes nothing: `python stub_engine.py VERB … `.

For what the real one does not do on demand: hang, die, run out of disk, talk nonsense. What it does
stands in $E2ENET_STUB; by default it thresholds the first input at 200 (label 1) and 400 (label 2).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def say(**event) -> None:
    print(json.dumps(event), flush=True)


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> int:
    mode = os.environ.get("E2ENET_STUB", "")
    say(event="progress", stage="inference", done=1, total=4, eta_s=3.2)
    if mode == "hang":
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)", "e2enet-stub-worker"]
        )
        time.sleep(600)
    if mode == "refuse":
        say(event="error", code="bad-input", message="The image is odd.", help="Take another.")
        return 2
    if mode == "crash":
        print("Traceback (most recent call last): boom", file=sys.stderr)
        return 1
    if mode == "killed":
        os.kill(os.getpid(), 9)
    if mode == "lacking":
        print("ModuleNotFoundError: No module named 'safetensors'", file=sys.stderr)
        return 1
    if mode == "cancelled":
        return 130
    import SimpleITK as sitk

    image = sitk.ReadImage(sys.argv[2])
    array = sitk.GetArrayFromImage(image)
    labels = (array > 200).astype("uint8") + (array > 400)
    result = sitk.GetImageFromArray(labels.astype("uint8"))
    if mode != "othergrid":
        result.CopyInformation(image)
    if mode == "otherlabel":
        result = result * 0 + 7
        result.CopyInformation(image)
    print("not an event {", flush=True)
    if mode != "nothing":
        sitk.WriteImage(result, option("--output"), True)
    say(event="warning", code="note", message="Only a stub.")
    say(event="progress", stage="inference", done=4, total=4, eta_s=0.0)
    say(event="result", output=option("--output"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
