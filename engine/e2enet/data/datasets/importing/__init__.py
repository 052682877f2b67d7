"""Other people's folders as datasets in nnU-Net's raw layout: `e2enet dataset import`."""
