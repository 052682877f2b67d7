"""DICOM series: found in folders and zips, chosen, sorted in space and checked for gaps."""
