"""What a segment is called, and its codes as Slicer stores them."""

TERMINOLOGY_CONTEXT = "Segmentation category and type - DICOM master list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"


def segmentNames(labels, standardNames: bool) -> dict:
    """Value -> the bundle's name, or the terminology's ("Hippocampus, left") where it has one.

    Parts of one structure share its code; what tells them apart in the bundle's names is added
    ("Hippocampus, left, anterior"), so that no two segments have the same name.
    """
    names = {label.value: _standardName(label) if standardNames else label.name for label in labels}
    shared = {name for name in names.values() if list(names.values()).count(name) > 1}
    for label in labels:
        name = names[label.value]
        if name in shared and name != label.name:
            known = name.lower().replace(",", " ").split()
            part = [word for word in label.name.lower().split() if word not in known]
            names[label.value] = ", ".join([name, " ".join(part)]) if part else label.name
    return names


def _standardName(label) -> str:
    terms = label.terminology or {}
    meaning = (terms.get("type") or {}).get("meaning")
    if not meaning:
        return label.name
    modifier = (terms.get("modifier") or {}).get("meaning")
    return f"{meaning}, {modifier.lower()}" if modifier else meaning


def terminologyEntry(label) -> str:
    """The label's codes as Slicer stores them in a segment's terminology tag."""

    def triple(codes) -> str:
        codes = codes or {}
        return "^".join(str(codes.get(key, "")) for key in ("scheme", "code", "meaning"))

    terms = label.terminology
    return "~".join(
        [
            TERMINOLOGY_CONTEXT,
            triple(terms.get("category")),
            triple(terms.get("type")),
            triple(terms.get("modifier")),
            REGION_CONTEXT,
            triple(terms.get("region")),
            triple(terms.get("regionModifier")),
        ]
    )


def readTerminology(entry: str) -> dict:
    """The codes of a segment's terminology tag; empty for one without."""
    names = ("category", "type", "modifier", None, "region", "regionModifier")
    terms = {}
    for name, text in zip(names, entry.split("~")[1:], strict=False):
        scheme, code, meaning, *_more = [*text.split("^"), "", "", ""]
        if name and code:
            terms[name] = {"scheme": scheme, "code": code, "meaning": meaning}
    return terms
