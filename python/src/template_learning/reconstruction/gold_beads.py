"""Gold beads put on a tilt series that was taken without any."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.simulation.nuisances import GOLD_FREE_PATH_ANGSTROM, GOLD_VOLT
from template_learning.simulation.optics import Lens, transfer_function
from template_learning.simulation.physics import interaction_radian_per_volt_angstrom


def put_gold_beads(
    images: NDArray[np.floating],
    angles_deg: NDArray[np.float64],
    pixel_angstrom: float,
    lens: Lens,
    position_angstrom: NDArray[np.floating],
    radius_angstrom: float,
) -> NDArray[np.float32]:
    """Tilt images times what beads of gold let through: a wave that passed them, as the microscope shows it.

    Parameters
    ----------
    images : (T, y, x) array
        The tilt series; the tilt axis is y.
    angles_deg : (T,) array
        Tilt angles, degrees.
    pixel_angstrom : float
        Å.
    lens : Lens
        The microscope.
    position_angstrom : (N, 3) array
        x, y, z of the beads' centres from the volume's centre.
    radius_angstrom : float
        Å.

    Returns
    -------
    (T, y, x) array of float32
        The images with beads; noise in their shadow is scaled with the signal.
    """
    height, width = images.shape[1:]
    y, x = ((np.arange(count) - (count - 1) / 2) * pixel_angstrom for count in (height, width))
    transfer = transfer_function(lens, fft.fftfreq(width, pixel_angstrom)[None], fft.fftfreq(height, pixel_angstrom)[:, None])
    radian = interaction_radian_per_volt_angstrom(lens.voltage_kv) * GOLD_VOLT
    result = np.empty(images.shape, dtype=np.float32)
    for index, (image, angle) in enumerate(zip(images, np.deg2rad(angles_deg), strict=True)):
        path = np.zeros((height, width))
        for bead_x, bead_y, bead_z in position_angstrom:
            u = bead_x * np.cos(angle) + bead_z * np.sin(angle)
            square = (x - u)[None] ** 2 + (y - bead_y)[:, None] ** 2
            path += 2 * np.sqrt(np.clip(radius_angstrom**2 - square, 0, None))
        wave = np.exp((1j * radian - 1 / (2 * GOLD_FREE_PATH_ANGSTROM)) * path)
        result[index] = image * np.abs(fft.ifft2(fft.fft2(wave) * transfer)) ** 2
    return result
