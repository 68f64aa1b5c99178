"""Whether a GPU is well, as far as its driver can tell without running anything on it.

Does not: run anything on the device (see ``oracle.health``), or decide what becomes of it.
"""

from __future__ import annotations

from harness.devices import Gpu
from harness.errors import DeviceFault


class Vitals:
    """One GPU's error count, compared with what it was when the device was taken into use.

    The count runs since the driver was loaded, so that a healthy device can have one from
    long ago; only what is added in our time tells against it. A device that is no GPU is
    always well.
    """

    def __init__(self, gpu: Gpu | None) -> None:
        self._gpu = gpu
        self._before = 0

    def begin(self) -> None:
        """Take down the count to compare with.

        Raises:
            DeviceFault: the GPU does not answer its driver.
        """
        if self._gpu is not None:
            self._before = uncorrected_errors(self._gpu)

    def check(self) -> None:
        """Ask again.

        Raises:
            DeviceFault: the GPU does not answer its driver, or has had errors in its memory
                that could not be corrected, so that nothing it computed since can be believed.
        """
        if self._gpu is None:
            return
        added = uncorrected_errors(self._gpu) - self._before
        if added > 0:
            raise DeviceFault(f"{added} uncorrected ECC errors since the device was taken into use")


def uncorrected_errors(gpu: Gpu) -> int:
    """Uncorrected ECC errors since the driver was loaded; 0 where the GPU counts none.

    Raises:
        DeviceFault: the GPU does not answer its driver.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        pynvml.nvmlDeviceGetMemoryInfo(handle)  # a GPU that was lost still has a handle
        try:
            return int(
                pynvml.nvmlDeviceGetTotalEccErrors(
                    handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
                )
            )
        except pynvml.NVMLError_NotSupported:
            return 0
    except pynvml.NVMLError as error:
        raise DeviceFault(f"the driver cannot reach it: {error}") from error
