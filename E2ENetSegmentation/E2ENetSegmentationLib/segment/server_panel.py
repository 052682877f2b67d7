"""What the Segment tab says and asks before another computer segments."""

from E2ENetSegmentationLib.engine import server
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.ui.panel import breakable
from E2ENetSegmentationLib.ui.run_panel import RunPanel


class ServerPanel(RunPanel):
    """A tab with serverCheckBox, serverLabel and deviceComboBox; see `RunPanel`."""

    def _connectServer(self) -> None:
        box = self.ui.serverCheckBox
        box.checked = self.host.setting(server.USED) == "1"
        box.connect("toggled(bool)", self.onServer)

    def onServer(self, on: bool) -> None:
        self.host.setSetting(server.USED, int(on))
        self.update()

    def _showServer(self) -> None:
        """Offer the server that was named, and say what it is sent."""
        ui, named = self.ui, server.named(self.host)
        ui.serverCheckBox.visible = named is not None
        ui.serverLabel.visible = self._server is not None
        if named is not None:
            ui.serverCheckBox.toolTip = _("{name} computes.").format(name=named.name)
            ui.serverLabel.text = breakable(_whatIsSent(named))
        ui.deviceComboBox.enabled = self._server is None

    @property
    def _server(self):
        """The server that computes, or None for this computer."""
        return server.named(self.host) if self.ui.serverCheckBox.checked else None

    def _agree(self) -> None:
        """Nothing is sent to a server that a person has not said yes to."""
        named = self._server
        if named is None or self.host.setting(server.AGREED) == named.address:
            return
        question = _("{what}\n\nSend it, now and from now on?").format(what=_whatIsSent(named))
        if not self.host.confirm(question):
            raise Refused(_("Nothing was sent."))
        self.host.setSetting(server.AGREED, named.address)


def _whatIsSent(server) -> str:
    return _(
        "Sent to {name}: the voxels and the geometry of the volume. Not sent: names, dates "
        "or anything else of the patient, but the voxels of a head show a face. They are "
        "deleted there as soon as the result is here."
    ).format(name=server.name)
