"""CAMUS (Leclerc et al., IEEE TMI 2019): 2D echocardiography at end-diastole and end-systole."""

from __future__ import annotations

from pathlib import Path

from e2enet.data.datasets.importing.found import Found, FoundCase, Image, files, folders

_LABELS = {"background": 0, "left ventricle": 1, "myocardium": 2, "left atrium": 3}


def read_camus(folder: Path) -> Found:
    """Patients' folders with `PATIENT_VIEW_PHASE` and `…_gt` as MHD or NIfTI, a case an image.

    The folder is as downloaded: with training and testing, or database_nifti, or patients itself.
    """
    roots = [folder, folder / "training", folder / "testing", folder / "database_nifti"]
    cases = []
    for root in roots:
        for patient in folders(root):
            for view in ("2CH", "4CH"):
                for phase in ("ED", "ES"):
                    name = f"{patient.name}_{view}_{phase}"
                    for ending in (".nii.gz", ".mhd"):
                        for image in files(patient, f"{name}{ending}"):
                            truth = image.with_name(f"{name}_gt{ending}")
                            label = Image(truth) if truth.is_file() else None
                            cases.append(FoundCase(name, (Image(image),), label, label is None))
    return Found(("ultrasound",), dict(_LABELS), cases)
