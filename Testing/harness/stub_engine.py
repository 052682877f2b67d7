"""An engine that fails on demand: `python stub_engine.py VERB … `.

Only for what the real engine, which all other tests run, does not do when it is told to: die of an
error of its own, lack a package, say that it was cancelled, lose its result, or give one that does
not fit the volume or the model. Which of these stands in $E2ENET_STUB.
"""

from __future__ import annotations

import json
import os
import sys


def say(**event) -> None:
    print(json.dumps(event), flush=True)


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> int:
    mode = os.environ["E2ENET_STUB"]
    say(event="progress", stage="inference", done=1, total=4, eta_s=3.2)
    print("not an event {", flush=True)
    if mode == "crash":
        print("Traceback (most recent call last): boom", file=sys.stderr)
        return 1
    if mode == "lacking":
        print("ModuleNotFoundError: No module named 'safetensors'", file=sys.stderr)
        return 1
    if mode == "cancelled":
        return 130
    import SimpleITK as sitk

    image = sitk.ReadImage(sys.argv[2])
    result = sitk.Cast(image * 0, sitk.sitkUInt8)
    if mode == "othergrid":
        result.SetOrigin([coordinate + 100 for coordinate in image.GetOrigin()])
    if mode == "otherlabel":
        result += 7
    if mode != "nothing":
        sitk.WriteImage(result, option("--output"), True)
    say(event="result", output=option("--output"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
