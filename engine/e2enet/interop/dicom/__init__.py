"""DICOM SEG: segmentations for archives and viewers of the hospital."""
