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
    224 px. `cutmix` says whether a square of one picture may be pasted into another. Elastic warps are no transform of
    any preset: they bend the very outlines that a diagnosis rests on. `reasons` says, for every transform, why its
    bound stands where it does; the bounds are ours, `raresight audit STUDY --augment` measures them on your data.
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
    cutmix: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


DERMOSCOPY = Preset(
    name="dermoscopy",
    flip_horizontal=True,
    flip_vertical=True,
    quarter_turns=True,
    rotate_deg=15.0,
    translate=0.06,
    zoom=0.12,
    brightness=0.06,
    contrast=0.10,
    saturation=0.10,
    hue=0.01,
    gamma=0.10,
    reasons={
        "flip_horizontal": "the dermatoscope has no up or left; a mirrored lesion keeps asymmetry, border and colours",
        "flip_vertical": "as for the horizontal flip",
        "quarter_turns": "the camera may be held at any angle to the skin",
        "rotate_deg": "any angle is a real view, and quarter turns give the large ones; between them a larger angle "
        "fills the corners with mirror images of a large lesion (measured on HAM10000)",
        "translate": "small, so that the border of a large lesion is not cut off",
        "zoom": "small: diameter is a criterion (the D of ABCD), and a large lesion would leave the picture",
        "shear_deg": "off: no camera shears, and a round lesion becomes an oval one (measured on HAM10000)",
        "brightness": "within the difference between two exposures of one lesion",
        "contrast": "no further than two photographs of a lesion differ: more would add colours (the C of ABCD)",
        "saturation": "small: the number of colours is a criterion (the C of ABCD)",
        "hue": "very small, no further than two photographs of a lesion differ: blue-white veil and red vessels are "
        "told apart by hue",
        "gamma": "display and sensor curves",
        "noise": "off: 8-bit JPEG sources carry their own",
        "blur_px": "off: the pigment network, lines a few pixels wide, is a criterion (border sharpness bears more)",
        "cutmix": "off: a pasted square cuts the border, and its own edge is an asymmetry that no lesion has",
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
        "quarter_turns": "off: a film on its side shows no patient as he stands",
        "rotate_deg": "small tilts of a patient at the detector",
        "translate": "positioning; more would cut the costophrenic angles, where effusions lie",
        "zoom": "distance and build; more would change the cardiothoracic ratio's visible margins",
        "shear_deg": "off: it changes the heart-to-thorax ratio",
        "brightness": "exposure after the detector's own normalisation",
        "contrast": "window settings between vendors",
        "saturation": "off: a film is grey",
        "hue": "off: a film is grey",
        "gamma": "look-up tables between vendors",
        "noise": "quantum noise at low dose; more would hide interstitial markings",
        "blur_px": "off: a pneumothorax line is one or two pixels wide",
        "cutmix": "off: a pasted square moves heart and lung borders to where no chest has them",
    },
)

CT = Preset(
    name="ct",
    rotate_deg=10.0,
    translate=0.05,
    zoom=0.08,
    brightness=0.02,
    contrast=0.05,
    noise=0.015,
    blur_px=0.5,
    reasons={
        "flip_horizontal": "off unless asked: it moves the liver to the left (situs inversus)",
        "flip_vertical": "off: fluid and air lie where gravity puts them, and the patient lies on the back",
        "quarter_turns": "off: levels of fluid would stand upright",
        "rotate_deg": "how a patient lies on the table",
        "translate": "positioning within the field of view",
        "zoom": "field of view and build; more would change diameters that staging measures",
        "shear_deg": "off: the scanner's geometry is exact, and diameters and angles are measured",
        "brightness": "very small: Hounsfield units are calibrated, and the window was applied before",
        "contrast": "very small, for the same reason: a shift of density is a finding (fat, blood, calcium)",
        "saturation": "off: the pictures are grey",
        "hue": "off: the pictures are grey",
        "gamma": "off: between the window's limits the scale is linear in density",
        "noise": "dose: 6 Hounsfield units in a window 400 wide; more would hide faint lesions",
        "blur_px": "reconstruction kernels from sharp to soft; more would hide small nodules",
        "cutmix": "off: a pasted square ends an organ where none ends",
    },
)

