"""A camera that other programs (video calls, OBS) can choose: pyvirtualcam stays behind this file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import MissingDependencyError


class VirtualCamera:
    """Shows frames to other programs. Needs the extra ``virtual-camera``, and a device of the operating system."""

    def __init__(self, fps: float) -> None:
        """Raises MissingDependencyError where pyvirtualcam is not installed."""
        try:
            import pyvirtualcam
        except ImportError as error:
            raise MissingDependencyError(
                f"The virtual camera needs pyvirtualcam, which cannot be loaded ({error}). Install it: "
                "pip install pyvirtualcam."
            ) from None
        self._module, self._fps = pyvirtualcam, fps
        self._device: Any = None

    def open(self, side: int) -> str:
        """For frames of ``side`` x ``side`` pixels; gives the device's name, by which other programs know it.

        Raises MissingDependencyError where the system has no such device.
        """
        try:
            self._device = self._module.Camera(width=side, height=side, fps=self._fps)
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise MissingDependencyError(
                f"This system has no virtual camera ({reason}). On Linux load v4l2loopback "
                "(sudo modprobe v4l2loopback exclusive_caps=1); on Windows and macOS install OBS Studio and start its "
                "virtual camera once."
            ) from None
        return str(self._device.device)

    def show(self, frame: np.ndarray) -> None:
        """uint8 RGB (S, S, 3)."""
        self._device.send(np.ascontiguousarray(frame))

    def close(self) -> None:
        """The device goes back to the system."""
        if self._device is not None:
            self._device.close()
