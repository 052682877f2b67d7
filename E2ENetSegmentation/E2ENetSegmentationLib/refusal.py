"""The one exception that is meant for a person: its text is a whole sentence."""


class Refused(Exception):
    """Something cannot be done; the panel shows the text as it is.

    Args:
        message: One sentence that names the thing and says what is wrong.
        help: What would help, also a sentence.
        code: The engine's stable identifier, where the refusal came from there.
    """

    def __init__(self, message: str, help: str = "", code: str = "") -> None:
        super().__init__(" ".join(part for part in (message.strip(), help.strip()) if part))
        self.code = code


class Cancelled(Exception):
    """The person ended it; nothing is wrong."""
