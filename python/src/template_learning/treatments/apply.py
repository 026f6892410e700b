"""A tilt series made into a tomogram in the way that settings say, as a facility would."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.reconstruction.alignment_errors import misalign_at_random
from template_learning.reconstruction.back_projection import back_project, bin_images, resample_images
from template_learning.reconstruction.contrast_transfer import correct_contrast_transfer
from template_learning.reconstruction.dose_weighting import weight_by_dose
from template_learning.reconstruction.sirt import sirt
from template_learning.settings import TreatmentSettings
from template_learning.simulation.optics import Lens
from template_learning.treatments import denoising, field, grey_values
from template_learning.treatments.deconvolution import WARP_HIGH_PASS_ANGSTROM, deconvolve


@dataclass(frozen=True, eq=False)
class TiltSeries:
    """Aligned tilt images and what is known of how they were taken.

    ``images`` [tilt, y, x], protein dark, the tilt axis along y; ``dose_e_per_angstrom2`` (T,) what the specimen had received
    by the end of each image; ``lens`` with the defocus (negative = underfocus).
    """

    images: NDArray[Any]
    angles_deg: NDArray[np.float64]
    pixel_angstrom: float
    lens: Lens
    amplitude_contrast: float
    dose_e_per_angstrom2: NDArray[np.float64]


def needs_optics(treatment: TreatmentSettings) -> bool:
    """Whether the treatment asks how the series was taken: its defocus, or its doses."""
    return treatment.ctf_correction != "none" or treatment.deconvolution != "none" or treatment.dose_weighting


def treated_tomogram(
    series: TiltSeries,
    shape: tuple[int, int, int],
    width: int,
    voxel_size_angstrom: float,
    treatment: TreatmentSettings,
    generator: np.random.Generator,
) -> NDArray[Any]:
    """The tomogram of a series, reconstructed and treated.

    Parameters
    ----------
    series : TiltSeries
        The images.
    shape : (int, int, int)
        [z, y, x] voxels of the reconstruction, which shares the images' centre.
    width : int
        Pixels along x that the images get at the tomogram's voxel size.
    voxel_size_angstrom : float
        Å.
    treatment : TreatmentSettings
        What is done.
    generator : numpy.random.Generator
        Draws alignment errors.

    Returns
    -------
    (z, y, x) array
        float32, or what ``treatment.grey_values`` says; larger than ``shape`` by the border, with the same centre.
    """
    volume = reconstructed(series, shape, width, voxel_size_angstrom, treatment, generator)
    return treated_volume(volume, voxel_size_angstrom, series.lens, series.amplitude_contrast, treatment)


def reconstructed(
    series: TiltSeries,
    shape: tuple[int, int, int],
    width: int,
    voxel_size_angstrom: float,
    treatment: TreatmentSettings,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """The tomogram [z, y, x] of a series by what ``treatment`` says of the series and of back-projection; parameters as above."""
    kept = kept_views(series.angles_deg, treatment)
    images, angles = series.images[kept], series.angles_deg[kept]
    pixel = series.pixel_angstrom
    if treatment.shift_error_angstrom or treatment.rotation_error_deg:
        images = misalign_at_random(images, pixel, treatment.shift_error_angstrom, treatment.rotation_error_deg, generator)
    assumed = assumed_lens(series.lens, treatment)
    images = correct_contrast_transfer(
        images,
        angles,
        pixel,
        assumed,
        series.amplitude_contrast,
        treatment.ctf_correction,
        signal_to_noise=treatment.wiener_signal_to_noise,
        strip_angstrom=treatment.ctf_strip_angstrom,
    )
    if treatment.dose_weighting:
        images = weight_by_dose(images, pixel, series.dose_e_per_angstrom2[kept], series.lens.voltage_kv)
    binned = _binned(images, pixel, (shape[1], width), voxel_size_angstrom, treatment)
    if treatment.method == "sirt":
        return sirt(binned, angles, shape, treatment.iterations)
    return back_project(binned, angles, shape, radial_filter=treatment.radial_filter, iterations=treatment.iterations)


def kept_views(angles_deg: NDArray[np.float64], treatment: TreatmentSettings) -> NDArray[np.intp]:
    """Which views take part, in the series' order: those within the bounds, and of these every n-th by angle."""
    within = (angles_deg >= treatment.lowest_tilt_deg) & (angles_deg <= treatment.highest_tilt_deg)
    by_angle = np.flatnonzero(within)[np.argsort(angles_deg[within], kind="stable")]
    return np.sort(by_angle[:: treatment.every_nth_tilt])


def assumed_lens(lens: Lens, treatment: TreatmentSettings) -> Lens:
    """The microscope as whoever corrects for it believes it to be."""
    return replace(lens, defocus_angstrom=lens.defocus_angstrom + treatment.defocus_error_um * 1e4)


def _binned(
    images: NDArray[np.floating], pixel: float, shape: tuple[int, int], voxel: float, treatment: TreatmentSettings
) -> NDArray[np.float32]:
    if treatment.binning == "plain":
        factor = max(1, math.floor(voxel / pixel + 1e-3))
        images, pixel = bin_images(images, factor), pixel * factor
        if abs(pixel / voxel - 1) < 1e-3 and images.shape[1:] == shape:
            return np.asarray(images, dtype=np.float32)
    return resample_images(images, pixel, shape, voxel)


def treated_volume(
    volume: NDArray[Any], voxel_size_angstrom: float, lens: Lens, amplitude_contrast: float, treatment: TreatmentSettings
) -> NDArray[Any]:
    """A tomogram [z, y, x] after what ``treatment`` says of tomograms, in the order of its settings.

    ``lens`` and ``amplitude_contrast`` are what deconvolution needs; the result is float32, or as ``treatment.grey_values`` says.
    """
    grey = np.asarray(volume, dtype=np.float32)
    if treatment.deconvolution != "none":
        grey = deconvolve(
            grey,
            voxel_size_angstrom,
            assumed_lens(lens, treatment),
            amplitude_contrast,
            strength=treatment.deconvolution_strength,
            falloff=treatment.deconvolution_falloff,
            high_pass_angstrom=WARP_HIGH_PASS_ANGSTROM if treatment.deconvolution == "warp" else None,
            phases_flipped=treatment.ctf_correction != "none",
        )
    if treatment.gaussian_voxels:
        grey = denoising.gaussian(grey, treatment.gaussian_voxels)
    if treatment.median_voxels > 1:
        grey = denoising.median(grey, treatment.median_voxels)
    if treatment.total_variation_sigma:
        grey = denoising.total_variation(grey, treatment.total_variation_sigma)
    if treatment.diffusion_iterations:
        grey = denoising.anisotropic_diffusion(grey, treatment.diffusion_iterations)
    if treatment.non_local_means_sigma:
        grey = denoising.non_local_means(grey, treatment.non_local_means_sigma)
    if treatment.slope_sigma:
        grey = grey_values.add_slope(grey, treatment.slope_sigma)
    if treatment.cut_percent:
        grey = grey_values.cut_percentiles(grey, treatment.cut_percent)
    if treatment.border_voxels:
        grey = field.add_border(grey, treatment.border_voxels, treatment.border)
    if treatment.grey_values == "uint8":
        return grey_values.as_bytes(grey)
    return grey_values.as_words(grey) if treatment.grey_values == "int16" else grey
