"""Store as DICOM: a real SEG by the real engine, beside its series; the database is a thin fake.

Its names, and what they do, were read in the sources of Slicer 5.10.0 and 5.12.3 and of their CTK
(dd4caeae and 5056664a), which agree in all of this:

- `slicer.dicomDatabase` is set by the module DICOM (DICOM.py, initializeDICOMDatabase); where
  Slicer is built without it, there is none. `isOpen` is a property of ctkDICOMDatabase.
- `fileForInstance(uid)` is invokable and gives a full path, or "" for what is not there.
- DICOMScalarVolumePlugin keeps "DICOM.instanceUIDs" on a volume, with blanks between; an instance
  that has no UID is called "Unknown".
- `ctkDICOMIndexer.addFile(database, path, copy)` is invokable and returns when the file is in, as
  does `waitForImportFinished()` (so DICOMProcesses.py calls them too). They wait in an event loop
  of their own, in which the panel's timer goes on: `storeDicom` of the fake host does the same.
"""

import os
from types import SimpleNamespace

import highdicom as hd
import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.mrml import segmentations, terminology
from harness.dicom import FakeDatabase, load
from harness.made import add_volume, phantom
from harness.tabs import SegmentTab


@pytest.fixture
def tab(scene, models, left_behind, tmp_path):
    tab = SegmentTab()
    tab.host.dicomDatabase = FakeDatabase(tmp_path / "database")
    yield tab
    tab.panel.cleanup()


@pytest.fixture
def volume(tab, scene, tmp_path, dicom_series):
    """A made MR series of oblique slices, loaded from the database."""
    array, _labels = phantom()
    rows = (0.8, 0.6, 0, 0, 0, -1)
    heights = [1.5 * i for i in range(len(array))]
    files = dicom_series(
        tmp_path / "series", array, heights=heights, rows=rows, modality="MR", patient="Ann"
    )
    return load(scene, tab.host.dicomDatabase, files, "Head")


def store(tab):
    tab.ui.dicomButton.click()
    tab.wait()


def labels_of(seg):
    return hd.seg.Segmentation.from_dataset(seg).get_volume(combine_segments=True).array


def test_a_result_is_stored_beside_its_series(tab, scene, volume, left_behind):
    tab.choose(volume)
    tab.segment()
    assert tab.ui.dicomButton.visible
    array = segmentations.exportLabels(tab.panel.result.segmentationNode, volume)[0]
    nodes = scene.GetNumberOfNodes()
    store(tab)
    assert tab.ui.statusLabel.text == "Stored beside Head in the DICOM database."
    (seg,) = tab.host.dicomDatabase.stored("SEG")
    assert (seg.PatientID, seg.FrameOfReferenceUID) == ("Ann", "1.2.3.9")
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["sphere", "cube"]
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {"AUTOMATIC"}
    assert len(seg.DeviceSerialNumber) == 16  # of the weights
    for value in (1, 2):
        assert (labels_of(seg) == value).sum() == (array == value).sum() > 0
    assert tab.usable
    assert [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLNode")][nodes:] == []
    assert left_behind() == []


def test_a_corrected_result_says_so(tab, volume):
    tab.choose(volume)
    tab.segment()
    node = tab.panel.result.segmentationNode
    identifier = segmentations.segmentIds(node.GetSegmentation())[-1]
    mine = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
    mine[:] = 0
    mine[3:5, 4:8, 5:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mine, node, identifier, volume)
    node.GetSegmentation().AddEmptySegment("", "by hand")
    store(tab)
    (seg,) = tab.host.dicomDatabase.stored("SEG")
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["sphere", "cube"]
    assert (labels_of(seg) == 2).sum() == 2 * 4 * 4


def test_not_offered_for_other_volumes(tab, scene):
    tab.choose(add_volume(scene))
    tab.segment()
    assert tab.ui.resultsWidget.visible
    assert not tab.ui.dicomButton.visible


def test_what_cannot_be_stored_is_said(tab, volume, left_behind):
    tab.choose(volume)
    tab.segment()
    database = tab.host.dicomDatabase
    tab.host.storeDicom = lambda path: None
    store(tab)
    assert "did not take the segmentation" in tab.ui.statusLabel.text
    assert tab.usable
    os.unlink(database.fileForInstance("1.2.3.4.7"))
    store(tab)
    assert "The DICOM files of Head are not in the DICOM database." in tab.ui.statusLabel.text
    assert database.stored("SEG") == []
    assert tab.usable
    assert left_behind() == []


def test_regions_are_exported_with_their_overlap(scene):
    volume = add_volume(scene)
    array = phantom()[1]
    codes = {"scheme": "SCT", "code": "85756007", "meaning": "Tissue"}
    terms = {"category": codes, "type": codes}
    labels = [
        SimpleNamespace(value=1, name="whole", color=(9, 9, 9), terminology=terms, values=(1, 2)),
        SimpleNamespace(value=2, name="core", color=(9, 9, 9), terminology=terms, values=(2,)),
    ]
    node = segmentations.importLabels(array, volume, labels, modelName="tiny", show3D=False)
    exported, entries = segmentations.exportLabels(node, volume)
    assert [entry["name"] for entry in entries] == ["whole", "core"]
    for entry, label in zip(entries, labels, strict=True):
        same = np.isin(exported, entry["values"]) == np.isin(array, label.values)
        assert same.all()
        assert entry["terminology"] == terms


def test_codes_survive_the_way_through_a_segment():
    class Label:
        terminology = {  # noqa: RUF012
            "category": {"scheme": "SCT", "code": "123037004", "meaning": "Anatomical Structure"},
            "type": {"scheme": "SCT", "code": "5366008", "meaning": "Hippocampus"},
            "modifier": {"scheme": "SCT", "code": "7771000", "meaning": "Left"},
        }

    entry = terminology.terminologyEntry(Label)
    assert terminology.readTerminology(entry) == Label.terminology
    assert terminology.readTerminology("") == {}
