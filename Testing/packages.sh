#!/bin/sh
# The packages, walked through as a newcomer does: builds the source distribution and, from it, the
# wheel, installs the wheel into a fresh environment of each Python, and segments with it there.
#
#     Testing/packages.sh python3.10 python3.11 python3.12 python3.13
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- python3

"$1" -m venv "$work/build"
"$work/build/bin/pip" install --quiet --disable-pip-version-check build
# From a copy: building leaves files beside the sources.
mkdir -p "$work/clone/Resources"
cp -R "$root/engine" "$work/clone/engine"
cp -R "$root/Resources/Models" "$work/clone/Resources/Models"
"$work/build/bin/python" -m build --outdir "$work/dist" "$work/clone/engine" >"$work/build.log" 2>&1 ||
    { tail -30 "$work/build.log"; exit 1; }
ls -l "$work/dist"

for python in "$@"; do
    environment="$work/$(basename "$python")-$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')"
    "$python" -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check "$work"/dist/*.whl
    (
        cd "$environment"
        E2ENET_CACHE="$environment/cache" ./bin/e2enet segment \
            "$root/Resources/Samples/MNI152_T1_1mm.nii.gz" \
            --model hippocampus-mr --device cpu --output out.nii.gz >segment.log 2>&1 ||
            { tail -20 segment.log; exit 1; }
        [ -s out.nii.gz ] && ./bin/python --version && cat out.volumes.csv
    )
done
