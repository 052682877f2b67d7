"""`tr` of Slicer, or the text itself where only the MRML core is there (tests, scripts)."""

try:
    from slicer.i18n import tr
except ImportError:

    def tr(text: str) -> str:
        return text


__all__ = ["tr"]
