"""Makes the locator's template from the sample head: python template.py [OUTPUT].

Smoothed by a Gaussian of 2 mm full width at half maximum, every second voxel kept (x = 0 falls on
one, so that the template is as symmetric as the head), cut to the brain and about 6 mm round it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[3]
HEAD = REPOSITORY / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"
TEMPLATE = REPOSITORY / "Resources" / "Models" / "hippocampus-mr" / "locator" / "template.nii.gz"


def make_template(head: sitk.Image) -> sitk.Image:
    """The 2 mm template of the 1 mm MNI152 head, 8 bit."""
    smooth = sitk.DiscreteGaussian(sitk.Cast(head, sitk.sitkFloat32), variance=0.72)
    return sitk.Cast(sitk.Round(smooth[20:177:2, 21:214:2, 0:162:2]), sitk.sitkUInt8)


if __name__ == "__main__":
    output = sys.argv[1] if len(sys.argv) > 1 else str(TEMPLATE)
    sitk.WriteImage(make_template(sitk.ReadImage(str(HEAD))), output, True)
