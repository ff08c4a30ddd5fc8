"""The bounds within which a picture of one modality may be changed, each with its clinical reason.

Presets are data. The tensor operations that obey them stand in `strategies/inputs/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Largest change per transform; 0 or False switches a transform off.

    `flip_horizontal`, `flip_vertical`, `quarter_turns` are allowed or not. `rotate_deg` is the largest angle either
    way, `translate` a share of the image side, `zoom` a share of the scale either way, `shear_deg` an angle.
    `brightness` is added (images lie in [0, 1]), `contrast`, `saturation` and `gamma` are shares either way of 1,
    `hue` a share of the colour circle, `noise` a standard deviation, `blur_px` a standard deviation in pixels at
    224 px. `reasons` says, per transform, why the bound stands where it does.
    """

    name: str
    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotate_deg: float = 0.0
    translate: float = 0.0
    zoom: float = 0.0
    shear_deg: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    blur_px: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)


DERMOSCOPY = Preset(
    name="dermoscopy",
    flip_horizontal=True,
    flip_vertical=True,
    quarter_turns=True,
    rotate_deg=180.0,
    translate=0.06,
    zoom=0.12,
    brightness=0.06,
    contrast=0.12,
    saturation=0.10,
    hue=0.015,
    gamma=0.10,
    reasons={
        "flip_horizontal": "the dermatoscope has no up or left; a mirrored lesion keeps asymmetry, border and colours",
        "flip_vertical": "as for the horizontal flip",
        "quarter_turns": "the camera may be held at any angle to the skin",
        "rotate_deg": "any angle is a real view; corners are filled by reflection, not black",
        "translate": "small, so that the border of a large lesion is not cut off",
        "zoom": "small, because diameter is a criterion (the D of ABCD)",
        "shear_deg": "off: a shear makes a symmetric lesion asymmetric, which is a sign of melanoma",
        "brightness": "within the difference between two exposures of one lesion",
        "contrast": "within the difference between two dermatoscopes",
        "saturation": "small: the number of colours is a criterion (the C of ABCD)",
        "hue": "very small: blue-white veil and red vessels are told apart by hue",
        "gamma": "display and sensor curves",
        "noise": "off: 8-bit JPEG sources carry their own",
        "blur_px": "off: pigment network and border sharpness are criteria",
    },
)

CHEST = Preset(
    name="chest",
    rotate_deg=7.0,
    translate=0.05,
    zoom=0.08,
    brightness=0.06,
    contrast=0.15,
    gamma=0.15,
    noise=0.01,
    reasons={
        "flip_horizontal": "off unless asked: it moves the heart to the right (dextrocardia) and the markers",
        "flip_vertical": "off: no patient hangs upside down",
        "rotate_deg": "small tilts of a patient at the detector",
        "translate": "positioning; more would cut the costophrenic angles, where effusions lie",
        "zoom": "distance and build; more would change the cardiothoracic ratio's visible margins",
        "shear_deg": "off: it changes the heart-to-thorax ratio",
        "brightness": "exposure after the detector's own normalisation",
        "contrast": "window settings between vendors",
        "gamma": "look-up tables between vendors",
        "noise": "quantum noise at low dose; more would hide interstitial markings",
        "blur_px": "off: a pneumothorax line is one or two pixels wide",
    },
)

PLAIN = Preset(name="none", reasons={"all": "no transform is known to be safe for this modality; name one that is"})

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (DERMOSCOPY, CHEST, PLAIN)}