MR = Preset(
    name="mr",
    rotate_deg=10.0,
    translate=0.05,
    zoom=0.08,
    brightness=0.05,
    contrast=0.20,
    gamma=0.20,
    noise=0.02,
    blur_px=0.5,
    reasons={
        "flip_horizontal": "off unless asked: the side of a lesion is part of the finding",
        "flip_vertical": "off: no patient is scanned upside down in the slice",
        "quarter_turns": "off: slices are stored in the directions of the body",
        "rotate_deg": "how the head or limb lies in the coil",
        "translate": "positioning within the field of view",
        "zoom": "field of view and build; more would imitate atrophy or swelling",
        "shear_deg": "off: symmetry of the two halves is a criterion",
        "brightness": "coil and scaling: signal has no absolute unit",
        "contrast": "echo and repetition times differ between protocols and vendors",
        "saturation": "off: the pictures are grey",
        "hue": "off: the pictures are grey",
        "gamma": "as for contrast: the order of tissues stays, their distances differ",
        "noise": "field strength and averages; more would hide faint lesions",
        "blur_px": "slice thickness and small movements",
        "cutmix": "off: a pasted square ends a structure where none ends",
    },
)

FUNDUS = Preset(
    name="fundus",
    flip_horizontal=True,
    rotate_deg=15.0,
    translate=0.05,
    zoom=0.08,
    brightness=0.08,
    contrast=0.15,
    saturation=0.10,
    hue=0.01,
    gamma=0.10,
    noise=0.01,
    reasons={
        "flip_horizontal": "a mirrored right eye is laid out as a left one; switch off where the side is a label",
        "flip_vertical": "off: the macula lies a little below the disc, never above it",
        "quarter_turns": "off: the vessels' arcs run above and below the macula",
        "rotate_deg": "tilt of the head and torsion of the eye",
        "translate": "centring on disc or macula",
        "zoom": "camera angle and length of the eye; more would change the cup-to-disc ratio's visible scale",
        "shear_deg": "off: the shape of disc and cup is measured",
        "brightness": "flash and width of the pupil",
        "contrast": "clear and cloudy lenses",
        "saturation": "small: pallor of the disc is a sign",
        "hue": "very small: haemorrhages are told from pigment, exudates from drusen by their colour",
        "gamma": "display and sensor curves",
        "noise": "sensor noise in dark eyes; more would look like microaneurysms",
        "blur_px": "off: microaneurysms, the first sign of diabetic retinopathy, are a few pixels wide",
        "cutmix": "off: a pasted square can give one eye two discs",
    },
)

HISTOLOGY = Preset(
    name="histology",
    flip_horizontal=True,
    flip_vertical=True,
    quarter_turns=True,
    rotate_deg=180.0,
    translate=0.10,
    zoom=0.10,
    brightness=0.08,
    contrast=0.20,
    saturation=0.25,
    hue=0.04,
    gamma=0.10,
    noise=0.01,
    blur_px=0.7,
    cutmix=True,
    reasons={
        "flip_horizontal": "a section has no up or left, and may lie on the glass either way round",
        "flip_vertical": "as for the horizontal flip",
        "quarter_turns": "any direction of the glass is a real view",
        "rotate_deg": "any angle is a real view; corners are filled by reflection, not black",
        "translate": "tiles are cut from the slide at any place",
        "zoom": "small: the size of nuclei is a criterion, and the magnification is known",
        "shear_deg": "off: the shape of nuclei and glands is a criterion",
        "brightness": "thickness of the section and the scanner's lamp",
        "contrast": "strength of the stain",
        "saturation": "strength and age of the stain",
        "hue": "haematoxylin and eosin differ between laboratories; more would turn one stain into the other",
        "gamma": "display and sensor curves",
        "noise": "sensor noise; more would hide the texture of chromatin",
        "blur_px": "focus of the slide scanner",
        "cutmix": "allowed: tissues lie side by side at straight cuts too; switch off where whole glands are graded",
    },
)

PLAIN = Preset(name="none", reasons={"all": "no transform is known to be safe for this modality; name one that is"})

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (DERMOSCOPY, CHEST, CT, MR, FUNDUS, HISTOLOGY, PLAIN)}
