#!/bin/sh
# The packages, walked through as a newcomer does: builds the source distribution and, from it, the
# wheel, installs the wheel into a fresh environment of each Python, segments with it there, and
# resolves every extra. Resolving PyTorch downloads it, with its GPU packages unless
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS leads to a build without; EXTRAS chooses.
#
#     Testing/packages.sh python3.11
#     EXTRAS="dicom cluster serve docs lint" Testing/packages.sh python3.10 python3.12 python3.13
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
    listed='from importlib.metadata import metadata; print(*metadata("e2enet").get_all("Provides-Extra"))'
    for extra in ${EXTRAS-$("$environment/bin/python" -c "$listed")}; do
        "$environment/bin/pip" install --dry-run --disable-pip-version-check \
            -c "$root/engine/constraints.txt" "$(ls "$work"/dist/*.whl)[$extra]" >"$work/resolved" 2>&1 ||
            { tail -5 "$work/resolved"; exit 1; }
        wanted=$(grep '^Would install' "$work/resolved" || true)
        case $wanted in *torchvision*) echo "$extra brings torchvision"; exit 1 ;; esac
        echo "$extra: ${wanted:-all there already}"
    done
done
