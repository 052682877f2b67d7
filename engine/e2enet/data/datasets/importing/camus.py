"""CAMUS (Leclerc et al., IEEE TMI 2019): 2D echocardiography at end-diastole and end-systole."""

from __future__ import annotations

from pathlib import Path

from e2enet.data.datasets.importing.found import Found, FoundCase, Image, check_labels, folders
from e2enet.events import BadInput

_LABELS = {"background": 0, "left ventricle": 1, "myocardium": 2, "left atrium": 3}


def read_camus(folder: Path) -> Found:
    """Patients' folders with `PATIENT_VIEW_PHASE` and `…_gt` as MHD or NIfTI, a case an image.

    The folder is as downloaded: with training and testing, or database_nifti, or patients itself.
    Where no image has a `…_gt`, all are test cases.

    Raises:
        BadInput: an image without `…_gt` among others with one, a `…_gt` without its image.
    """
    roots = [folder, folder / "training", folder / "testing", folder / "database_nifti"]
    cases = []
    for root in roots:
        part = []
        for patient in folders(root):
            for view in ("2CH", "4CH"):
                for phase in ("ED", "ES"):
                    name = f"{patient.name}_{view}_{phase}"
                    for ending in (".nii.gz", ".mhd"):
                        image = patient / f"{name}{ending}"
                        truth = patient / f"{name}_gt{ending}"
                        if image.is_file():
                            label = Image(truth) if truth.is_file() else None
                            part.append(FoundCase(name, (Image(image),), label, label is None))
                        elif truth.is_file():
                            raise BadInput(
                                f"{truth} has no {image.name} beside it.",
                                help="Download the patient again.",
                                code="missing-file",
                            )
        check_labels(root, part)
        cases += part
    return Found(("ultrasound",), dict(_LABELS), cases)
