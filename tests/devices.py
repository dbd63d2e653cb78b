"""The devices that this machine has: what every device must do is tested on each."""

import torch

DEVICES = ("cpu", *(["cuda"] if torch.cuda.is_available() else []))
