"""The words of the report in plain language."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("Alarm", "The model says that a class may be there, and a human should look."),
    ("Arm", "One way of training, for instance with more weight on rare classes. All arms see the same patients."),
    (
        "AUROC",
        "The chance that a case with the class gets a higher score than one without. 0.5 is guessing, 1 is perfect.",
    ),
    ("Average precision", "How many alarms are right, averaged over all thresholds. Guessing gives the prevalence."),
    ("Baseline", "The arm in which nothing is done about rarity; the others are compared with it."),
    ("Calibration", "Whether a probability of 20% means that one in five has it."),
    (
        "Calibration intercept and slope",
        "Intercept 0 and slope 1 are right. Intercept above 0: probabilities too low. Slope below 1: too extreme.",
    ),
    (
        "Ceiling",
        "The highest overlap that a unit can reach with a class, given how many pixels each covers. Rare classes have "
        "another ceiling than common ones, so overlaps are compared as parts of it.",
    ),
    (
        "Chance-corrected",
        "What is left after what chance gives: 0 is no better than other patients' regions of the class, 1 is perfect.",
    ),
    (
        "CKA",
        "How alike the features of two networks are: 1 is the same up to rotation and scale, 0 is nothing in common.",
    ),
    ("Conformal set", "The classes that cannot be ruled out, made to hold the true one as often as was asked for."),
    ("Critical class", "A class that must not be missed; the people who set up the study named it."),
    ("Expected cost", "What errors cost on average, in false alarms, at the stated price of each error."),
    ("Expected / observed", "Cases that the probabilities announce, per case there is. Above 1 the model cries wolf."),
    (
        "Holm's correction",
        "Stricter evidence is asked for when many comparisons are made, since some succeed by chance.",
    ),
    (
        "Grad-CAM",
        "A saliency map from one layer: its channels, weighted by how much the score rises with each of them.",
    ),
    (
        "Integrated calibration index (ICI)",
        "How far probabilities lie from the shares that have the class, on average over the cases. 0 is right.",
    ),
    ("Interval (95%)", "A range that would hold the true figure in about 95 of 100 such studies."),
    ("Missed per 100,000", "Cases with the class that stay silent, among 100,000 examined at the stated prevalence."),
    (
        "Negative predictive value (NPV)",
        "Of 100 silences, how many are right. High for every rare class, even without looking.",
    ),
    (
        "Net benefit",
        "Found cases less false alarms, weighed by their price. Going by the model is better than a rule where it lies "
        "above both: alarm for everybody, and for nobody.",
    ),
    (
        "Network dissection",
        "Asking of each unit of a network which class it answers to, by where in the images it is strongest.",
    ),
    (
        "Neural collapse",
        "Features of a class drawing together to one point in training. Rare classes can end up at the same point.",
    ),
    ("Not estimable", "There is nothing to compute the figure from. It is not zero; it is unknown."),
    ("Number needed to read", "How many alarms a human reads for each one that is right: 1 / PPV."),
    ("Operating point", "The thresholds above which the model raises an alarm."),
    ("Precision (PPV)", "Of 100 alarms, how many are right. It falls where the class is rarer."),
    (
        "Price of finding more",
        "How many alarms more must be read for each case found more, against the baseline.",
    ),
    ("Prevalence", "The share of images, or patients, that have the class."),
    (
        "Referral",
        "The model says that it is not sure, and a human decides. What that buys is counted, and so is its price.",
    ),
    (
        "Saliency map",
        "A picture of where in an image the evidence for a score lies. It tells where, not why.",
    ),
    ("Seed", "The starting point of the random choices in training. Another seed gives a slightly different model."),
    ("Sensitivity (recall)", "Of 100 with the class, how many are found."),
    ("Specificity", "Of 100 without the class, how many raise no alarm."),
    (
        "Severity of imbalance",
        "By prevalence: balanced from 20%, mild from 10%, moderate from 2%, severe from 0.5%, extreme below.",
    ),
    ("Test part", "Patients put aside for one final look, after every choice was made."),
    ("Validation part", "Patients on whom choices are made: when to stop, which threshold, which arm."),
    ("Wide", "The interval is too wide, or the patients too few, to conclude anything from the figure."),
)
